//! VRRP advertisements: version 2 (RFC 3768 §5.3) and version 3 (RFC 9568 §5.2).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+---------------+---------------+
//! |Version| Type  | Virtual Rtr ID|   Priority    |  Count IP Addr|
//! +-------+-------+---------------+---------------+---------------+
//! | v2: Auth Type | v2: Adver Int |           Checksum            |
//! | v3: rsvd 4 |  Max Adver Int 12|                               |
//! +---------------+---------------+-------------------------------+
//! |                 IPv4 or IPv6 address(es)                      |
//! +---------------------------------------------------------------+
//! |  v2 only: Authentication Data, eight bytes, always there      |
//! +---------------------------------------------------------------+
//! ```
//! The family of the addresses is that of the IP header; they are never mixed.
mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use crate::spec::ChecksumForm;
pub use decode::{DecodeError, decode, peek_vrid};
pub use encode::EncodeError;

use crate::model::{AuthPass, Family, Version, Vrid};
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// VRRP's number as an IP protocol and as a next header.
pub const PROTOCOL: u8 = 112;
/// Where IPv4 adverts go (RFC 9568 §5.1.1.2).
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Where IPv6 adverts go (RFC 9568 §5.1.2.2).
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// TTL and hop limit of every advert: proof that it did not pass a router.
pub const HOP_LIMIT: u8 = 255;
/// Traffic class CS6, as keepalived marks adverts.
pub const TRAFFIC_CLASS: u8 = 0xc0;
/// The only message type there is.
const ADVERTISEMENT: u8 = 1;
/// Fixed part.
const HEADER_LEN: usize = 8;
/// Version 2's Authentication Data.
const AUTH_LEN: usize = 8;

/// The group that adverts of `family` go to.
pub const fn group(family: Family) -> IpAddr {
    match family {
        Family::Ipv4 => IpAddr::V4(GROUP_V4),
        Family::Ipv6 => IpAddr::V6(GROUP_V6),
    }
}

/// The VIPs of an advert, of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Four bytes each.
    V4(Vec<Ipv4Addr>),
    /// Sixteen bytes each; the first is link-local (RFC 9568 §5.2.9).
    V6(Vec<Ipv6Addr>),
}

impl Addresses {
    /// Those of `addresses` that are of `family`, in order.
    pub fn of(family: Family, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let all = addresses.into_iter();
        match family {
            Family::Ipv4 => Self::V4(
                all.filter_map(|a| match a {
                    IpAddr::V4(a) => Some(a),
                    IpAddr::V6(_) => None,
                })
                .collect(),
            ),
            Family::Ipv6 => Self::V6(
                all.filter_map(|a| match a {
                    IpAddr::V6(a) => Some(a),
                    IpAddr::V4(_) => None,
                })
                .collect(),
            ),
        }
    }

    /// Of which family they are.
    pub const fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::Ipv4,
            Self::V6(_) => Family::Ipv6,
        }
    }

    /// How many.
    pub const fn len(&self) -> usize {
        match self {
            Self::V4(a) => a.len(),
            Self::V6(a) => a.len(),
        }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let (v4, v6): (&[Ipv4Addr], &[Ipv6Addr]) = match self {
            Self::V4(a) => (a, &[]),
            Self::V6(a) => (&[], a),
        };
        v4.iter()
            .copied()
            .map(IpAddr::V4)
            .chain(v6.iter().copied().map(IpAddr::V6))
    }
}

/// Version 2's Authentication Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AuthType {
    /// 0: the data is to be ignored.
    None,
    /// 1: eight bytes of password in clear (RFC 2338 §5.3.10).
    Simple,
    /// 2: IP Authentication Header (RFC 2338); dropped by RFC 3768.
    Header,
    /// Never defined.
    Unknown(u8),
}

impl AuthType {
    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Simple => 1,
            Self::Header => 2,
            Self::Unknown(n) => n,
        }
    }
}

impl From<u8> for AuthType {
    fn from(n: u8) -> Self {
        match n {
            0 => Self::None,
            1 => Self::Simple,
            2 => Self::Header,
            n => Self::Unknown(n),
        }
    }
}

impl fmt::Display for AuthType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no authentication"),
            Self::Simple => f.write_str("a password"),
            Self::Header => f.write_str("an IP authentication header"),
            Self::Unknown(n) => write!(f, "authentication type {n}"),
        }
    }
}

/// Version 2's authentication fields as they are on the wire. `Debug` does not show the data: it may be a password.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Auth {
    /// What the data is.
    pub kind: AuthType,
    /// Eight bytes, there even without authentication.
    pub data: [u8; AUTH_LEN],
}

impl Auth {
    /// Without authentication.
    pub const NONE: Self = Self {
        kind: AuthType::None,
        data: [0; AUTH_LEN],
    };

    /// What the configuration says, as it is sent.
    pub const fn from_pass(pass: Option<AuthPass>) -> Self {
        match pass {
            Some(p) => Self {
                kind: AuthType::Simple,
                data: p.bytes(),
            },
            None => Self::NONE,
        }
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Auth({}, …)", self.kind)
    }
}

/// One advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Which VRRP.
    pub version: Version,
    /// Which virtual router.
    pub vrid: Vrid,
    /// The sender's; 0 says that it leaves.
    pub priority: u8,
    /// Max Advertise Interval in centiseconds: 1-4095 in version 3, whole seconds to 255 s in version 2.
    pub interval_cs: u16,
    /// Version 3's four reserved bits: 0 when sent, ignored when received.
    pub reserved: u8,
    /// Version 2 only; `None` is sent as [`Auth::NONE`].
    pub auth: Option<Auth>,
    /// The VIPs.
    pub addresses: Addresses,
    /// Which checksum it has. A choice in version 3 over IPv4 only: version 2 never has a pseudo-header, IPv6 always.
    pub checksum_form: ChecksumForm,
}

impl Advertisement {
    /// The one checksum that version and family allow, if they leave no choice.
    const fn fixed_form(version: Version, family: Family) -> Option<ChecksumForm> {
        match (version, family) {
            // RFC 3768 §5.3.8: "of the entire VRRP message", which keepalived reads with the authentication data.
            (Version::V2, Family::Ipv4 | Family::Ipv6) => Some(ChecksumForm::MessageOnly),
            // RFC 9568 §5.2.8: IPv6 has the pseudo-header of RFC 8200 §8.1.
            (Version::V3, Family::Ipv6) => Some(ChecksumForm::PseudoHeader),
            (Version::V3, Family::Ipv4) => None,
        }
    }
}
