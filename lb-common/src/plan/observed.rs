//! What was read back from the kernel, of ours only.
use super::{Address, Destination, Forwarding, GuardSpec, Service, SyncDaemon, Sysctl};
use crate::model::ServiceKey;
use crate::spec::IpvsTimeouts;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::Ipv6Addr;

/// The link for direct routing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalLink {
    /// Not there.
    #[default]
    Absent,
    /// There and down.
    Down,
    /// There and up.
    Up,
    /// The kernel has no dummy device: `lo` carries the addresses, and is never created or deleted.
    Loopback,
}

/// What the kernel says of one of our addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObservedAddress {
    /// Whether the kernel will drop it by itself.
    pub leased: bool,
}

/// Everything of ours that the kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The link for direct routing.
    pub local_link: LocalLink,
    /// Addresses with our mark.
    pub addresses: BTreeMap<Address, ObservedAddress>,
    /// Virtual servers that the specification or our journal names; nobody else's.
    pub services: BTreeMap<ServiceKey, (Service, Vec<Destination>)>,
    /// Values of the parameters that the desired state names.
    pub sysctls: BTreeMap<Sysctl, i32>,
    /// Parameters that we changed earlier.
    pub changed_sysctls: BTreeSet<Sysctl>,
    /// Labels that we set earlier.
    pub labels: BTreeMap<Ipv6Addr, u32>,
    /// Synchronisation daemons; the kernel runs at most one of each role.
    pub sync: Vec<SyncDaemon>,
    /// IPVS's timeouts, when they could be read.
    pub timeouts: Option<IpvsTimeouts>,
    /// What the XDP program of this process was last told, while it is attached.
    pub forwarding: Option<Forwarding>,
    /// What the userspace proxy serves; `None` where it does not run and nothing of it is left.
    pub proxy: Option<super::Proxying>,
    /// The guard, when it is there.
    pub guard: Option<GuardSpec>,
}
