//! What differs between the addresses of IPv4 and IPv6: their hashes.
use lb_common::abi::Service;
use lb_common::abi::hash::{self, Key};

/// An address as it is in the packet.
pub(crate) trait Address: Copy + PartialEq {
    /// Of a flow.
    fn flow(key: &Key, src: Self, dst: Self, ports: u32, proto: u32) -> u64;
    /// Of a client, as far as the service's affinity looks at its address.
    fn client(key: &Key, src: Self, service: &Service) -> u64;
    /// Of a packet that comes in parts.
    fn fragment(key: &Key, src: Self, dst: Self, id: u32, proto: u32) -> u64;
}

impl Address for u32 {
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
