//! Three controllers with a server and a daemon each, a client with many addresses, and the file that they share.
use anyhow::{Context, Result, ensure};
use lb_tests::apiserver::Authority;
use lb_tests::cplb::Cplb;
use lb_tests::crowd::server::{self, Service};
use lb_tests::crowd::{self, Crowd, Plan, Reach};
use lb_tests::daemon::Daemon;
use lb_tests::ready::Ready;
use lb_tests::topology::{Cut, Lab, Node};
use lb_tests::{standing, wait};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// A limit only ends what would never end.
pub(crate) const LONG: Duration = Duration::from_secs(60);
/// Where servers speak TLS.
pub(crate) const TLS: u16 = 6443;
/// Where they do not, and answer UDP.
pub(crate) const PLAIN: u16 = 7000;
/// The controllers, the one that holds first.
pub(crate) const CONTROLLERS: [&str; 3] = ["c1", "c2", "c3"];

/// The virtual IP of one family.
pub(crate) fn vip(ipv6: bool) -> IpAddr {
    if ipv6 {
        IpAddr::from([0xfd00, 0x122, 0, 0, 0, 0, 0, 0x200])
    } else {
        IpAddr::from([192, 168, 122, 200])
    }
}

/// Both.
pub(crate) fn vips() -> [IpAddr; 2] {
    [vip(false), vip(true)]
}

/// A port of both.
pub(crate) fn services(port: u16) -> Vec<SocketAddr> {
    vips().map(|vip| SocketAddr::new(vip, port)).to_vec()
}

/// The client's addresses in one family.
pub(crate) fn sources(ipv6: bool) -> Vec<IpAddr> {
    let first = if ipv6 {
        IpAddr::from([0xfd00, 0x122, 0, 0, 0, 0, 0, 0x100])
    } else {
        IpAddr::from([192, 168, 122, 100])
    };
    crowd::addresses(first, 12)
}

/// Leaves a test where the lab cannot have what it is about.
macro_rules! needs_xdp {
    () => {
        if let Err(why) = crate::cluster::native_xdp() {
            lb_tests::skip!("no native XDP on veth here: {why:#}");
        }
    };
}
pub(crate) use needs_xdp;

/// Whether programs run natively on veth.
pub(crate) fn native_xdp() -> Result<()> {
    Lab::builder()
        .node("a", &["10.0.0.1/24"])
        .native_xdp()
        .build()
        .map(drop)
}

/// The network of the examples, with all of the client's addresses.
pub(crate) fn lab() -> Result<Lab> {
    let mut own = Vec::new();
    for ipv6 in [false, true] {
        let bits = if ipv6 { 64 } else { 24 };
        own.extend(sources(ipv6).iter().map(|a| format!("{a}/{bits}")));
    }
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let lab = Lab::builder()
        .node("c1", &["192.168.122.37/24", "fd00:122::37/64"])
        .node("c2", &["192.168.122.185/24", "fd00:122::185/64"])
        .node("c3", &["192.168.122.87/24", "fd00:122::87/64"])
        .node("client", &own)
        .native_xdp()
        .build()?;
    for node in lab.nodes() {
        node.wait_for_addresses(LONG)?;
    }
    Ok(lab)
}

/// What the controllers' files have in common.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// By controller.
    pub(crate) weights: [u16; 3],
    /// Of every virtual server.
    pub(crate) persistence: u32,
    /// `ports` of the TCP virtual servers.
    pub(crate) ports: String,
}

impl Default for File {
    fn default() -> Self {
        Self {
            weights: [1; 3],
            persistence: 0,
            ports: format!("[{TLS}, {PLAIN}]"),
        }
    }
}

impl File {
    /// The file of one controller: `c1` is preferred to `c2` and that to `c3`, for both virtual IPs together.
    fn render(&self, lab: &Lab, node: &Node) -> Result<String> {
        let place = CONTROLLERS
            .iter()
            .position(|name| *name == node.name())
            .unwrap_or(0);
        let priority = [200, 150, 100][place];
        let mut text = instances(priority)?;
        text += "  virtualServers:\n";
        for ipv6 in [false, true] {
            let mut servers = String::new();
            for (name, weight) in CONTROLLERS.iter().zip(self.weights) {
                let address = lab.node(name)?.address(ipv6)?;
                write!(servers, "{{address: \"{address}\", weight: {weight}}}, ")?;
            }
            let common = format!(
                "datapath: xdp, ipAddress: \"{}\", persistenceTimeoutSeconds: {}, realServers: [{servers}]",
                vip(ipv6),
                self.persistence
            );
            writeln!(text, "    - {{{common}, ports: {}}}", self.ports)?;
            writeln!(
                text,
                "    - {{{common}, ports: [{PLAIN}], protocol: UDP, healthCheck: {{type: none}}}}"
            )?;
        }
        Ok(text)
    }
}

