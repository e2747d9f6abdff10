//! What the XDP program is to forward on this node, in the words of the specification: numbers, MAC addresses and tables
//! are [`crate::xdp`]'s.
use crate::abi::hash::Key;
use crate::model::{Persistence, ServiceKey};
use crate::spec::XdpAttach;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

/// Everything that the program has to know about the file and the election.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Forwarding {
    /// How, and beside whom, the program is attached.
    pub attach: XdpAttach,
    /// Interfaces (by index) of every instance that has virtual servers here. The program is on a backup's too, so that
    /// a takeover waits for no attachment.
    pub interfaces: BTreeSet<u32>,
    /// Virtual IPs that this node holds, each with the interface that it is on.
    pub vips: BTreeMap<IpAddr, u32>,
    /// Virtual servers on them.
    #[cfg_attr(feature = "serde", serde(serialize_with = "list"))]
    pub services: BTreeMap<ServiceKey, Forwarder>,
    /// The hash's, the same on every node. A secret: neither printed nor serialized.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub key: Key,
}

/// Each has its key inside, and JSON's maps have texts for keys only.
#[cfg(feature = "serde")]
fn list<S: serde::Serializer>(services: &BTreeMap<ServiceKey, Forwarder>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(services.values())
}

impl Forwarding {
    /// This, and what of `old` is not in it yet or no longer: everything that either forwards.
    #[must_use]
    pub fn besides(&self, old: &Self) -> Self {
        let mut both = self.clone();
        both.interfaces.extend(&old.interfaces);
        for (vip, interface) in &old.vips {
            both.vips.entry(*vip).or_insert(*interface);
        }
        for (key, service) in &old.services {
            both.services.entry(*key).or_insert_with(|| service.clone());
        }
        both
    }
}

impl fmt::Debug for Forwarding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarding")
            .field("attach", &self.attach)
            .field("interfaces", &self.interfaces)
            .field("vips", &self.vips)
            .field("services", &self.services)
            .finish_non_exhaustive()
    }
}

/// A virtual server of the XDP datapath.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Forwarder {
    /// Address, port, protocol.
    pub key: ServiceKey,
    /// How packets get to its backends.
    pub method: Method,
    /// Whether a client keeps its backend.
    pub affinity: Option<Persistence>,
    /// Sorted by address.
    pub backends: Vec<Backend>,
}

/// How the program gets a packet to a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub enum Method {
    /// `DR`: with another MAC address, on its own network.
    Direct,
    /// `TUN` with `ipip`: IP in IP (RFC 2003), IPv4 or IPv6 in either.
    Tunnel,
}

impl Method {
    /// `DR` or `TUN`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Direct => "DR",
            Self::Tunnel => "TUN",
        }
    }
}

/// Who serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "camelCase"))]
pub struct Backend {
    /// Its own address.
    pub address: IpAddr,
    /// Its share; 0: it keeps the flows that it has and gets no new ones.
    pub weight: u32,
    /// Whether packets may go there at all.
    pub up: bool,
}
