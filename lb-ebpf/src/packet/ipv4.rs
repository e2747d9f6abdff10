//! IPv4 (RFC 791).
use super::Header;

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
#[expect(unsafe_code, reason = "see Header")]
unsafe impl Header for Ipv4 {}

impl Ipv4 {
    /// Bytes of the header, options included. Below 20 it is none.
    #[inline(always)]
    pub(crate) fn header_length(&self) -> usize {
        usize::from(self.version_ihl & 0x0f) * 4
    }

    /// Sets the TTL and corrects the checksum (RFC 1624, equation 3: HC' = ~(~HC + ~m + m')).
    #[inline(always)]
    pub(crate) fn set_ttl(&mut self, ttl: u8) {
        let old = u32::from(u16::from_ne_bytes([self.ttl, self.proto]));
        let new = u32::from(u16::from_ne_bytes([ttl, self.proto]));
        let sum = u32::from(!self.checksum) + (!old & 0xffff) + new;
        self.ttl = ttl;
        self.checksum = !fold(sum);
    }
}

/// Folds a sum of 16-bit words into one.
#[inline(always)]
pub(crate) fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum + (sum >> 16)) as u16
}
