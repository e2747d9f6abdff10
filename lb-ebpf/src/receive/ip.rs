//! What IPv4 and IPv6 have in common, and what a flow's hash is in each.
use crate::packet::Header;
use crate::packet::ipv4::Ipv4;
use crate::packet::ipv6::Ipv6;
use crate::traits::Traits;
use lb_common::abi::hash::{self, Key};
use lb_common::abi::{Service, tables};

/// An IP header, without what may follow it.
pub(crate) trait Ip: Header + 'static {
    type Address: Address;
    /// [`Traits::V6`] or nothing.
    const TRAITS: Traits;

    fn src(&self) -> Self::Address;
    fn dst(&self) -> Self::Address;
    fn hops(&self) -> u8;
    /// Lowers the TTL or hop limit, which is more.
    fn lower_hops(&mut self, hops: u8);
    /// Not from a source that cannot be.
    fn has_sane_source(&self) -> bool;
    /// Version and lengths can be right.
    fn is_well_formed(&self) -> bool;
    /// Bytes of the packet.
    fn total(&self) -> usize;
    /// Of what comes next.
    fn proto(&self) -> u8;
    /// The transport's header comes next, and all of its packet.
    fn is_bare(&self) -> bool;
}

/// An address as it is in the packet.
pub(crate) trait Address: Copy + PartialEq {
    /// As `abi::Vip` has it. `None`: no virtual IP is so.
    fn key(self) -> Option<(u64, u64)>;
    /// Of a flow.
    fn flow(key: &Key, src: Self, dst: Self, ports: u32, proto: u32) -> u64;
    /// Of a client, as far as the service's affinity looks at its address.
    fn client(key: &Key, src: Self, service: &Service) -> u64;
    /// Of a packet that comes in parts.
    fn fragment(key: &Key, src: Self, dst: Self, id: u32, proto: u32) -> u64;
}

impl Ip for Ipv4 {
    type Address = u32;
    const TRAITS: Traits = Traits::NONE;

    #[inline(always)]
    fn src(&self) -> u32 {
        self.src
    }

    #[inline(always)]
    fn dst(&self) -> u32 {
        self.dst
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.ttl
    }

    #[inline(always)]
    fn lower_hops(&mut self, hops: u8) {
        self.lower_ttl(hops);
    }

    #[inline(always)]
    fn has_sane_source(&self) -> bool {
        self.src() != self.dst() && !self.has_martian_source()
    }

    #[inline(always)]
    fn is_well_formed(&self) -> bool {
        self.begins_well() && self.total() >= self.header_length()
    }

    #[inline(always)]
    fn total(&self) -> usize {
        Self::total(self)
    }

    #[inline(always)]
    fn proto(&self) -> u8 {
        self.proto
    }

    #[inline(always)]
    fn is_bare(&self) -> bool {
        self.has_no_options() && !self.is_fragment()
    }
}

impl Ip for Ipv6 {
    type Address = [u64; 2];
    const TRAITS: Traits = Traits::V6;

    #[inline(always)]
    fn src(&self) -> [u64; 2] {
        self.src
    }

    #[inline(always)]
    fn dst(&self) -> [u64; 2] {
        self.dst
    }

    #[inline(always)]
    fn hops(&self) -> u8 {
        self.hop_limit
    }

    #[inline(always)]
    fn lower_hops(&mut self, hops: u8) {
        self.hop_limit = hops;
    }

    #[inline(always)]
    fn has_sane_source(&self) -> bool {
        self.src() != self.dst() && !self.has_martian_source()
    }

    #[inline(always)]
    fn is_well_formed(&self) -> bool {
        self.begins_well()
    }

    #[inline(always)]
    fn total(&self) -> usize {
        Self::total(self)
    }

    #[inline(always)]
    fn proto(&self) -> u8 {
        self.next
    }

    #[inline(always)]
    fn is_bare(&self) -> bool {
        self.is_well_formed()
    }
}

impl Address for u32 {
    #[inline(always)]
    fn key(self) -> Option<(u64, u64)> {
        Some((tables::IPV4, u64::from(self)))
    }

    #[inline(always)]
    fn flow(key: &Key, src: Self, dst: Self, ports: u32, proto: u32) -> u64 {
        hash::flow4(key, src, dst, ports, proto)
    }

    #[inline(always)]
    fn client(key: &Key, src: Self, service: &Service) -> u64 {
        hash::client4(key, src & service.mask_lo as u32)
    }

    #[inline(always)]
    fn fragment(key: &Key, src: Self, dst: Self, id: u32, proto: u32) -> u64 {
        hash::fragment4(key, src, dst, id, proto)
    }
}

/// Bytes 0-7 and 8-15 of an IPv6 address, each in native order.
impl Address for [u64; 2] {
    #[inline(always)]
    fn key(self) -> Option<(u64, u64)> {
        let [hi, lo] = self;
        // What an empty place has, and what a virtual IP over IPv4 has: neither is a unicast address.
        (hi != 0 && hi != tables::IPV4).then_some((hi, lo))
    }

    #[inline(always)]
    fn flow(key: &Key, src: Self, dst: Self, ports: u32, proto: u32) -> u64 {
        hash::flow6(key, &words(src), &words(dst), ports, proto)
    }

    #[inline(always)]
    fn client(key: &Key, [hi, lo]: Self, service: &Service) -> u64 {
        hash::client6(key, &words([hi & service.mask_hi, lo & service.mask_lo]))
    }

    #[inline(always)]
    fn fragment(key: &Key, src: Self, dst: Self, id: u32, proto: u32) -> u64 {
        hash::fragment6(key, &words(src), &words(dst), id, proto)
    }
}

/// The same bytes as four words in native order, as the hash takes them.
#[inline(always)]
fn words([hi, lo]: [u64; 2]) -> [u32; 4] {
    const {
        assert!(
            cfg!(target_endian = "little"),
            "the halves would be the other way round"
        )
    };
    [hi as u32, (hi >> 32) as u32, lo as u32, (lo >> 32) as u32]
}
