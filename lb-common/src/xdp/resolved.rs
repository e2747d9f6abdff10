//! What this host knows about its neighbours, read by whoever speaks netlink.
use crate::model::MacAddr;
use crate::plan::Method;
use alloc::collections::BTreeMap;
use core::net::IpAddr;
use core::time::Duration;

/// Everything that differs by host. What is not named is not resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Ways to backends. A tunnel may lead through a gateway, direct routing may not, so the method is part of the key.
    pub backends: BTreeMap<(IpAddr, Method), Reach>,
    /// The interfaces of the virtual IPs.
    pub vips: BTreeMap<IpAddr, Face>,
    /// How long a unit of a flow's stamp is ([`crate::abi::control::stamp_shift`]): about 4 s.
    pub stamp: Duration,
}

impl Default for Resolved {
    /// Nothing resolved, and the stamp's unit at 250 or 1000 jiffies a second.
    fn default() -> Self {
        Self {
            backends: BTreeMap::new(),
            vips: BTreeMap::new(),
            stamp: Duration::from_millis(4096),
        }
    }
}

/// The way to a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// It is this node.
    Local,
    /// Out of an interface, to a MAC address.
    OnLink(Hop),
    /// Not known, or not yet.
    #[default]
    Unresolved,
}

/// The next hop to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Interface to send from.
    pub ifindex: u32,
    /// The backend's MAC address; with a tunnel maybe the gateway's.
    pub mac: MacAddr,
    /// The interface's own.
    pub src_mac: MacAddr,
    /// The longest IP packet that the interface takes.
    pub mtu: u32,
    /// The address that a tunnel's outer header leaves from, of the backend's family; without it a tunnel is not
    /// reachable. Direct routing needs none.
    pub source: Option<IpAddr>,
}

/// The interface of a virtual IP as frames show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face {
    /// Its MAC address.
    pub mac: MacAddr,
    /// The VLAN identifiers of frames for it, as [`crate::abi::Vip::vlan`] has them: outer << 16 | inner, one alone as
    /// the inner; 0: untagged.
    pub vlan: u32,
}
