//! What is to be true: the validated configuration, in one shape whichever file it was written in.
//!
//! A `Spec` holds no nonsense: the types carry their ranges, and what they cannot carry (a virtual server on no VIP,
//! two instances with one VRID on one interface) is checked by [`crate::config`] before one exists. It is the same on
//! every node; what differs by host (which interface `Auto` is, which real server is this node) is resolved later.
use crate::model::{
    AdvertInterval, AuthPass, Family, Forwarding, IpPrefix, MacAddr, Persistence, Priority, Protocol,
    Scheduler, SchedulerFlags, ServiceKey, Version, Vrid,
};
use alloc::{string::String, vec::Vec};
use core::net::IpAddr;
use core::time::Duration;

pub use crate::health::{HealthCheck, HealthCheckKind};
pub use crate::vrrp::notify::{Hook, Listener};
pub use crate::vrrp::track::{Track, Tracked};

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// The whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Spec {
    /// `metadata.name`.
    pub name: String,
    /// False where a k0s file says `enabled: false`: there is nothing to do.
    pub enabled: bool,
    /// The virtual routers, in the file's order.
    pub instances: Vec<Instance>,
    /// Instances that are Active together or not at all.
    pub sync_groups: Vec<SyncGroup>,
    /// What is balanced, one entry a port. Empty: the VIP alone.
    pub virtual_servers: Vec<VirtualServer>,
    /// The kernel's connection synchronisation, where asked for.
    pub connection_sync: Option<ConnectionSync>,
    /// IPVS's protocol timeouts, where set.
    pub timeouts: Option<IpvsTimeouts>,
    /// The XDP datapath's settings.
    pub xdp: Xdp,
    /// What all virtual servers of the userspace proxy share.
    pub proxy: crate::proxy::Settings,
}

impl Spec {
    /// The instances that take part: none while it is not enabled.
    pub fn active_instances(&self) -> &[Instance] {
        if self.enabled { &self.instances } else { &[] }
    }

    /// Their sync groups.
    pub fn active_sync_groups(&self) -> &[SyncGroup] {
        if self.enabled { &self.sync_groups } else { &[] }
    }

    /// Every VIP of every instance.
    pub fn virtual_ips(&self) -> impl Iterator<Item = IpPrefix> + '_ {
        self.instances.iter().flat_map(|i| i.virtual_ips.iter().copied())
    }
}

/// Which network interface carries an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum InterfaceSelector {
    /// The one whose subnet holds the first VIP, else that of the default route.
    Auto,
    /// By name.
    Name(String),
    /// By MAC address, for hosts that name the same card differently.
    Mac(MacAddr),
}

/// How adverts travel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Transport {
    /// To 224.0.0.18 or ff02::12.
    Multicast,
    /// To each peer.
    Unicast {
        /// The address that adverts leave from; `None`: the interface's first of that family.
        source: Option<IpAddr>,
        /// The other nodes; never empty.
        peers: Vec<IpAddr>,
    },
}

/// Which IPv4 VRRPv3 checksum is sent. Both are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, schemars::JsonSchema),
    serde(rename_all = "camelCase")
)]
pub enum ChecksumForm {
    /// Over a pseudo-header too, as RFC 5798 was read: keepalived's and FRR's default.
    #[default]
    PseudoHeader,
    /// Over the message alone, as RFC 9568 §5.2.8 says.
    MessageOnly,
}

/// Gratuitous ARP and unsolicited NA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Announce {
    /// How many for each VIP at takeover, and again after `delay`.
    pub repeat: u8,
    /// When the second burst follows.
    pub delay: Duration,
    /// Again this often while Active; `None`: never.
    pub refresh: Option<Duration>,
    /// Between two rounds of a burst (a round is one packet for each VIP).
    pub interval: Duration,
}

