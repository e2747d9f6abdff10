//! Addresses: a family, an address with its prefix length, a MAC address.
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// IPv4 or IPv6. A VRRP instance and a virtual server are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// The family of `addr`.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// The length of a whole address in bits: 32 or 128.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Ipv4 => 32,
            Self::Ipv6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// An address with the length of its prefix, as `ip addr` writes it: `192.168.122.200/24`. Host bits are kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "alloc::string::String", into = "alloc::string::String")
)]
pub struct IpPrefix {
    addr: IpAddr,
    len: u8,
}

/// Why a text is not an [`IpPrefix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePrefixError {
    /// There is no `/`.
    #[error("the prefix length is missing (write 192.0.2.10/24)")]
    NoLength,
    /// The part before `/` is not an IP address.
    #[error("the part before / is not an IP address")]
    Address,
    /// The part after `/` is not a number of bits that the family has.
    #[error("the prefix length is not a number from 0 to 32 (IPv4) or 128 (IPv6)")]
    Length,
}

impl IpPrefix {
    /// `None` where `len` is longer than an address of that family.
    pub const fn new(addr: IpAddr, len: u8) -> Option<Self> {
        if len <= Family::of(addr).bits() {
            Some(Self { addr, len })
        } else {
            None
        }
    }

    /// The address alone, as a whole prefix: /32 or /128.
    pub const fn host(addr: IpAddr) -> Self {
        Self {
            addr,
            len: Family::of(addr).bits(),
        }
    }

    /// The address, host bits included.
    pub const fn addr(self) -> IpAddr {
        self.addr
    }

    /// The prefix length in bits.
    pub const fn prefix_len(self) -> u8 {
        self.len
    }

    /// The family of the address.
    pub const fn family(self) -> Family {
        Family::of(self.addr)
    }

    /// Whether `other` lies in the network that this prefix names.
    pub fn contains(self, other: IpAddr) -> bool {
        match (self.addr, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.len)).unwrap_or(0);
                (a.to_bits() ^ b.to_bits()) & mask == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.len)).unwrap_or(0);
                (a.to_bits() ^ b.to_bits()) & mask == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    /// The broadcast address of an IPv4 network with host bits to spare.
    pub fn broadcast(self) -> Option<Ipv4Addr> {
        match self.addr {
            IpAddr::V4(a) if self.len < 31 => Some(Ipv4Addr::from_bits(
                a.to_bits() | u32::MAX.checked_shr(u32::from(self.len)).unwrap_or(0),
            )),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }
}

impl FromStr for IpPrefix {
    type Err = ParsePrefixError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (addr, len) = s.split_once('/').ok_or(ParsePrefixError::NoLength)?;
        let addr: IpAddr = addr.parse().map_err(|_| ParsePrefixError::Address)?;
        if len.is_empty() || len.len() > 3 || !len.bytes().all(|b| b.is_ascii_digit()) {
            return Err(ParsePrefixError::Length);
        }
        len.parse()
            .ok()
            .and_then(|len| Self::new(addr, len))
            .ok_or(ParsePrefixError::Length)
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<alloc::string::String> for IpPrefix {
    type Error = ParsePrefixError;
    fn try_from(s: alloc::string::String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<IpPrefix> for alloc::string::String {
    fn from(p: IpPrefix) -> Self {
        alloc::format!("{p}")
    }
}

/// A 48-bit MAC address in transmission order.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(try_from = "alloc::string::String", into = "alloc::string::String")
)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Where an IPv6 multicast packet to `group` goes (RFC 2464 §7).
    pub const fn for_ipv6_multicast(group: Ipv6Addr) -> Self {
        let o = group.octets();
        Self([0x33, 0x33, o[12], o[13], o[14], o[15]])
    }
}

impl FromStr for MacAddr {
    type Err = super::UnknownName;
    /// Accepts `aa:bb:cc:dd:ee:ff` and `AA-BB-CC-DD-EE-FF`.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let mut out = [0; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut out {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(super::UnknownName)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| super::UnknownName)?;
        }
        if parts.next().is_some() {
            Err(super::UnknownName)
        } else {
            Ok(Self(out))
        }
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<alloc::string::String> for MacAddr {
    type Error = super::UnknownName;
    fn try_from(s: alloc::string::String) -> Result<Self, Self::Error> {
        s.parse()
    }
}

impl From<MacAddr> for alloc::string::String {
    fn from(m: MacAddr) -> Self {
        alloc::format!("{m}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_prefix_keeps_its_host_bits_and_knows_its_network() {
        let p: IpPrefix = "192.168.122.200/24".parse().unwrap();
        assert_eq!(p.to_string(), "192.168.122.200/24");
        assert!(p.contains("192.168.122.1".parse().unwrap()));
        assert!(!p.contains("192.168.123.1".parse().unwrap()));
        assert!(!p.contains("::1".parse().unwrap()));
        assert_eq!(p.broadcast(), Some(Ipv4Addr::new(192, 168, 122, 255)));
        let all: IpPrefix = "::/0".parse().unwrap();
        assert!(all.contains("fe80::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_prefix_is_refused_with_the_part_that_is_wrong() {
        for (text, error) in [
            ("192.0.2.1", ParsePrefixError::NoLength),
            ("192.0.2/24", ParsePrefixError::Address),
            ("192.0.2.1/33", ParsePrefixError::Length),
            ("192.0.2.1/+4", ParsePrefixError::Length),
            ("2001:db8::1/129", ParsePrefixError::Length),
            ("192.0.2.1/", ParsePrefixError::Length),
        ] {
            assert_eq!(text.parse::<IpPrefix>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_mac_address_is_read_in_both_spellings() {
        let m: MacAddr = "AA-bb-0c-dd-ee-0f".parse().unwrap();
        assert_eq!(m.to_string(), "aa:bb:0c:dd:ee:0f");
        assert!("aa:bb:cc:dd:ee".parse::<MacAddr>().is_err());
        assert!("aa:bb:cc:dd:ee:ff:00".parse::<MacAddr>().is_err());
        assert!("eth0".parse::<MacAddr>().is_err());
    }
}
