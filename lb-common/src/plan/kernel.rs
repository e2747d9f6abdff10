//! What the kernel holds for us, in the shape that it can be read back in. Configuration only: statistics are elsewhere,
//! so that two values are equal exactly when nothing has to be done.
use crate::model::{Forwarding, IpPrefix, Persistence, Scheduler, SchedulerFlags, ServiceKey};
use alloc::string::String;
use core::net::IpAddr;
use core::time::Duration;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// An address on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct AddressKey {
    /// The interface's index.
    pub interface: u32,
    /// Address and prefix length.
    pub address: IpPrefix,
}

/// How long the kernel keeps an address by itself (`IFA_CACHEINFO`, `ifa_valid`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Lifetime {
    /// Until it is deleted.
    Forever,
    /// So many whole seconds from the last renewal; never preferred as a source address.
    Lease(Duration),
}

/// A virtual server of IPVS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Service {
    /// Address, port, protocol.
    pub key: ServiceKey,
    /// Who gets the next connection.
    pub scheduler: Scheduler,
    /// The scheduler's flags.
    pub flags: SchedulerFlags,
    /// Whether a client stays.
    pub persistence: Option<Persistence>,
}

/// A real server of IPVS. Address and port name it within its service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Destination {
    /// Its own address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// How packets get there.
    pub forwarding: Forwarding,
    /// Its share.
    pub weight: u32,
    /// No new connections above so many (0: no limit).
    pub upper_threshold: u32,
    /// Again below so many.
    pub lower_threshold: u32,
}

/// Which way connection synchronisation runs here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum DaemonRole {
    /// Sends.
    Master,
    /// Receives.
    Backup,
}

/// A synchronisation daemon of the kernel's.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct SyncDaemon {
    /// Which way.
    pub role: DaemonRole,
    /// The interface of its multicast.
    pub interface: String,
    /// Its group.
    pub sync_id: u8,
}
