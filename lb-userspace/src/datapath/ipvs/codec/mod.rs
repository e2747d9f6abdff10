//! Between our types and IPVS's attributes: pure, no socket.
//!
//! Writing gives what `ipvsadm` sends, attribute for attribute, so that a difference in behaviour is a difference in
//! values. Reading never fails on a service that somebody else made with things that we do not model (a firewall mark,
//! a scheduler of their own, a persistence engine): it says so as [`Unmodelled`] and the caller goes on. It fails,
//! typed, only where the bytes are not what `net/netfilter/ipvs/ip_vs_ctl.c` writes, and never panics.
mod attributes;
mod daemon;
mod destination;
mod service;
mod stats;

use lb_common::model::{Family, Protocol};
use std::net::IpAddr;

pub use attributes::Attributes;
pub use daemon::{
    Info, ObservedDaemon, SyncOptions, Timeouts, read_daemon, read_info, read_timeouts, write_daemon,
    write_daemon_role, write_timeouts,
};
pub use destination::{
    Connections, ForeignDestination, ObservedDestination, ReadDestination, read_destination,
    write_destination, write_destination_key,
};
pub use service::{ForeignService, ReadService, read_service, write_service, write_service_key};
pub use stats::{Rates, Stats};

/// The bytes are not what the kernel writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The attributes do not follow one another as their lengths say.
    #[error("malformed attributes: {0}")]
    Malformed(String),
    /// One that is always there is not.
    #[error("attribute {0} is missing")]
    Missing(String),
    /// One is too short for its type.
    #[error("attribute {attribute} has {got} bytes instead of {expected}")]
    Length {
        /// Its name.
        attribute: String,
        /// How many bytes it must have.
        expected: usize,
        /// How many it has.
        got: usize,
    },
    /// One has a value that the kernel never gives it.
    #[error("attribute {attribute} has the value {value}, which means nothing")]
    Value {
        /// Its name.
        attribute: String,
        /// The value.
        value: u64,
    },
}

/// The value cannot be said to the kernel, or would be read back as another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A netlink attribute's length is 16 bits; nothing of ours comes near it.
    #[error("cannot be written as a netlink attribute: {0}")]
    Attribute(String),
    /// The kernel counts in whole seconds.
    #[error("{0:?} is not a whole number of seconds from {1} to {2}")]
    Seconds(std::time::Duration, u32, u32),
    /// `ip_vs_add_service` refuses it, or the mask would be another one.
    #[error("/{prefix} groups no {family} clients (1 to {})", family.bits())]
    Granularity {
        /// The prefix length.
        prefix: u8,
        /// The family of the service.
        family: Family,
    },
    /// An interface's name is 1 to 15 bytes.
    #[error("`{0}` is not an interface's name (1 to 15 bytes)")]
    Interface(String),
    /// The kernel's weight is signed, and so are the counts that it holds against the thresholds: it refuses a greater
    /// weight, and of late (6.1.192 does) a greater threshold.
    #[error("{0} {1} is above 2147483647")]
    Signed(&'static str, u32),
    /// The kernel would take another.
    #[error("{0} is not a length of synchronisation messages (1024 to 65487)")]
    MaxLen(u16),
    /// `start_sync_thread` takes multicast groups only.
    #[error("{0} is not a multicast address")]
    Group(IpAddr),
}

/// What somebody else set up and we have no word for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmodelled {
    /// A service by firewall mark, which has neither address nor port.
    FirewallMark(u32),
    /// Neither IPv4 nor IPv6.
    Family(u16),
    /// Neither TCP, UDP nor SCTP.
    Protocol(u16),
    /// A scheduler that the kernel itself does not have, or `none`.
    Scheduler(String),
    /// `sip`, say.
    PersistenceEngine(String),
    /// A persistence mask that is not a prefix.
    Netmask(u32),
    /// `IP_VS_CONN_F_BYPASS`, or one that is yet to come.
    Forwarding(u32),
    /// A wrapping that is yet to come.
    TunnelType(u8),
    /// Checksum options of GUE and GRE.
    TunnelFlags(u16),
}

impl std::fmt::Display for Unmodelled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FirewallMark(mark) => write!(f, "firewall mark {mark}"),
            Self::Family(family) => write!(f, "address family {family}"),
            Self::Protocol(protocol) => write!(f, "protocol {protocol}"),
            Self::Scheduler(name) => write!(f, "scheduler {name}"),
            Self::PersistenceEngine(name) => write!(f, "persistence engine {name}"),
            Self::Netmask(mask) => write!(f, "persistence mask {mask:#010x}"),
            Self::Forwarding(method) => write!(f, "forwarding method {method}"),
            Self::TunnelType(kind) => write!(f, "tunnel type {kind}"),
            Self::TunnelFlags(flags) => write!(f, "tunnel flags {flags:#x}"),
        }
    }
}

/// Why an object did not become one of ours: both kinds travel by `?` and part at the end.
enum Unread {
    Broken(DecodeError),
    Unmodelled(Unmodelled),
}

impl From<DecodeError> for Unread {
    fn from(e: DecodeError) -> Self {
        Self::Broken(e)
    }
}

impl From<Unmodelled> for Unread {
    fn from(e: Unmodelled) -> Self {
        Self::Unmodelled(e)
    }
}

fn family_number(family: Family) -> u16 {
    match family {
        Family::Ipv4 => super::uapi::AF_INET,
        Family::Ipv6 => super::uapi::AF_INET6,
    }
}

fn family_of_number(number: u16) -> Result<Family, Unmodelled> {
    match number {
        super::uapi::AF_INET => Ok(Family::Ipv4),
        super::uapi::AF_INET6 => Ok(Family::Ipv6),
        other => Err(Unmodelled::Family(other)),
    }
}

fn protocol_of_number(number: u16) -> Result<Protocol, Unmodelled> {
    Protocol::ALL
        .iter()
        .copied()
        .find(|p| u16::from(p.number()) == number)
        .ok_or(Unmodelled::Protocol(number))
}

/// `union nf_inet_addr`: 16 bytes, an IPv4 address in the first four.
fn address_bytes(address: IpAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(a) => bytes[..4].copy_from_slice(&a.octets()),
        IpAddr::V6(a) => bytes = a.octets(),
    }
    bytes
}

/// A duration that the kernel can hold: whole seconds within `min..=max`.
fn whole_seconds(duration: std::time::Duration, min: u32, max: u32) -> Result<u32, EncodeError> {
    u32::try_from(duration.as_secs())
        .ok()
        .filter(|s| duration.subsec_nanos() == 0 && (min..=max).contains(s))
        .ok_or(EncodeError::Seconds(duration, min, max))
}
