//! ICMP (RFC 792, RFC 1191) and ICMPv6 (RFC 4443): errors about a packet, whose beginning they quote.
#![expect(unsafe_code, reason = "see Header")]
use super::Header;

pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;

#[repr(C, packed)]
pub(crate) struct Icmp {
    pub(crate) kind: u8,
    pub(crate) code: u8,
    pub(crate) checksum: u16,
    /// The MTU, where it is told: in the low half of an ICMP error.
    pub(crate) rest: u32,
}

// SAFETY: bytes and packed integers.
unsafe impl Header for Icmp {}

/// Destination unreachable.
pub(crate) const UNREACHABLE: u8 = 3;
/// Of [`UNREACHABLE`]: fragmentation needed and DF set.
pub(crate) const FRAGMENTATION_NEEDED: u8 = 4;
/// ICMPv6: packet too big.
pub(crate) const PACKET_TOO_BIG: u8 = 2;

impl Icmp {
    /// Destination unreachable, source quench, time exceeded or parameter problem.
    #[inline(always)]
    pub(crate) fn is_error(&self) -> bool {
        matches!(self.kind, 3 | 4 | 11 | 12)
    }

    /// Destination unreachable, packet too big, time exceeded or parameter problem.
    #[inline(always)]
    pub(crate) fn is_error6(&self) -> bool {
        matches!(self.kind, 1..=4)
    }
}