/// The top of a file: an instance for each virtual IP, that move together.
pub(crate) fn instances(priority: u8) -> Result<String> {
    let mut text =
        "apiVersion: cplb.io/v1alpha1\nkind: ControlPlaneLoadBalancer\nmetadata: {name: lab}\nspec:\n  \
                    vrrpInstances:\n"
            .to_owned();
    for (name, address) in [
        ("four", format!("{}/24", vip(false))),
        ("six", format!("{}/64", vip(true))),
    ] {
        writeln!(
            text,
            "    - {{name: {name}, interface: eth0, virtualIPs: [\"{address}\"], version: 3, \
             advertInterval: 300ms, priority: {priority}}}"
        )?;
    }
    text += "  syncGroups: [{name: both, instances: [four, six]}]\n";
    Ok(text)
}

/// The controllers of a lab with all that runs on them.
pub(crate) struct Cluster<'lab> {
    /// Where it is.
    pub(crate) lab: &'lab Lab,
    /// What they share now.
    pub(crate) file: File,
    authority: Authority,
    servers: BTreeMap<String, Daemon>,
    daemons: BTreeMap<String, Cplb<'lab>>,
}

impl<'lab> Cluster<'lab> {
    /// Servers first, then the daemons; waits until `c1` holds and all three are used.
    pub(crate) fn start(lab: &'lab Lab, file: File) -> Result<Self> {
        let mut cluster = Self {
            lab,
            file,
            authority: Authority::new()?,
            servers: BTreeMap::new(),
            daemons: BTreeMap::new(),
        };
        for name in CONTROLLERS {
            cluster.serve(name)?;
        }
        for name in CONTROLLERS {
            cluster.run(name)?;
        }
        for daemon in cluster.daemons.values() {
            standing::wait(daemon, "a first check of every server", LONG, |s| {
                !s.healthy().is_empty()
            })?;
        }
        cluster.healthy(&CONTROLLERS)?;
        cluster.settled("c1", &CONTROLLERS)?;
        Ok(cluster)
    }

    /// Starts a controller's server.
    pub(crate) fn serve(&mut self, name: &str) -> Result<()> {
        let service = Service {
            ports: &[PLAIN],
            tls: Some((&[TLS], &self.authority)),
            vips: &vips(),
            grace: None,
        };
        let server = server::start(self.lab.node(name)?, service)?;
        self.servers.insert(name.to_owned(), server);
        Ok(())
    }

    /// Kills a controller's server; its kernel tells the clients.
    pub(crate) fn stop_serving(&mut self, name: &str) {
        self.servers.remove(name);
    }

    /// Starts a controller's daemon.
    pub(crate) fn run(&mut self, name: &str) -> Result<()> {
        let node = self.lab.node(name)?;
        let daemon = Cplb::start(node, &self.file.render(self.lab, node)?, &[])?;
        self.daemons.insert(name.to_owned(), daemon);
        Ok(())
    }