impl Default for Announce {
    fn default() -> Self {
        Self {
            repeat: 5,
            delay: Duration::from_secs(5),
            refresh: Some(Duration::from_secs(60)),
            interval: Duration::from_millis(50),
        }
    }
}

/// One virtual router.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Instance {
    /// `name`, else `k0s-vip-<index>` as k0s names it.
    pub name: String,
    /// The addresses that move; never empty, all of one family.
    pub virtual_ips: Vec<IpPrefix>,
    /// Which card.
    pub interface: InterfaceSelector,
    /// Which virtual router.
    pub vrid: Vrid,
    /// Which VRRP.
    pub version: Version,
    /// Before tracking's weights.
    pub priority: Priority,
    /// Whether to take over from a living router of lower priority.
    pub preempt: bool,
    /// How long to wait before that.
    pub preempt_delay: Duration,
    /// Between two adverts.
    pub advert_interval: AdvertInterval,
    /// VRRPv2's password. Version 3 has none: there it is in no advert, and only the XDP datapath's hash is made of it.
    pub auth_pass: Option<AuthPass>,
    /// Multicast or unicast.
    pub transport: Transport,
    /// IPv4 VRRPv3 only.
    pub checksum: ChecksumForm,
    /// Takeover announcements.
    pub announce: Announce,
    /// What else decides its priority, or whether it takes part.
    pub track: Vec<Track>,
    /// Who is told of its changes of state.
    pub notify: Vec<Hook>,
    /// RFC 6724 label of IPv6 VIPs (k0s's `addressLabel`).
    pub address_label: u32,
}

impl Instance {
    /// The family of its VIPs.
    pub fn family(&self) -> Family {
        self.virtual_ips.first().map_or(Family::Ipv4, |p| p.family())
    }
}

/// All of its members are Active on one node, or none is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct SyncGroup {
    /// Its name.
    pub name: String,
    /// Indices into [`Spec::instances`]; at least two, each in one group only.
    pub members: Vec<usize>,
}

/// Which datapath carries a virtual server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, schemars::JsonSchema),
    serde(rename_all = "lowercase")
)]
pub enum DatapathKind {
    /// The best that this kernel has.
    #[default]
    Auto,
    /// The kernel's virtual server.
    Ipvs,
    /// Our XDP program.
    Xdp,
    /// The userspace proxy.
    Proxy,
}

/// One virtual IP and port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct VirtualServer {
    /// `name`, else the key's text.
    pub name: String,
    /// Address, port and protocol.
    pub key: ServiceKey,
    /// Index of the instance that carries the address.
    pub instance: usize,
    /// Who carries it.
    pub datapath: DatapathKind,
    /// Who gets the next connection.
    pub scheduler: Scheduler,
    /// The scheduler's flags.
    pub flags: SchedulerFlags,
    /// How it gets there.
    pub forwarding: Forwarding,
    /// Whether a client stays.
    pub persistence: Option<Persistence>,
    /// How the real servers are checked.
    pub health_check: HealthCheck,
    /// How long a real server that came back takes to its whole share; zero: none.
    pub slow_start: Duration,
    /// Healthy weight that it needs; `None`: any server that answers will do, and 1 brings the sorry server.
    pub quorum: Option<u32>,
    /// The quorum is lost so much below, and regained so much above.
    pub hysteresis: u32,
    /// Who serves while the quorum is lost; it is not checked.
    pub sorry_server: Option<RealServer>,
    /// The PROXY protocol, in and out; the userspace proxy's.
    pub proxy_protocol: ProxyProtocol,
    /// Who serves it, sorted by address and port.
    pub real_servers: Vec<RealServer>,
}

impl VirtualServer {
    /// The virtual IP that a real server's node is asked for besides: with direct routing it has to take packets for it,
    /// and a node may do so for one virtual IP and not yet for another.
    pub fn direct_address(&self) -> Option<IpAddr> {
        let direct = self.forwarding == Forwarding::DirectRouting && self.key.protocol == Protocol::Tcp;
        (direct && self.key.port != 0).then_some(self.key.address)
    }
}

