//! Changes under load.
use crate::cluster::LONG;
use anyhow::{Result, bail};
use lb_tests::cplb::Cplb;
use lb_tests::load::{Client, Kind, Server};
use lb_tests::topology::{Lab, Node};
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const CONNECTIONS: u64 = 100_000;
const VIP: &str = "192.0.2.100";

/// A node with the proxy, four servers on a node of their own, and a client.
pub(crate) struct Bench<'lab> {
    pub(crate) cplb: Cplb<'lab>,
    pub(crate) servers: Server,
    pub(crate) client: &'lab Node,
}

pub(crate) fn lab() -> Result<Lab> {
    let lab = Lab::builder()
        .node("proxy", &["192.0.2.1/24"])
        .node("back", &["192.0.2.2/24"])
        .node("client", &["192.0.2.3/24"])
        .build()?;
    for node in lab.nodes() {
        // Ports of connections that ended a moment ago are used again: there are more connections than ports.
        node.netns().sysctl("ipv4.tcp_tw_reuse", "1")?;
        node.netns().sysctl("ipv4.ip_local_port_range", "2048 65000")?;
    }
    Ok(lab)
}

pub(crate) fn to() -> SocketAddr {
    SocketAddr::new(IpAddr::from([192, 0, 2, 100]), 6443)
}

/// A native file with these servers; `extra` goes below `proxy`.
///
/// What the load's servers speak is no TLS, so the API port's usual check would find them dead, one after the other, and
/// what each has would rightly be cut.
pub(crate) fn file(ports: &[u16], extra: &str) -> String {
    let mut text = format!(
        "apiVersion: cplb.io/v1alpha1
kind: ControlPlaneLoadBalancer
metadata: {{name: lab}}
spec:
  vrrpInstances:
    - {{virtualIPs: [\"{VIP}/24\"], interface: eth0, version: 3, advertInterval: 100ms, preempt: true}}
  proxy:
    threads: 2
{extra}  virtualServers:
    - ipAddress: {VIP}
      datapath: proxy
      healthCheck: {{type: tcp}}
      realServers:
"
    );
    for port in ports {
        let _ = writeln!(text, "        - {{address: 192.0.2.2, port: {port}}}");
    }
    text
}

impl<'lab> Bench<'lab> {
    pub(crate) fn start(lab: &'lab Lab, text: &str) -> Result<Self> {
        let addresses: Vec<SocketAddr> = (8001..=8004u16)
            .map(|port| SocketAddr::new(IpAddr::from([192, 0, 2, 2]), port))
            .collect();
        let servers = lab.node("back")?.netns().run(|| Server::start(&addresses))??;
        let cplb = Cplb::start(lab.node("proxy")?, text, &[])?;
        let client = lab.node("client")?;
        let bench = Self {
            cplb,
            servers,
            client,
        };
        bench.answers()?;
        Ok(bench)
    }

    /// Waits until the virtual IP takes connections.
    pub(crate) fn answers(&self) -> Result<()> {
        wait::until("the virtual IP answers", LONG, || {
            let asked = self.client.netns().run(|| -> Result<()> {
                let mut client = Client::new(to(), Kind::Ask, 1, 0, 1)?;
                client.ask_once(Duration::from_secs(2))
            });
            asked.ok()?.ok()
        })
    }

    /// Writes another file and waits until it is in force.
    pub(crate) fn reload(&self, text: &str) -> Result<()> {
        let before = self.reloads()?;
        std::fs::write(self.cplb.config(), text)?;
        self.cplb.signal(Signal::SIGHUP)?;
        wait::until("the file is read again", LONG, || {
            self.reloads().ok().filter(|now| *now != before)
        })?;
        Ok(())
    }

    fn reloads(&self) -> Result<String> {
        let status = self.cplb.status()?;
        if let Some(error) = status["reload"]["error"].as_str() {
            bail!("refused: {error}");
        }
        Ok(status["reload"]["atMs"].to_string())
    }
}

#[test]
fn a_hundred_thousand_connections_through_reloads_and_changes_of_servers() -> Result<()> {
    let lab = lab()?;
    let bench = Bench::start(&lab, &file(&[8001, 8002, 8003], ""))?;
    let (done, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        let client = bench.client;
        // Sessions that stay: on servers that stay, too, since these are there before the fourth and the changes.
        let kept = scope.spawn(|| {
            client.netns().run(|| -> Result<u64> {
                let mut kept = Client::new(to(), Kind::Paced(500.0), 200, 64, 64)?;
                let mut answers = 0;
                while !stop.load(Ordering::Relaxed) {
                    let tally = kept.run(Duration::from_millis(500))?;
                    answers += tally.answers;
                    if tally.failed > 0 {
                        bail!("{} of the connections that stay were broken", tally.failed);
                    }
                }
                Ok(answers)
            })?
        });
        let coming = scope.spawn(|| {
            client.netns().run(|| -> Result<()> {
                let mut clients = Client::new(to(), Kind::Connect, 128, 64, 64)?;
                while done.load(Ordering::Relaxed) < CONNECTIONS {
                    let tally = clients.run(Duration::from_millis(200))?;
                    done.fetch_add(tally.answers, Ordering::Relaxed);
                    failed.fetch_add(tally.failed, Ordering::Relaxed);
                }
                Ok(())
            })?
        });
        let at = |share: u64| {
            wait::until("so many connections", LONG * 5, || {
                (done.load(Ordering::Relaxed) >= CONNECTIONS * share / 10).then_some(())
            })
        };
        let changes = || -> Result<()> {
            at(1)?;
            // Nothing that counts.
            bench.reload(&file(&[8001, 8002, 8003], "    connectTimeout: 3s\n"))?;
            at(3)?;
            // One comes.
            bench.reload(&file(&[8001, 8002, 8003, 8004], "    connectTimeout: 3s\n"))?;
            at(5)?;
            // One goes; what it has goes on.
            bench.reload(&file(&[8001, 8002, 8003], "    keepalive: {idle: 20s}\n"))?;
            at(10)
        };
        let changed = changes();
        stop.store(true, Ordering::Relaxed);
        changed?;
        coming
            .join()
            .map_err(|_| anyhow::anyhow!("the client panicked"))??;
        let answers = kept
            .join()
            .map_err(|_| anyhow::anyhow!("the client panicked"))??;
        assert!(answers > 500, "{answers}");
        Ok(())
    })?;
    let (done, failed) = (done.into_inner(), failed.into_inner());
    assert_eq!((done >= CONNECTIONS, failed), (true, 0), "{done} connections");
    let status = bench.cplb.status()?;
    let server = &status["kernel"]["proxy"]["servers"][0];
    assert_eq!(
        (server["unserved"].as_u64(), server["cut"].as_u64()),
        (Some(0), Some(0)),
        "{server}"
    );
    assert!(bench.servers.accepted() >= CONNECTIONS);
    Ok(())
}
