//! What reception has to say of a packet: why it was not taken, or what is odd about one that was. Written for whoever
//! reads the log at three in the morning; a password is never part of it.
use crate::model::{Version, Vrid};
use crate::wire::vrrp::{AuthType, ChecksumForm, DecodeError};
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

/// What is worth saying about an advert that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notes {
    /// Which checksum the sender uses.
    pub checksum: ChecksumForm,
    /// Version 3: the sender's interval in centiseconds where it is not ours. A backup adopts it.
    pub interval_cs: Option<u16>,
    /// The sender's VIPs where they are not ours.
    pub addresses: Option<Vec<IpAddr>>,
    /// Version 3 over IPv6: the first VIP is not link-local, as RFC 9568 §5.2.9 demands.
    pub first_not_link_local: bool,
}

impl Notes {
    /// Whether anything differs from what we would send.
    pub const fn is_empty(&self) -> bool {
        self.interval_cs.is_none() && self.addresses.is_none() && !self.first_not_link_local
    }
}

impl fmt::Display for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sep = "";
        if let Some(cs) = self.interval_cs {
            write!(
                f,
                "its advertisement interval is {} ms, not ours",
                u32::from(cs) * 10
            )?;
            sep = "; ";
        }
        if let Some(addresses) = &self.addresses {
            write!(f, "{sep}its virtual IPs are not ours: {}", List(addresses))?;
            sep = "; ";
        }
        if self.first_not_link_local {
            write!(f, "{sep}its first virtual IP is not link-local")?;
        }
        Ok(())
    }
}

/// An advert that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Who sent it.
    pub source: IpAddr,
    /// Why it was not taken.
    pub why: Refusal,
}

/// Why an advert was not taken. No variant holds a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is our own, come back.
    Looped,
    /// The sender is no configured peer.
    NotAPeer,
    /// IPv6 multicast that does not come from a link-local address.
    NotLinkLocal,
    /// It may have passed a router.
    HopLimit {
        /// The packet's, if known.
        found: Option<u8>,
        /// The least that is taken.
        least: u8,
    },
    /// It is no advertisement.
    Malformed(DecodeError),
    /// It is for another virtual router.
    Vrid {
        /// The packet's.
        found: Vrid,
        /// Ours.
        ours: Vrid,
    },
    /// It is of the other version.
    Version {
        /// The packet's.
        found: Version,
        /// Ours.
        ours: Version,
        /// The sender's VIPs.
        addresses: Vec<IpAddr>,
    },
    /// Its kind of authentication is not ours.
    AuthType {
        /// The packet's.
        found: AuthType,
        /// Ours.
        ours: AuthType,
        /// The sender's VIPs.
        addresses: Vec<IpAddr>,
    },
    /// Its password is not ours.
    Password {
        /// The sender's VIPs.
        addresses: Vec<IpAddr>,
    },
    /// Version 2: its interval is not ours.
    Interval {
        /// The packet's, in centiseconds.
        found_cs: u16,
        /// Ours, in centiseconds.
        ours_cs: u16,
    },
}

impl Reject {
    /// One word for counters and for the rate limit of the log.
    pub const fn kind(&self) -> &'static str {
        match &self.why {
            Refusal::Looped => "looped",
            Refusal::NotAPeer => "peer",
            Refusal::NotLinkLocal => "source",
            Refusal::HopLimit { .. } => "ttl",
            Refusal::Malformed(error) => error.kind(),
            Refusal::Vrid { .. } => "vrid",
            Refusal::Version { .. } => "version",
            Refusal::AuthType { .. } => "auth-type",
            Refusal::Password { .. } => "auth",
            Refusal::Interval { .. } => "interval",
        }
    }

    /// Whether it is somebody else's virtual router with our number rather than a fault of our own (T30).
    pub const fn is_foreign(&self) -> bool {
        match &self.why {
            Refusal::Version { .. } | Refusal::AuthType { .. } | Refusal::Password { .. } => true,
            Refusal::Looped
            | Refusal::NotAPeer
            | Refusal::NotLinkLocal
            | Refusal::HopLimit { .. }
            | Refusal::Malformed(_)
            | Refusal::Vrid { .. }
            | Refusal::Interval { .. } => false,
        }
    }
}

struct List<'a>(&'a [IpAddr]);

impl fmt::Display for List<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An advert carries up to 255; a log line does not.
        for (i, address) in self.0.iter().take(8).enumerate() {
            write!(f, "{}{address}", if i == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(8) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

const FOREIGN: &str =
    "either it is misconfigured, or another cluster uses this virtual router ID on this network";

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "advert from {} ignored: ", self.source)?;
        match &self.why {
            Refusal::Looped => {
                f.write_str("it comes from our own address (looped back, or two nodes share it)")
            }
            Refusal::NotAPeer => f.write_str("it is none of the configured unicast peers"),
            Refusal::NotLinkLocal => f.write_str("an IPv6 advert must come from a link-local address"),
            Refusal::HopLimit {
                found: Some(found),
                least,
            } => {
                write!(
                    f,
                    "its TTL is {found}, below {least}: it was sent from beyond this network"
                )
            }
            Refusal::HopLimit { found: None, least } => {
                write!(f, "its TTL is not known and should be {least}")
            }
            Refusal::Malformed(error) => error.fmt(f),
            Refusal::Vrid { found, ours } => write!(f, "it is for virtual router {found}, we are {ours}"),
            Refusal::Version {
                found,
                ours,
                addresses,
            } => write!(
                f,
                "it speaks {found} and we speak {ours}; its virtual IPs: {}; {FOREIGN}",
                List(addresses)
            ),
            Refusal::AuthType {
                found,
                ours,
                addresses,
            } => write!(
                f,
                "it has {found} and we have {ours}; its virtual IPs: {}; {FOREIGN}",
                List(addresses)
            ),
            Refusal::Password { addresses } => write!(
                f,
                "its password is not ours; its virtual IPs: {}; {FOREIGN}",
                List(addresses)
            ),
            Refusal::Interval { found_cs, ours_cs } => write!(
                f,
                "its advertisement interval is {} s and ours is {} s; VRRPv2 wants them equal on every node",
                found_cs / 100,
                ours_cs / 100
            ),
        }
    }
}

impl core::error::Error for Reject {}