    /// A controller's daemon.
    pub(crate) fn daemon(&mut self, name: &str) -> Result<&mut Cplb<'lab>> {
        self.daemons
            .get_mut(name)
            .with_context(|| format!("no daemon on {name}"))
    }

    /// Sends a signal to a daemon alone and waits until nothing of it runs.
    pub(crate) fn end(&mut self, name: &str, signal: Signal) -> Result<()> {
        let daemon = self.daemon(name)?;
        daemon.signal(signal)?;
        daemon.wait_all(LONG).with_context(|| daemon.log())
    }

    /// The node's power goes: nothing that runs on it is told, and nothing of it is heard any more.
    pub(crate) fn die(&mut self, name: &str) -> Result<()> {
        self.lab.cut(name, Cut::Silent)?;
        self.daemon(name)?.signal_all(Signal::SIGKILL)?;
        self.stop_serving(name);
        Ok(())
    }

    /// Writes everybody's file anew and has it read.
    pub(crate) fn reload(&mut self, file: File) -> Result<()> {
        self.file = file;
        for (name, daemon) in &self.daemons {
            let text = self.file.render(self.lab, self.lab.node(name)?)?;
            std::fs::write(daemon.config(), text)?;
            daemon.signal(Signal::SIGHUP)?;
        }
        Ok(())
    }

    /// The client's node.
    pub(crate) fn client(&self) -> Result<&'lab Node> {
        self.lab.node("client")
    }

    /// From all of the client's addresses to this port of both virtual IPs.
    pub(crate) fn reach(&self, port: u16) -> Result<Reach> {
        let tls = (port == TLS)
            .then(|| self.authority.client_config())
            .transpose()?;
        Ok(Reach {
            sources: [sources(false), sources(true)].concat(),
            to: services(port),
            tls: tls.map(Arc::new),
        })
    }

    /// So many connections, kept.
    pub(crate) fn crowd(&self, port: u16, connections: usize, interval: Duration) -> Result<Crowd> {
        let plan = Plan {
            connections,
            interval,
            patience: Duration::from_secs(90),
        };
        let crowd = Crowd::start(self.client()?, &self.reach(port)?, plan)?;
        crowd.established(LONG).with_context(|| self.tables())?;
        Ok(crowd)
    }

    /// So many new connections, one answer each: how many each server got.
    pub(crate) fn spread(&self, port: u16, connections: usize) -> Result<BTreeMap<String, usize>> {
        let plan = Plan {
            connections,
            interval: LONG,
            patience: Duration::from_secs(5),
        };
        let crowd = Crowd::start(self.client()?, &self.reach(port)?, plan)?;
        crowd.established(LONG)?;
        Ok(crowd.servers())
    }

    /// Waits until every daemon that runs finds the servers of these controllers well, and no others.
    pub(crate) fn healthy(&self, servers: &[&str]) -> Result<()> {
        let mut wanted = BTreeSet::new();
        for name in servers {
            let node = self.lab.node(name)?;
            wanted.extend([node.address(false)?, node.address(true)?]);
        }
        standing::wait_healthy(self.lab.controllers(), &wanted, LONG).with_context(|| self.tables())
    }

    /// Waits until `holder` alone holds both virtual IPs.
    pub(crate) fn held_by(&self, holder: &str) -> Result<&'lab Node> {
        let alone = |vip| matches!(self.lab.holders(vip)[..], [one] if one.name() == holder);
        let held = wait::until(&format!("both virtual IPs on {holder} alone"), LONG, || {
            vips().into_iter().all(alone).then_some(())
        });
        held.with_context(|| self.tables())?;
        self.lab.node(holder)
    }

    /// Waits until `holder` holds, and new connections of both families reach these servers and no other.
    pub(crate) fn settled(&self, holder: &str, servers: &[&str]) -> Result<&'lab Node> {
        let node = self.held_by(holder)?;
        let mut last = None;
        let settled = wait::until(&format!("new connections reach {servers:?}"), LONG, || {
            let spread = self.spread(PLAIN, 60);
            let fits = matches!(&spread, Ok(s) if s.keys().map(String::as_str).eq(servers.iter().copied()));
            last = Some(spread);
            if !fits {
                thread::sleep(Duration::from_millis(200));
            }
            fits.then_some(())
        });
        settled.with_context(|| format!("at last {last:?}\n{}", self.tables()))?;
        Ok(node)
    }

    /// What every controller has, for messages.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        for name in CONTROLLERS {
            let node = self.lab.node(name).map(Node::addresses);
            let _ = writeln!(text, "{name}: {node:?}");
            let log = self.daemons.get(name).map(|d| d.log()).unwrap_or_default();
            let last: Vec<&str> = log.lines().rev().take(15).collect();
            text.extend(last.iter().rev().map(|line| format!("    {line}\n")));
        }
        text
    }
}

/// Checks that nobody but those served by `dead` broke, and gives how many did.
pub(crate) fn only_those_of(crowd: &Crowd, dead: &str) -> Result<usize> {
    let broken = crowd.broken();
    let others: Vec<_> = broken
        .iter()
        .filter(|m| m.node.as_deref() != Some(dead))
        .collect();
    ensure!(
        others.is_empty(),
        "{} whose server lives broke: {:?}",
        others.len(),
        others.first()
    );
    Ok(broken.len())
}
