//! The lab of the demonstration: its nodes, their daemons and servers, and the client's requests.
use anyhow::{Context, Result};
use lb_tests::apiserver::{ApiServer, Authority};
use lb_tests::client::Client;
use lb_tests::cplb;
use lb_tests::daemon::Daemon;
use lb_tests::topology::{Lab, Node};
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::time::Duration;

/// Where the API servers listen.
const PORT: u16 = 6443;
/// A client that comes again is sent to the server it had, so different servers want different clients.
const CLIENTS: u8 = 12;

/// Who answered how often, and what went wrong.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) by_server: BTreeMap<String, usize>,
    pub(crate) errors: Vec<String>,
    /// Answers of a server that saw another address than the client's.
    pub(crate) rewritten: usize,
}

pub(crate) struct Scene {
    // Daemons end before the nodes that they run in.
    daemons: BTreeMap<String, Daemon>,
    _servers: Vec<ApiServer>,
    authority: Authority,
    config: String,
    vip: IpAddr,
    lab: Lab,
}

impl Scene {
    pub(crate) fn new(config: &str) -> Result<Self> {
        let lab = Lab::k0s()?;
        let vip = IpAddr::from([192, 168, 122, 200]);
        let authority = Authority::new()?;
        let client = lab.node("client")?;
        let more: String = (0..CLIENTS)
            .map(|n| format!("address add 192.168.122.{}/24 dev eth0\n", 10 + n))
            .collect();
        client.netns().ip(&more)?;
        let servers = lab
            .controllers()
            .map(|node| ApiServer::start(node, &authority, &[vip], PORT));
        let servers = servers.collect::<Result<Vec<_>>>()?;
        let config = config.to_owned();
        Ok(Self {
            daemons: BTreeMap::new(),
            _servers: servers,
            authority,
            config,
            vip,
            lab,
        })
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(crate) fn vip(&self) -> IpAddr {
        self.vip
    }

    pub(crate) fn client(&self) -> Result<&Node> {
        self.lab.node("client")
    }

    /// The controllers' addresses, for people.
    pub(crate) fn addresses(&self) -> String {
        let named = |node: &Node| Some(format!("{} {}", node.name(), node.ipv4().ok()?));
        self.lab
            .controllers()
            .filter_map(named)
            .collect::<Vec<_>>()
            .join(", ")
    }

    pub(crate) fn start_all(&mut self) -> Result<()> {
        let names: Vec<String> = self
            .lab
            .controllers()
            .map(|node| node.name().to_owned())
            .collect();
        names.iter().try_for_each(|name| self.start(name))
    }

    /// Starts cplb on a controller, with the others as everybody's real servers.
    pub(crate) fn start(&mut self, name: &str) -> Result<()> {
        let node = self.lab.node(name)?;
        let path = node.dir().join("k0s.yaml");
        std::fs::write(&path, &self.config).with_context(|| path.display().to_string())?;
        let mut command = Command::new(cplb::binary());
        command.arg("run").arg("--config").arg(&path);
        for node in self.lab.controllers() {
            command.arg("--backend").arg(node.ipv4()?.to_string());
        }
        let daemon = Daemon::start(node, "cplb", command)?;
        self.daemons.insert(name.to_owned(), daemon);
        Ok(())
    }

    /// Waits until the last daemon of a controller has left, and starts another.
    pub(crate) fn restart(&mut self, name: &str, limit: Duration) -> Result<()> {
        if let Some(daemon) = self.daemons.get_mut(name) {
            daemon.wait_all(limit)?;
        }
        self.start(name)
    }

    pub(crate) fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        self.daemons
            .get(name)
            .with_context(|| format!("nothing runs on {name}"))?
            .signal(signal)
    }

    /// Waits for exactly one holder.
    pub(crate) fn holder(&mut self, limit: Duration) -> Result<String> {
        let found = self
            .lab
            .holder(self.vip, limit)
            .map(|node| node.name().to_owned());
        if found.is_err() {
            self.logs();
        }
        found
    }

    /// Waits until somebody other than `last` has the address as well or instead.
    pub(crate) fn other_holder(&mut self, last: &str, limit: Duration) -> Result<String> {
        let found = wait::until(&format!("a holder other than {last}"), limit, || {
            let holders = self.lab.holders(self.vip);
            holders
                .iter()
                .find(|node| node.name() != last)
                .map(|node| node.name().to_owned())
        });
        if found.is_err() {
            self.logs();
        }
        found
    }

    /// Waits until the node takes packets for the address, whoever holds it.
    pub(crate) fn takes_connections(&self, name: &str, limit: Duration) -> Result<()> {
        let node = self.lab.node(name)?;
        let anywhere = || {
            node.addresses()
                .values()
                .flatten()
                .any(|address| *address == self.vip)
        };
        wait::until(&format!("{} on {name}", self.vip), limit, || {
            anywhere().then_some(())
        })
    }

    /// What `ipvsadm` lists on a node.
    pub(crate) fn virtual_servers(&self, name: &str) -> String {
        let listed = self
            .lab
            .node(name)
            .and_then(|node| node.output(&["ipvsadm", "--list", "--numeric"]));
        listed.unwrap_or_else(|error| format!("{error:#}"))
    }

    /// One request from each of the client's addresses.
    pub(crate) fn requests(&self) -> Result<Requests> {
        let client = Client::new(self.client()?, &self.authority)?;
        let mut requests = Requests::default();
        for n in 0..CLIENTS {
            let source = IpAddr::from([192, 168, 122, 10 + n]);
            match client.get_from(source, SocketAddr::new(self.vip, PORT), "/version") {
                Ok(answer) => {
                    requests.rewritten += usize::from(answer.client.ip() != source);
                    *requests.by_server.entry(answer.node).or_default() += 1;
                }
                Err(error) => requests.errors.push(format!("{source}: {error:#}")),
            }
        }
        if let Some(first) = requests.errors.first() {
            println!(
                "    {} of {CLIENTS} requests failed: {first}",
                requests.errors.len()
            );
        }
        Ok(requests)
    }

    /// The end of every daemon's log, when something is wrong.
    pub(crate) fn logs(&mut self) {
        for (name, daemon) in &mut self.daemons {
            println!(
                "--- cplb on {name}{}",
                if daemon.running() { "" } else { ", which has ended" }
            );
            let log = daemon.log();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            tail.iter().rev().for_each(|line| println!("    {line}"));
        }
    }
}

impl Requests {
    pub(crate) fn well(&self) -> bool {
        self.errors.is_empty() && self.rewritten == 0 && self.by_server.len() > 1
    }

    /// `c1 4, c2 4, c3 4`.
    pub(crate) fn spread(&self) -> String {
        let mut parts: Vec<String> = self
            .by_server
            .iter()
            .map(|(node, n)| format!("{node} {n}"))
            .collect();
        if !self.errors.is_empty() {
            parts.push(format!("failed {}", self.errors.len()));
        }
        if self.rewritten > 0 {
            parts.push(format!("client's address lost {}", self.rewritten));
        }
        parts.join(", ")
    }
}
