//! What matters about a packet after it was read, as bits: one number, that can be made [`crate::maps::plain`].

/// The flags of its TCP header, as they are there, and what is said here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits(pub(crate) u32);

const FIN: u32 = 0x01;
const SYN: u32 = 0x02;
const RST: u32 = 0x04;
const ACK: u32 = 0x10;

impl Traits {
    pub(crate) const NONE: Self = Self(0);
    /// UDP.
    pub(crate) const DATAGRAM: Self = Self(1 << 8);
    /// An ICMP error: goes where the flow goes that it is about, and says nothing about it that could be believed.
    pub(crate) const ERROR: Self = Self(1 << 9);
    /// The first part of a packet.
    pub(crate) const FIRST: Self = Self(1 << 10);
    /// Another part of a packet.
    pub(crate) const LATER: Self = Self(1 << 11);
    /// IPv6; without it IPv4.
    pub(crate) const V6: Self = Self(1 << 12);
    /// Every set is below this.
    pub(crate) const BELOW: u32 = 1 << 13;

    /// Of a TCP segment.
    #[inline(always)]
    pub(crate) fn of_segment(flags: u8) -> Self {
        Self(u32::from(flags))
    }

    #[inline(always)]
    pub(crate) fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// Whether any of `these` is in it.
    #[inline(always)]
    pub(crate) fn any(self, these: Self) -> bool {
        self.0 & these.0 != 0
    }

    /// It opens a connection: a SYN. Nothing is remembered of it before its client has answered.
    #[inline(always)]
    pub(crate) fn opens(self) -> bool {
        self.0 & (SYN | ACK | RST | FIN) == SYN
    }

    /// It belongs to a flow that goes on, and is worth remembering: TCP data or acknowledgements, or UDP.
    #[inline(always)]
    pub(crate) fn continues(self) -> bool {
        self.0 & (SYN | RST | FIN | Self::ERROR.0) == 0
    }

    /// It begins a flow, where none is known.
    #[inline(always)]
    pub(crate) fn begins(self) -> bool {
        self.any(Self::DATAGRAM) || self.opens()
    }
}