/// The PROXY protocol of a virtual server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct ProxyProtocol {
    /// The header that real servers are sent before a connection's first byte.
    pub send: Option<crate::wire::proxy::Version>,
    /// Networks of other proxies: a connection from there begins with a header, and without one it is refused.
    pub accept_from: Vec<IpPrefix>,
}

/// One server behind a virtual server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct RealServer {
    /// Its own address.
    pub address: IpAddr,
    /// Its port; the virtual server's with direct routing and tunnels.
    pub port: u16,
    /// Its share; 0 takes no new connections.
    pub weight: u32,
    /// No new connections above so many (0: no limit).
    pub upper_threshold: u32,
    /// Again below so many (0: three quarters of the upper one).
    pub lower_threshold: u32,
    /// Where it is checked, if not at its own address (HAProxy's `addr`, keepalived's `connect_ip`).
    pub check_address: Option<IpAddr>,
    /// The port that is checked, if neither its own nor the health check's.
    pub check_port: Option<u16>,
}

impl RealServer {
    /// With the weight 1 and no limits.
    pub const fn new(address: IpAddr, port: u16) -> Self {
        Self {
            address,
            port,
            weight: 1,
            upper_threshold: 0,
            lower_threshold: 0,
            check_address: None,
            check_port: None,
        }
    }
}

/// The kernel's connection synchronisation (`ipvsadm --start-daemon`), one role at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct ConnectionSync {
    /// The interface for its multicast; `None`: the first instance's.
    pub interface: Option<String>,
    /// 0-255; the daemons of one group share it.
    pub sync_id: u8,
    /// The instance whose holder sends.
    pub instance: usize,
}

/// IPVS's timeouts in whole seconds (`ipvsadm --set`); 0 leaves the kernel's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct IpvsTimeouts {
    /// Established TCP.
    pub tcp: u32,
    /// TCP after FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

/// What the XDP datapath is told besides its virtual servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Xdp {
    /// The secret that all nodes share; `None`: made of what their files share anyway ([`crate::xdp::seed`]).
    pub hash_seed: Option<HashSeed>,
    /// How the program is attached.
    pub attach: XdpAttach,
}

/// How, and beside whom, the XDP program is attached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct XdpAttach {
    /// In the driver or above it.
    pub mode: XdpMode,
    /// Path of a pinned program that sees what ours passes.
    pub next: Option<String>,
    /// Somebody else's pinned program array that ours is put into, instead of being attached.
    pub root_array: Option<RootArray>,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, schemars::JsonSchema),
    serde(rename_all = "lowercase")
)]
pub enum XdpMode {
    /// In the driver where it can, else above it.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// Above the driver, on packets that the kernel has received already: slower, with every driver.
    Generic,
}

/// A place in a program array that another XDP program calls into.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct RootArray {
    /// Where it is pinned.
    pub path: String,
    /// Which of its entries.
    pub index: u32,
}

/// A text that keeps outsiders from computing the hash.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(try_from = "String", into = "String")
)]
pub struct HashSeed(String);

/// A seed of fewer than [`HashSeed::SHORTEST`] characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a seed of at least {} characters is needed", HashSeed::SHORTEST)]
pub struct SeedTooShort;

impl HashSeed {
    /// Fewer characters are too easily found by trying.
    pub const SHORTEST: usize = 16;

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HashSeed {
    type Error = SeedTooShort;
    fn try_from(text: String) -> Result<Self, SeedTooShort> {
        if text.chars().count() < Self::SHORTEST {
            return Err(SeedTooShort);
        }
        Ok(Self(text))
    }
}

impl From<HashSeed> for String {
    fn from(seed: HashSeed) -> Self {
        seed.0
    }
}

impl core::fmt::Debug for HashSeed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashSeed(…)")
    }
}
