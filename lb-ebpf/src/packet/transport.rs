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

/// What a transport's header says.
#[derive(Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) ports: Ports,
    pub(crate) traits: Traits,
}

impl Segment {
    /// To be read into: a result with both in it would be put together and taken apart again for every packet.
    pub(crate) const EMPTY: Self = Self {
        ports: Ports(0),
        traits: Traits::NONE,
    };

    /// Reads the header at `at`, of a packet that ends at `end`. `first`: it is a first fragment, and a datagram's length
    /// says nothing about it.
    #[inline(always)]
    pub(crate) fn read(
        &mut self,
        frame: Frame<'_>,
        at: usize,
        end: usize,
        proto: u8,
        first: bool,
    ) -> Result<(), Reason> {
        if proto == TCP {
            let tcp: &Tcp = frame.at(at).ok_or(Reason::BadTransport)?;
            let length = usize::from(tcp.offset >> 4) * 4;
            if length < size_of::<Tcp>() || at + length > end {
                return Err(Reason::BadTransport);
            }
            self.ports = Ports(tcp.ports);
            self.traits = Traits::of_segment(tcp.flags);
        } else if proto == UDP {
            let udp: &Udp = frame.at(at).ok_or(Reason::BadTransport)?;
            let told = usize::from(u16::from_be(udp.length));
            let length = if first { size_of::<Udp>() } else { told };
            if told < size_of::<Udp>() || at + length > end {
                return Err(Reason::BadTransport);
            }
            self.ports = Ports(udp.ports);
            self.traits = Traits::DATAGRAM;
        } else {
            return Err(Reason::NotService);
        }
        Ok(())
    }
}

/// The ports at `at`, of a packet that ends at `end`, where there may be no more of the header.
#[inline(always)]
pub(crate) fn ports(frame: Frame<'_>, at: usize, end: usize) -> Option<Ports> {
    if at + size_of::<Ports>() > end {
        return None;
    }
    frame.at(at).copied()
}
