//! [`Lab`]: nodes on one switch, with cables that can be cut.
//!
//! ```text
//!   c1 [eth0]---c1.eth0 \
//!   c2 [eth0]---c2.eth0  } switch [br0]
//!   client [eth0]---... /
//! ```
//! The switch is a bridge in a namespace of its own, so that cutting a cable touches nothing of the node but its
//! carrier, and a capture on the switch sees every frame of the lab.
use crate::netns::Netns;
use crate::veth;
use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// What is being built; see [`Lab::builder`].
#[derive(Debug, Default)]
pub struct Builder {
    nodes: Vec<(String, Vec<Nic>)>,
    native_xdp: bool,
}

#[derive(Debug, Clone)]
struct Nic {
    name: String,
    addresses: Vec<String>,
    bridge: String,
}

/// How a cable is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The link goes down at both ends: the node notices.
    Carrier,
    /// The switch drops everything of this port and the link stays up: the node does not notice.
    Silent,
}

/// A machine of the lab.
#[derive(Debug)]
pub struct Node {
    name: String,
    netns: Netns,
    nics: Vec<Nic>,
    dir: PathBuf,
}

/// Nodes on a switch. Dropping it takes everything down.
#[derive(Debug)]
pub struct Lab {
    // Fields drop in this order: nodes, then the switch, then the files.
    nodes: Vec<Node>,
    _programs: Vec<veth::Attached>,
    switch: Netns,
    dir: TempDir,
}

impl Builder {
    /// A node with `eth0` and these addresses (`192.168.122.37/24`, `fd00::37/64`).
    pub fn node(mut self, name: &str, addresses: &[&str]) -> Self {
        self.nodes.push((name.to_owned(), Vec::new()));
        self.nic("eth0", addresses)
    }

    /// One more interface for the node that was named last.
    pub fn nic(mut self, name: &str, addresses: &[&str]) -> Self {
        let addresses = addresses.iter().map(|&a| a.to_owned()).collect();
        if let Some((_, nics)) = self.nodes.last_mut() {
            nics.push(Nic {
                name: name.to_owned(),
                addresses,
                bridge: "br0".to_owned(),
            });
        }
        self
    }

    /// The interface that was named last is on another bridge of the switch, which leads nowhere else.
    pub fn on(mut self, bridge: &str) -> Self {
        if let Some(nic) = self.nodes.last_mut().and_then(|(_, nics)| nics.last_mut()) {
            nic.bridge = bridge.to_owned();
        }
        self
    }

    /// XDP programs on the nodes run natively and may send frames: see [`veth`].
    pub fn native_xdp(mut self) -> Self {
        self.native_xdp = true;
        self
    }

    /// Makes it.
    pub fn build(self) -> Result<Lab> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new()
            .prefix("cplb-t-")
            .tempdir()
            .context("a directory for the lab")?;
        let switch = Netns::new(&format!("{number}-switch"))?;
        let mut nodes = Vec::new();
        let mut wires = String::new();
        let nics = self.nodes.iter().flat_map(|(_, nics)| nics);
        for bridge in nics.map(|nic| &nic.bridge).collect::<BTreeSet<_>>() {
            let how = "stp_state 0 mcast_snooping 0 forward_delay 0";
            writeln!(wires, "link add {bridge} type bridge {how}\nlink set {bridge} up")?;
        }
        switch.sysctl("ipv6.conf.default.disable_ipv6", "1")?;
        for (name, nics) in self.nodes {
            let netns = Netns::new(&format!("{number}-{name}"))?;
            // Addresses of the lab are known to be free, and waiting for the proof would cost each test a second.
            netns.sysctl("ipv6.conf.default.accept_dad", "0")?;
            netns.sysctl("ipv6.conf.default.accept_ra", "0")?;
            for nic in &nics {
                let (port, ns) = (port(&name, nic), netns.name());
                writeln!(
                    wires,
                    "link add {port} type veth peer name {} netns {ns}",
                    nic.name
                )?;
                writeln!(wires, "link set {port} master {} up", nic.bridge)?;
            }
            let files = dir.path().join(&name);
            std::fs::create_dir(&files)?;
            nodes.push(Node {
                name,
                netns,
                nics,
                dir: files,
            });
        }
        switch.ip(&wires)?;
        for node in &nodes {
            node.bring_up()?;
        }
        let mut programs = Vec::new();
        if self.native_xdp {
            for (node, nic) in nodes.iter().flat_map(|n| n.nics.iter().map(move |nic| (n, nic))) {
                veth::checksum_at_once(&node.netns, &nic.name)?;
                programs.push(veth::attach(&switch, &port(&node.name, nic), veth::PASS)?);
            }
        }
        Ok(Lab {
            nodes,
            _programs: programs,
            switch,
            dir,
        })
    }
}

impl Lab {
    /// Starts building one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The three controllers of `examples/k0s.yaml`, `c1` to `c3`, and a `client`, on IPv4 and IPv6.
    pub fn k0s() -> Result<Self> {
        Self::k0s_builder().build()
    }

