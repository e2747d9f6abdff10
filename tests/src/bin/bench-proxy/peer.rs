//! The proxies, and the backends that they share.
use anyhow::{Context, Result};
use lb_tests::daemon::Daemon;
use lb_tests::topology::Node;
use lb_tests::wait;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// In a process of their own, so that the processors' time is theirs.
#[derive(Debug)]
pub(crate) struct Backends {
    pub(crate) addresses: Vec<SocketAddr>,
    _daemon: Daemon,
}

impl Backends {
    pub(crate) fn start(host: &Node) -> Result<Self> {
        let addresses: Vec<SocketAddr> = (0..3u16)
            .map(|i| SocketAddr::new([192, 0, 2, 1].into(), 8001 + i))
            .collect();
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("--serve")
            .args(addresses.iter().map(ToString::to_string));
        let daemon = Daemon::start(host, "backends", command)?;
        for address in &addresses {
            answers(host, *address)?;
        }
        Ok(Self {
            addresses,
            _daemon: daemon,
        })
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Peer<'h> {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) daemon: Daemon,
    host: &'h Node,
    start: Start,
}

#[derive(Debug, Clone)]
struct Start {
    argv: Vec<String>,
}

impl<'h> Peer<'h> {
    pub(crate) fn cplb(host: &'h Node, backends: &Backends, threads: u16) -> Result<Self> {
        let servers: String = backends
            .addresses
            .iter()
            .map(|a| format!("        - {{address: {}, port: {}}}\n", a.ip(), a.port()))
            .collect();
        let text = format!(
            "apiVersion: cplb.io/v1alpha1\nkind: ControlPlaneLoadBalancer\nspec:\n  vrrpInstances:\n    - \
             {{virtualIPs: [192.0.2.100/24], interface: eth0, version: 3}}\n  proxy: {{threads: {threads}}}\n  \
             virtualServers:\n    - ipAddress: 192.0.2.100\n      datapath: proxy\n      healthCheck: {{type: none}}\n      \
             realServers:\n{servers}"
        );
        let file = host.dir().join("cplb.yaml");
        std::fs::write(&file, text)?;
        let binary = lb_tests::cplb::binary().display().to_string();
        let argv = [&binary, "run", "--config", &file.display().to_string()].map(|a: &str| a.to_owned());
        let address = "192.0.2.100:6443".parse()?;
        Self::launch(host, "cplb", address, Start { argv: argv.into() })
    }

    /// As few words as it can be told with, and nothing that slows it: no log, no checks.
    pub(crate) fn haproxy(host: &'h Node, backends: &Backends, threads: u16, splice: bool) -> Result<Self> {
        let (name, port) = if splice {
            ("haproxy splice", 7003)
        } else {
            ("haproxy", 7002)
        };
        let servers: String = backends
            .addresses
            .iter()
            .enumerate()
            .map(|(i, a)| format!("    server s{i} {a}\n"))
            .collect();
        let option = if splice { "    option splice-auto\n" } else { "" };
        let text = format!(
            "global\n    nbthread {threads}\n    maxconn 9000\n    maxpipes 512\ndefaults\n    mode tcp\n    timeout connect 5s\n    \
             timeout client 1h\n    timeout server 1h\n{option}listen api\n    bind 192.0.2.1:{port}\n    \
             balance roundrobin\n{servers}"
        );
        let file = host.dir().join(format!("{port}.cfg"));
        std::fs::write(&file, text)?;
        let argv = ["haproxy", "-db", "-f"]
            .map(str::to_owned)
            .into_iter()
            .chain([file.display().to_string()]);
        Self::launch(
            host,
            name,
            SocketAddr::new([192, 0, 2, 1].into(), port),
            Start { argv: argv.collect() },
        )
    }

    fn launch(host: &'h Node, name: &'static str, address: SocketAddr, start: Start) -> Result<Self> {
        let (program, args) = start.argv.split_first().context("a command")?;
        let mut command = Command::new(program);
        command.args(args);
        let daemon = Daemon::start(host, name, command)?;
        answers(host, address).with_context(|| daemon.log())?;
        Ok(Self {
            name,
            address,
            daemon,
            host,
            start,
        })
    }

    /// As at its start: what it has piled up does not count.
    pub(crate) fn restart(&mut self) -> Result<()> {
        let fresh = {
            // In order: a daemon that is killed leaves its address for a moment, and that would answer for its successor.
            self.daemon.signal(nix::sys::signal::Signal::SIGTERM)?;
            self.daemon.wait_all(Duration::from_secs(30))?;
            Self::launch(self.host, self.name, self.address, self.start.clone())?
        };
        *self = fresh;
        Ok(())
    }
}

fn answers(host: &Node, address: SocketAddr) -> Result<()> {
    wait::until(&format!("{address} listening"), Duration::from_secs(10), || {
        host.netns()
            .run(|| TcpStream::connect(address).ok())
            .ok()
            .flatten()
            .map(drop)
    })
}
