//! The layouts of the maps.
use super::hash::Key;

/// Places for virtual IPs, a power of two.
pub const VIPS: usize = 512;
/// Places for services, a power of two.
pub const SERVICES: usize = 1024;
/// Backends, a power of two; 0 is nobody. Their numbers are kept over changes, since flows remember them.
pub const BACKENDS: usize = 512;
/// Different sets of backends, a power of two.
pub const POOLS: usize = 32;
/// Places of a Maglev table: prime, so that every step visits them all.
pub const RING: usize = 16381;
/// The same, rounded up to a power of two for the verifier.
pub const RING_ROOM: usize = 16384;
/// The most places that are looked at for one virtual IP or service. The loader chooses a multiplier with which
/// fewer are enough, nearly always one.
pub const PROBES: usize = 4;

/// `hi` of an IPv4 address; no IPv6 unicast address begins so.
pub const IPV4: u64 = u64::MAX;

/// A virtual IP that this node directs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vip {
    /// Bytes 0-7 of an IPv6 address, or [`IPV4`]. 0 with `lo` 0: an empty place.
    pub hi: u64,
    /// Bytes 8-15, or the IPv4 address in the low half.
    pub lo: u64,
    /// The VLAN identifiers of its interface, as the program reads them from tags: outer << 16 | inner; one tag: its
    /// identifier alone; 0: untagged, or tagged for a priority only.
    pub vlan: u32,
    /// Its number, which services name.
    pub index: u16,
    /// [`VIP_ANY_PORT`]
    pub flags: u16,
    /// MAC address of its interface: frames to another one are not for us.
    pub mac: [u8; 6],
    /// 0: the program compares it with the address.
    pub pad: [u8; 2],
}

/// Some service of this virtual IP has port 0, every port.
pub const VIP_ANY_PORT: u16 = 1;

/// A virtual server.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// [`service_key`]; 0: an empty place.
    pub key: u64,
    /// Which of [`POOLS`].
    pub pool: u32,
    /// [`SERVICE_AFFINITY`]
    pub flags: u32,
    /// Source affinity: so many units of a stamp after its last packet a client may be moved. 0: the table alone.
    pub affinity: u32,
    /// Its place in `SERVICE_STATS`, kept over changes.
    pub stats: u32,
    /// Of the client's address, what affinity goes by; as in [`Vip`] (`hi` is unused for IPv4).
    pub mask_hi: u64,
    /// The other half.
    pub mask_lo: u64,
}

/// Clients keep their backend: the ring goes by the source address alone.
pub const SERVICE_AFFINITY: u32 = 1;

/// Where packets go.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backend {
    /// `BACKEND_*`.
    pub flags: u32,
    /// Interface to send from.
    pub ifindex: u32,
    /// The backend's MAC address, or that of the next hop to it.
    pub mac: [u8; 6],
    /// MAC address of the interface to send from.
    pub src_mac: [u8; 6],
    /// Tunnel: the longest IP packet that the interface takes, the outer header included.
    pub mtu: u32,
    /// 0.
    pub pad: [u32; 2],
    /// Tunnel: outer source, as in the packet; an IPv4 address in the first four bytes.
    pub outer_src: [u32; 4],
    /// Tunnel: outer destination.
    pub outer_dst: [u32; 4],
}

/// It is this node.
pub const BACKEND_LOCAL: u32 = 4;
/// Its MAC address is known.
pub const BACKEND_REACHABLE: u32 = 8;
/// Through a tunnel with an outer IPv4 header.
pub const BACKEND_TUNNEL4: u32 = 16;
/// Through a tunnel with an outer IPv6 header.
pub const BACKEND_TUNNEL6: u32 = 32;

/// What a backend is to a pool, in [`Side::members`]: it lives, and packets of flows that it has go there. Without it
/// the flow is moved. It is kept by pool because a node may serve one port and not another.
pub const MEMBER_ALIVE: u8 = 1;
/// It takes new flows; without it, it drains.
pub const MEMBER_NEW: u8 = 2;

/// Everything but the rings. One lookup gives all of it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    /// Multiplier of [`vip_place`].
    pub vip_multiplier: u64,
    /// Multiplier of [`service_place`].
    pub service_multiplier: u64,
    /// Virtual IPs; 0: nothing is directed.
    pub vip_count: u32,
    /// How many places are looked at for a virtual IP, 1 to [`PROBES`].
    pub vip_probes: u32,
    /// How many places are looked at for a service, 1 to [`PROBES`].
    pub service_probes: u32,
    /// 0. The program adds it to numbers of which the verifier is to know less.
    pub zero: u32,
    /// The hash's.
    pub key: Key,
    /// By [`vip_place`] and the places after it, round the end.
    pub vips: [Vip; VIPS],
    /// By [`service_place`] and the places after it, round the end.
    pub services: [Service; SERVICES],
    /// By number: how a backend is reached.
    pub backends: [Backend; BACKENDS],
    /// By pool and by backend's number: `MEMBER_*`. 0: it is none of this pool's.
    pub members: [[u8; BACKENDS]; POOLS],
}

/// In a place of a [`Ring`]: it has not always been this backend's since the flow table began. A SYN at any other place
/// goes where every word that its flow may have left goes, so it need not look: that spares it a line of memory.
pub const RING_MOVED: u16 = 1 << 15;

/// A Maglev table: the backend's number at each place, and [`RING_MOVED`]. Places from [`RING`] on are unused. 0: nobody.
pub type Ring = [u16; RING_ROOM];

/// What went one way, on one processor.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// Bytes of frames as they came.
    pub bytes: u64,
    /// TCP SYNs, and packets of UDP flows that were not known.
    pub new_flows: u64,
    /// Of the packets, those that a word of their own flow sent to its backend: neither the ring nor the client's
    /// affinity was asked.
    pub remembered: u64,
}

/// Where a virtual IP is looked for first.
#[inline(always)]
pub const fn vip_place(hi: u64, lo: u64, multiplier: u64) -> u32 {
    const BITS: u32 = VIPS.trailing_zeros();
    ((hi.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ lo).wrapping_mul(multiplier) >> (64 - BITS)) as u32
}

/// A service's key: the number of its virtual IP, the protocol, and the port as it is in the packet. Never 0, since no
/// protocol that is balanced is 0.
#[inline(always)]
pub const fn service_key(vip: u16, proto: u8, port: u16) -> u64 {
    (vip as u64) << 32 | (proto as u64) << 16 | port as u64
}

/// Where a service is looked for first.
#[inline(always)]
pub const fn service_place(key: u64, multiplier: u64) -> u32 {
    const BITS: u32 = SERVICES.trailing_zeros();
    (key.wrapping_mul(multiplier) >> (64 - BITS)) as u32
}

const _: () = assert!(
    size_of::<Vip>() == 32
        && size_of::<Service>() == 40
        && size_of::<Backend>() == 64
        && RING <= RING_ROOM
        && VIPS.is_power_of_two()
        && SERVICES.is_power_of_two()
        && BACKENDS.is_power_of_two()
        && POOLS.is_power_of_two(),
    "the program's masks rely on it"
);