    /// The same, to be built with a difference.
    pub fn k0s_builder() -> Builder {
        Self::builder()
            .node("c1", &["192.168.122.37/24", "fd00:122::37/64"])
            .node("c2", &["192.168.122.185/24", "fd00:122::185/64"])
            .node("c3", &["192.168.122.87/24", "fd00:122::87/64"])
            .node("client", &["192.168.122.9/24", "fd00:122::9/64"])
    }

    /// The node of that name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .with_context(|| format!("the lab has no node {name}"))
    }

    /// All of them, in the order they were named.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Those that are not named `client*`.
    pub fn controllers(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.name.starts_with("client"))
    }

    /// Where frames between nodes pass.
    pub fn switch(&self) -> &Netns {
        &self.switch
    }

    /// For files of a test; goes with the lab.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The controllers that have this address on any interface but `dummyvip0` and `lo`.
    pub fn holders(&self, vip: IpAddr) -> Vec<&Node> {
        self.controllers().filter(|node| node.holds(vip)).collect()
    }

    /// Waits until exactly one controller has the address, and says which.
    pub fn holder(&self, vip: IpAddr, limit: Duration) -> Result<&Node> {
        let found = crate::wait::until(&format!("exactly one holder of {vip}"), limit, || {
            let holders = self.holders(vip);
            if let [one] = holders[..] { Some(one) } else { None }
        });
        found.with_context(|| format!("holders now: {:?}", names(&self.holders(vip))))
    }

    /// Cuts `eth0` of a node.
    pub fn cut(&self, node: &str, how: Cut) -> Result<()> {
        self.switch.ip(&match how {
            Cut::Carrier => format!("link set {node}.eth0 down\n"),
            Cut::Silent => format!("link set {node}.eth0 nomaster\n"),
        })
    }

    /// Mends `eth0` of a node, however it was cut.
    pub fn mend(&self, node: &str) -> Result<()> {
        let first = self.node(node)?.nics.first();
        let bridge = first.map_or("br0", |nic| &nic.bridge);
        self.switch
            .ip(&format!("link set {node}.eth0 master {bridge} up\n"))
    }

    /// Loses, delays or repeats frames towards a node: `netem` options such as `loss 10%`; none to stop.
    pub fn disturb(&self, node: &str, netem: &str) -> Result<()> {
        let device = format!("{node}.eth0");
        let mut argv = vec![
            "tc",
            "qdisc",
            if netem.is_empty() { "del" } else { "replace" },
            "dev",
            &device,
            "root",
        ];
        if !netem.is_empty() {
            argv.push("netem");
            argv.extend(netem.split_whitespace());
        }
        self.switch.output(&argv).map(drop)
    }
}

/// The end of a node's cable at the switch.
fn port(node: &str, nic: &Nic) -> String {
    format!("{node}.{}", nic.name)
}

/// The nodes' names, for messages.
pub fn names(nodes: &[&Node]) -> Vec<String> {
    nodes.iter().map(|node| node.name.clone()).collect()
}

impl Node {
    /// Its name in the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its sockets and programs live.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// For its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The address of `eth0` in this family that it was built with.
    pub fn address(&self, ipv6: bool) -> Result<IpAddr> {
        let all = self.nics.iter().flat_map(|nic| &nic.addresses);
        let parsed = all.filter_map(|text| text.split('/').next()?.parse::<IpAddr>().ok());
        let mut fitting = parsed.filter(|address| address.is_ipv6() == ipv6);
        fitting
            .next()
            .with_context(|| format!("{} has no such address", self.name))
    }

    /// Its IPv4 address.
    pub fn ipv4(&self) -> Result<IpAddr> {
        self.address(false)
    }

    /// Every address by interface, as the kernel has them now.
    pub fn addresses(&self) -> BTreeMap<String, Vec<IpAddr>> {
        let mut found: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        let Ok(Ok(list)) = self.netns.run(|| getifaddrs().map(Vec::from_iter)) else {
            return found;
        };
        for entry in list {
            let Some(address) = entry.address else { continue };
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            if let Some(ip) = v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()))) {
                found.entry(entry.interface_name).or_default().push(ip);
            }
        }
        found
    }

    /// Whether the address is on the wire side of this node: `dummyvip0` and `lo` are not.
    pub fn holds(&self, address: IpAddr) -> bool {
        let inner = |interface: &str| interface == "lo" || interface.starts_with("dummyvip");
        self.addresses()
            .iter()
            .any(|(interface, list)| !inner(interface) && list.contains(&address))
    }

    /// Runs a program in the node and gives its output.
    pub fn output(&self, argv: &[&str]) -> Result<String> {
        self.netns.output(argv)
    }

    fn bring_up(&self) -> Result<()> {
        let mut lines = String::new();
        for nic in &self.nics {
            writeln!(lines, "link set {} up", nic.name)?;
            for address in &nic.addresses {
                writeln!(lines, "address add {address} dev {}", nic.name)?;
            }
        }
        self.netns.ip(&lines)
    }
}
