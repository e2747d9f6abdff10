//! The Internet checksum (RFC 1071) and the two pseudo-headers that VRRP and ICMPv6 put in front of it.
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A running ones' complement sum. Every part but the last must be of even length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Nothing summed yet.
    pub const fn new() -> Self {
        Self(0)
    }

    /// Adds `bytes` as big-endian 16-bit words; an odd last byte is padded with zero.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<2>();
        for word in words {
            self.0 += u64::from(u16::from_be_bytes(*word));
        }
        if let [last] = rest {
            self.0 += u64::from(u16::from_be_bytes([*last, 0]));
        }
        self
    }

    /// The pseudo-header of `source` and `destination`: IPv4's of RFC 793 §3.1, IPv6's of RFC 8200 §8.1. `None` where
    /// the families differ.
    pub fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Option<Self> {
        match (source, destination) {
            (IpAddr::V4(s), IpAddr::V4(d)) => Some(Self::pseudo_v4(s, d, protocol, len)),
            (IpAddr::V6(s), IpAddr::V6(d)) => Some(Self::pseudo_v6(s, d, protocol, len)),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }

    fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, len: usize) -> Self {
        Self(len_word(len) + u64::from(protocol))
            .bytes(&source.octets())
            .bytes(&destination.octets())
    }

    fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, next_header: u8, len: usize) -> Self {
        Self(len_word(len) + u64::from(next_header))
            .bytes(&source.octets())
            .bytes(&destination.octets())
    }

    /// What belongs into the checksum field, which was zero while summing. Over a message with its checksum in place,
    /// 0 says that it fits.
    pub const fn finish(self) -> u16 {
        let mut sum = self.0;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let [.., a, b] = sum.to_be_bytes();
        !u16::from_be_bytes([a, b])
    }
}

fn len_word(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX >> 16)
}

/// The checksum of `bytes` alone.
pub fn of(bytes: &[u8]) -> u16 {
    Sum::new().bytes(bytes).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn an_odd_last_byte_counts_as_the_high_half_of_a_word() {
        assert_eq!(of(&[0x12, 0x34, 0x56]), of(&[0x12, 0x34, 0x56, 0x00]));
    }

    #[test]
    fn a_message_with_its_checksum_in_place_sums_to_zero() {
        let mut m = *b"any even message";
        m[4] = 0;
        m[5] = 0;
        let c = of(&m).to_be_bytes();
        m[4] = c[0];
        m[5] = c[1];
        assert_eq!(of(&m), 0);
    }

    #[test]
    fn two_families_have_no_pseudo_header_between_them() {
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        assert!(Sum::pseudo(v4, v6, 112, 8).is_none());
        assert!(Sum::pseudo(v6, v4, 112, 8).is_none());
    }
}
