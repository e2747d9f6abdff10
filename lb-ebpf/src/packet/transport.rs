//! TCP (RFC 9293) and UDP (RFC 768), as far as a director looks.
#![expect(unsafe_code, reason = "see Header")]
use super::{Frame, Header};
use crate::traits::Traits;
use lb_common::abi::Reason;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Without its options.
#[repr(C, packed)]
struct Tcp {
    ports: u32,
    sequence: u32,
    acknowledgement: u32,
    offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

#[repr(C, packed)]
struct Udp {
    ports: u32,
    length: u16,
    checksum: u16,
}

/// As they are in the packet: source in the low half, destination in the high one.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(crate) struct Ports(pub(crate) u32);

// SAFETY: bytes and packed integers.
unsafe impl Header for Tcp {}
// SAFETY: as above.
unsafe impl Header for Udp {}
// SAFETY: as above.
unsafe impl Header for Ports {}

impl Ports {
    /// As in the packet.
    #[inline(always)]
    pub(crate) fn destination(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Those of the other direction.
    #[inline(always)]
    pub(crate) fn reversed(self) -> Self {
        Self(self.0.rotate_left(16))
    }
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// What the header at `at` says, of a packet that ends at `end`. `first`: it is a first fragment, and a datagram's length
/// says nothing about it.
#[inline(always)]
pub(crate) fn parse(
    frame: Frame<'_>,
    at: usize,
    end: usize,
    proto: u8,
    first: bool,
) -> Result<Traits, Reason> {
    match proto {
        TCP => {
            let tcp: &Tcp = frame.at(at).ok_or(Reason::BadTransport)?;
            let length = usize::from(tcp.offset >> 4) * 4;
            if length < size_of::<Tcp>() || at + length > end {
                return Err(Reason::BadTransport);
            }
            Ok(meaning(tcp.flags))
        }
        UDP => {
            let udp: &Udp = frame.at(at).ok_or(Reason::BadTransport)?;
            let told = usize::from(u16::from_be(udp.length));
            let length = if first { size_of::<Udp>() } else { told };
            if told < size_of::<Udp>() || at + length > end {
                return Err(Reason::BadTransport);
            }
            Ok(Traits::DATAGRAM)
        }
        _ => Err(Reason::NotService),
    }
}

#[inline(always)]
fn meaning(flags: u8) -> Traits {
    if flags & (SYN | RST | FIN) == 0 {
        Traits::CONTINUES
    } else if flags & (SYN | ACK | RST | FIN) == SYN {
        Traits::OPENS
    } else {
        Traits::NONE
    }
}

/// The ports at `at`, of a packet that ends at `end`: both protocols begin with them.
#[inline(always)]
pub(crate) fn ports(frame: Frame<'_>, at: usize, end: usize) -> Option<Ports> {
    if at + size_of::<Ports>() > end {
        return None;
    }
    frame.at(at).copied()
}
