//! TCP (RFC 9293) and UDP (RFC 768), as far as a director looks.
use super::Header;

pub(crate) const TCP: u8 = 6;

/// Without its options.
#[repr(C, packed)]
pub(crate) struct Tcp {
    /// Source port and destination port.
    pub(crate) ports: u32,
    sequence: u32,
    acknowledgement: u32,
    offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

// SAFETY: bytes and packed integers.
#[expect(unsafe_code, reason = "see Header")]
unsafe impl Header for Tcp {}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

impl Tcp {
    /// Bytes of the header, options included. Below 20 it is none.
    #[inline(always)]
    pub(crate) fn header_length(&self) -> usize {
        usize::from(self.offset >> 4) * 4
    }

    /// It opens a connection.
    #[inline(always)]
    pub(crate) fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }

    /// It belongs to an open one.
    #[inline(always)]
    pub(crate) fn continues(&self) -> bool {
        self.flags & (SYN | RST | FIN) == 0
    }
}
