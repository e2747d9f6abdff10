//! IPv4 (RFC 791).
#![expect(unsafe_code, reason = "see Header")]
use super::{Header, fold};

/// Without its options.
#[repr(C, packed)]
pub(crate) struct Ipv4 {
    pub(crate) version_ihl: u8,
    pub(crate) tos: u8,
    pub(crate) total_length: u16,
    pub(crate) id: u16,
    pub(crate) fragment: u16,
    pub(crate) ttl: u8,
    pub(crate) proto: u8,
    pub(crate) checksum: u16,
    pub(crate) src: u32,
    pub(crate) dst: u32,
}

// SAFETY: bytes and packed integers.
unsafe impl Header for Ipv4 {}

/// More fragments follow.
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000_u16.to_be();
/// Where a fragment belongs.
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();
/// Never fragment it.
pub(crate) const DONT_FRAGMENT: u16 = 0x4000_u16.to_be();
/// Version 4 and a header without options.
pub(crate) const PLAIN: u8 = 0x45;

impl Ipv4 {
    /// Version and length of the header can be right.
    #[inline(always)]
    pub(crate) fn begins_well(&self) -> bool {
        self.version_ihl.wrapping_sub(PLAIN) <= 0x0f - 5
    }

    /// Nothing lies between it and what comes next.
    #[inline(always)]
    pub(crate) fn has_no_options(&self) -> bool {
        self.version_ihl == PLAIN
    }

    /// Bytes of the header, options included.
    #[inline(always)]
    pub(crate) fn header_length(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    /// Bytes of the packet.
    #[inline(always)]
    pub(crate) fn total(&self) -> usize {
        usize::from(u16::from_be(self.total_length))
    }

    /// It is a part of a packet.
    #[inline(always)]
    pub(crate) fn is_fragment(&self) -> bool {
        self.fragment & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0
    }

    /// It is a part of a packet, and not its first.
    #[inline(always)]
    pub(crate) fn is_later_fragment(&self) -> bool {
        self.fragment & FRAGMENT_OFFSET != 0
    }

    /// From a source that cannot be: `0.0.0.0/8`, `127.0.0.0/8`, multicast and beyond.
    #[inline(always)]
    pub(crate) fn has_martian_source(&self) -> bool {
        let first = self.src.to_ne_bytes()[0];
        first.wrapping_sub(1) >= 223 || first == 127
    }

    /// Lowers the TTL, which is more, and corrects the checksum: it grows by what the TTL's word loses (RFC 1141), and
    /// 0xffff is 0 (RFC 1624).
    #[inline(always)]
    pub(crate) fn lower_ttl(&mut self, ttl: u8) {
        const { assert!(cfg!(target_endian = "little"), "the TTL is its word's lower half") };
        let sum = u32::from(self.checksum) + u32::from(self.ttl) - u32::from(ttl);
        self.ttl = ttl;
        self.checksum = (sum + ((sum + 1) >> 16)) as u16;
    }

    /// Computes the checksum of a header without options.
    #[inline(always)]
    pub(crate) fn set_checksum(&mut self) {
        let length =
            u32::from_ne_bytes([self.version_ihl, self.tos, 0, 0]) + (u32::from(self.total_length) << 16);
        let id = u32::from(self.id) | u32::from(self.fragment) << 16;
        let ttl = u32::from_ne_bytes([self.ttl, self.proto, 0, 0]);
        let sum =
            u64::from(length) + u64::from(id) + u64::from(ttl) + u64::from(self.src) + u64::from(self.dst);
        self.checksum = !fold(sum);
    }
}
