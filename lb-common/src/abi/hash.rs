//! The keyed hash: one of a flow, one of a client, one of a fragmented packet.
//!
//! NH (RFC 4418 §5.2: sums of products of words, each with a secret added) and a finaliser. Two different inputs, chosen
//! without sight of the key, meet with a chance of 2^-32, which is what keeps an outsider from finding flows that all
//! go to one backend; a multiply-and-xor hash without the secret inside the product can be led by flipping high bits.
//! Every node computes the same, since the key comes from the file that they share.
//!
//! Words are as they are in the packet: loaded in native order, never swapped.

/// The key, the same on every node.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Key {
    /// Added to the words.
    pub words: [u32; 12],
    /// Mixed in at the end.
    pub last: u64,
}

/// Added to the protocol's word, so that a flow, a client and a fragmented packet never have one hash.
const CLIENT: u32 = 0x0001_0000;
const FRAGMENT: u32 = 0x0002_0000;

#[inline(always)]
const fn nh(a: u32, ka: u32, b: u32, kb: u32) -> u64 {
    (a.wrapping_add(ka) as u64).wrapping_mul(b.wrapping_add(kb) as u64)
}

/// David Stafford's variant 13 of the 64-bit finaliser of MurmurHash3.
#[inline(always)]
const fn finish(mut h: u64, last: u64) -> u64 {
    h ^= last;
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

/// A flow over IPv4. `ports`: source in the low half, destination in the high one, as they are in the packet.
#[inline(always)]
pub const fn flow4(k: &Key, src: u32, dst: u32, ports: u32, proto: u32) -> u64 {
    let w = &k.words;
    finish(
        nh(src, w[0], ports, w[1]).wrapping_add(nh(dst, w[2], proto, w[3])),
        k.last,
    )
}

/// A flow over IPv6.
#[inline(always)]
pub const fn flow6(k: &Key, src: &[u32; 4], dst: &[u32; 4], ports: u32, proto: u32) -> u64 {
    let w = &k.words;
    let h = nh(src[0], w[4], src[1], w[5])
        .wrapping_add(nh(src[2], w[6], src[3], w[7]))
        .wrapping_add(nh(dst[0], w[8], dst[1], w[9]))
        .wrapping_add(nh(dst[2], w[10], dst[3], w[11]))
        .wrapping_add(nh(ports, w[0], proto, w[1]));
    finish(h, k.last)
}

/// A client over IPv4, masked: what source affinity goes by.
#[inline(always)]
pub const fn client4(k: &Key, src: u32) -> u64 {
    finish(nh(src, k.words[0], CLIENT, k.words[3]), k.last)
}

/// A client over IPv6, masked.
#[inline(always)]
pub const fn client6(k: &Key, src: &[u32; 4]) -> u64 {
    let w = &k.words;
    let h = nh(src[0], w[4], src[1], w[5])
        .wrapping_add(nh(src[2], w[6], src[3], w[7]))
        .wrapping_add(nh(CLIENT, w[0], 0, w[1]));
    finish(h, k.last)
}

/// The word of a client's affinity to one service in `FLOWS`: `port` and `proto` as for [`flow4`]'s.
#[inline(always)]
pub const fn affinity(k: &Key, client: u64, vip: u64, port: u32, proto: u32) -> u64 {
    finish(
        client ^ vip.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ nh(port, k.words[2], proto | CLIENT, k.words[5]),
        k.last,
    )
}

/// A fragmented packet over IPv4: `id` is its Identification.
#[inline(always)]
pub const fn fragment4(k: &Key, src: u32, dst: u32, id: u32, proto: u32) -> u64 {
    flow4(k, src, dst, id, proto | FRAGMENT)
}

/// A fragmented packet over IPv6.
#[inline(always)]
pub const fn fragment6(k: &Key, src: &[u32; 4], dst: &[u32; 4], id: u32, proto: u32) -> u64 {
    flow6(k, src, dst, id, proto | FRAGMENT)
}

/// The place of a hash in a ring of `len` places.
#[inline(always)]
pub const fn place(hash: u64, len: u32) -> u32 {
    (((hash >> 32) * len as u64) >> 32) as u32
}
