//! What matters about a packet after it was read, as bits: one number, that can be made [`crate::maps::plain`].

/// A set of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traits(pub(crate) u32);

impl Traits {
    /// A FIN or RST, or flags that mean nothing: goes where its flow goes.
    pub(crate) const NONE: Self = Self(0);
    /// A SYN: a new connection, of which nothing is remembered before its client has answered.
    pub(crate) const OPENS: Self = Self(1);
    /// TCP data or acknowledgements.
    pub(crate) const CONTINUES: Self = Self(2);
    /// UDP.
    pub(crate) const DATAGRAM: Self = Self(4);
    /// An ICMP error: goes where the flow goes that it is about, and says nothing about it that could be believed.
    pub(crate) const ERROR: Self = Self(8);
    /// The first part of a packet.
    pub(crate) const FIRST: Self = Self(16);
    /// Another part of a packet.
    pub(crate) const LATER: Self = Self(32);
    /// IPv6; without it IPv4.
    pub(crate) const V6: Self = Self(64);
    /// Every set is below this.
    pub(crate) const BELOW: u32 = 128;

    #[inline(always)]
    pub(crate) fn and(self, more: Self) -> Self {
        Self(self.0 | more.0)
    }

    /// Whether any of `these` is in it.
    #[inline(always)]
    pub(crate) fn any(self, these: Self) -> bool {
        self.0 & these.0 != 0
    }
}
