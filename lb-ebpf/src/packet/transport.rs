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
    ports: Ports,
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
    ports: Ports,
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

/// A packet of a flow.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) proto: u8,
    pub(crate) ports: Ports,
    pub(crate) traits: Traits,
}

/// Reads the header at `at`, of a packet that ends at `end`. `first`: it is a first fragment, and a datagram's length
/// says nothing about it.
#[inline(always)]
pub(crate) fn parse(
    frame: Frame<'_>,
    at: usize,
    end: usize,
    proto: u8,
    first: bool,
) -> Result<Segment, Reason> {
    match proto {
        TCP => {
            let tcp: &Tcp = frame.at(at).ok_or(Reason::BadTransport)?;
            let length = usize::from(tcp.offset >> 4) * 4;
            if length < size_of::<Tcp>() || at + length > end {
                return Err(Reason::BadTransport);
            }
            Ok(Segment {
                proto,
                ports: tcp.ports,
                traits: meaning(tcp.flags),
            })
        }
        UDP => {
            let udp: &Udp = frame.at(at).ok_or(Reason::BadTransport)?;
            let told = usize::from(u16::from_be(udp.length));
            let length = if first { size_of::<Udp>() } else { told };
            if told < size_of::<Udp>() || at + length > end {
                return Err(Reason::BadTransport);
            }
            Ok(Segment {
                proto,
                ports: udp.ports,
                traits: Traits::DATAGRAM,
            })
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

/// The packet that an ICMP error at hand quotes, sent by a backend: of the flow that goes the other way.
#[inline(always)]
pub(crate) fn quoted(frame: Frame<'_>, at: usize, end: usize, proto: u8) -> Option<Segment> {
    let ports: &Ports = frame.at(at)?;
    if at + size_of::<Ports>() > end || (proto != TCP && proto != UDP) {
        return None;
    }
    Some(Segment {
        proto,
        ports: ports.reversed(),
        traits: Traits::ERROR,
    })
}
