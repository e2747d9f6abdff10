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

/// Where an address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Place {
    /// The link for direct routing: [`super::LOCAL_LINK`], or `lo` where the kernel has no dummy device.
    Local,
    /// The interface with this index.
    Interface(u32),
}

/// An address of ours and where it is. `Local` sorts first: it is added first and deleted last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Address {
    /// Where.
    pub place: Place,
    /// Address and prefix length.
    pub address: IpPrefix,
}

/// A kernel parameter by its path below `/proc/sys`, with slashes: an interface's name may hold dots and never a slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize), serde(transparent))]
pub struct Sysctl(pub String);

impl Sysctl {
    /// `net/ipv4/conf/<interface>/<name>`.
    pub fn ipv4_conf(interface: &str, name: &str) -> Self {
        Self(alloc::format!("net/ipv4/conf/{interface}/{name}"))
    }

    /// `net/ipv4/vs/<name>`; IPVS keeps both families' there.
    pub fn ipvs(name: &str) -> Self {
        Self(alloc::format!("net/ipv4/vs/{name}"))
    }

    /// The switch that lets the kernel forward packets of this family (NAT needs it).
    pub fn forwarding(family: crate::model::Family) -> Self {
        Self(match family {
            crate::model::Family::Ipv4 => "net/ipv4/ip_forward".into(),
            crate::model::Family::Ipv6 => "net/ipv6/conf/all/forwarding".into(),
        })
    }

    /// Whether this is [`Self::forwarding`] of either family.
    pub fn is_forwarding(&self) -> bool {
        use crate::model::Family::{Ipv4, Ipv6};
        *self == Self::forwarding(Ipv4) || *self == Self::forwarding(Ipv6)
    }
}

impl core::fmt::Display for Sysctl {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a kernel parameter has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Bound {
    /// This or more: a stricter administrator is left alone.
    AtLeast(i32),
    /// Exactly this.
    Exactly(i32),
}

impl Bound {
    /// What to write where `now` is read; `None`: nothing.
    pub const fn to_write(self, now: i32) -> Option<i32> {
        match self {
            Self::AtLeast(v) => {
                if now >= v {
                    None
                } else {
                    Some(v)
                }
            }
            Self::Exactly(v) => {
                if now == v {
                    None
                } else {
                    Some(v)
                }
            }
        }
    }
}

/// What the director guard has to know (see ARCHITECTURE.md): which packets this node may schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct GuardSpec {
    /// The virtual IPs that it watches.
    pub vips: alloc::collections::BTreeSet<IpAddr>,
    /// The other directors: what comes from them is balanced already.
    pub peers: alloc::collections::BTreeSet<crate::model::MacAddr>,
    /// Whether what comes out of a tunnel is balanced already: some virtual server uses TUN.
    pub tunnels: bool,
}
