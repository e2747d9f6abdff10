//! A scene as the maps want it: what the daemon's own compiler does, done again here from the layouts alone.
use super::scene::{Scene, Vip};
use anyhow::{Context, Result};
use lb_common::abi::tables::{self, Backend, Ring, Service, Side};
use std::net::IpAddr;

/// How places are chosen for virtual IPs and services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// The first multiplier with which few places are looked at, as the daemon would.
    Usual,
    /// One with which the most are looked at, and some virtual IP's are counted round the end.
    Worst,
}

/// Numbers that multipliers are drawn from: odd, and well mixed.
fn multipliers() -> impl Iterator<Item = u64> {
    (1_u64..).map(|i| i.wrapping_mul(0x9fb2_1c65_1e98_df25) | 1)
}

/// The side.
pub fn side(scene: &Scene, places: Places) -> Result<Box<Side>> {
    let mut side = empty();
    side.key = scene.key;
    let vips: Vec<tables::Vip> = scene.vips.iter().map(|vip| self::vip(scene, vip)).collect();
    let services: Vec<Service> = scene.services.iter().map(|s| service(scene, s)).collect();
    let vip_first = |m: u64| move |v: &tables::Vip| tables::vip_place(v.hi, v.lo, m) as usize;
    let service_first = |m: u64| move |s: &Service| tables::service_place(s.key, m) as usize;
    let (m, probes, placed) = choose(places, tables::VIPS, &vips, vip_first)?;
    (side.vip_multiplier, side.vip_probes) = (m, probes);
    for (i, place) in placed.iter().enumerate() {
        side.vips[*place] = vips[i];
    }
    let (m, probes, placed) = choose(places, tables::SERVICES, &services, service_first)?;
    (side.service_multiplier, side.service_probes) = (m, probes);
    for (i, place) in placed.iter().enumerate() {
        side.services[*place] = services[i];
    }
    side.vip_count = u32::try_from(vips.len())?;
    for (number, backend) in &scene.backends {
        side.backends[usize::from(*number)] = self::backend(backend);
        for pool in 0..scene.pools.len() {
            side.members[pool][usize::from(*number)] = scene.member(pool, *number);
        }
    }
    Ok(side)
}

/// The ring of a pool.
pub fn ring(scene: &Scene, pool: usize) -> Box<Ring> {
    let mut ring = Box::new([0; tables::RING_ROOM]);
    for (place, number) in ring.iter_mut().take(tables::RING).enumerate() {
        *number = scene.ring(pool, u32::try_from(place).unwrap_or(0));
        if !scene.is_settled(pool) {
            *number |= tables::RING_MOVED;
        }
    }
    ring
}

/// A side that directs nothing.
pub fn empty() -> Box<Side> {
    Box::new(Side {
        vip_multiplier: 1,
        service_multiplier: 1,
        vip_count: 0,
        vip_probes: 1,
        service_probes: 1,
        zero: 0,
        key: Default::default(),
        vips: [Default::default(); tables::VIPS],
        services: [Default::default(); tables::SERVICES],
        backends: [Default::default(); tables::BACKENDS],
        members: [[0; tables::BACKENDS]; tables::POOLS],
    })
}

/// A multiplier, how many places are looked at with it, and the place of each item.
type Placed = (u64, u32, Vec<usize>);

/// So many multipliers are tried.
const TRIES: usize = 100_000;

fn choose<T, F: Fn(&T) -> usize>(
    places: Places,
    room: usize,
    items: &[T],
    first: impl Fn(u64) -> F,
) -> Result<Placed> {
    let tried = || {
        multipliers()
            .take(TRIES)
            .filter_map(|m| place(room, items, first(m)).map(|(n, placed)| (m, n, placed)))
    };
    // Four or more items are needed for four places.
    let most = u32::try_from(tables::PROBES.min(items.len()))?;
    let round_the_end = |first: usize, at: usize| at < first;
    let worst = |(m, n, placed): &Placed| {
        let firsts = items.iter().map(first(*m));
        *n >= most && firsts.zip(placed).any(|(first, at)| round_the_end(first, *at))
    };
    let found = match places {
        Places::Worst if items.len() > 1 => tried().find(worst),
        Places::Worst | Places::Usual => tried().find(|(_, n, _)| *n == 1),
    };
    found
        .or_else(|| tried().next())
        .with_context(|| format!("no multiplier will do for {} in {room}", items.len()))
}

/// Each item at its first place or one of the three behind it.
fn place<T>(room: usize, items: &[T], first: impl Fn(&T) -> usize) -> Option<(u32, Vec<usize>)> {
    let mut placed: Vec<usize> = Vec::new();
    let mut most = 1;
    for item in items {
        let first = first(item);
        let probe = (0..tables::PROBES).find(|i| !placed.contains(&((first + i) % room)))?;
        placed.push((first + probe) % room);
        most = most.max(u32::try_from(probe).ok()? + 1);
    }
    Some((most, placed))
}

/// An address as two halves, the way they lie in a packet.
fn halves(address: IpAddr) -> (u64, u64) {
    match address {
        IpAddr::V4(ip) => (tables::IPV4, u32::from_ne_bytes(ip.octets()).into()),
        IpAddr::V6(ip) => {
            let bytes = u128::from_ne_bytes(ip.octets()).to_ne_bytes();
            let half = |at| u64::from_ne_bytes(std::array::from_fn(|i| bytes[at + i]));
            (half(0), half(8))
        }
    }
}

fn vip(scene: &Scene, vip: &Vip) -> tables::Vip {
    let (hi, lo) = halves(vip.address);
    let any = scene.services.iter().any(|s| s.vip == vip.index && s.port == 0);
    tables::Vip {
        hi,
        lo,
        vlan: vip.vlans.iter().fold(0, |tags, id| tags << 16 | u32::from(*id)),
        index: vip.index,
        flags: if any { tables::VIP_ANY_PORT } else { 0 },
        mac: vip.mac,
        pad: [0; 2],
    }
}

fn service(scene: &Scene, s: &super::scene::Service) -> Service {
    let v4 = scene.vips.iter().any(|v| v.index == s.vip && v.address.is_ipv4());
    let (length, affinity) = s.affinity.unwrap_or((0, 0));
    let mask = if v4 {
        let bits = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        IpAddr::V4(bits.into())
    } else {
        let bits = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        IpAddr::V6(bits.into())
    };
    let (mask_hi, mask_lo) = halves(mask);
    Service {
        key: tables::service_key(s.vip, s.protocol, s.port.to_be()),
        pool: u32::try_from(s.pool).unwrap_or(u32::MAX),
        flags: s.affinity.map_or(0, |_| tables::SERVICE_AFFINITY),
        affinity,
        stats: s.stats,
        mask_hi: if v4 { 0 } else { mask_hi },
        mask_lo,
    }
}

fn backend(b: &super::scene::Backend) -> Backend {
    let words = |address: IpAddr| {
        let mut bytes = [0; 16];
        match address {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        std::array::from_fn(|i| u32::from_ne_bytes(std::array::from_fn(|j| bytes[4 * i + j])))
    };
    let (outer_src, outer_dst) = b
        .tunnel
        .map_or_else(Default::default, |(a, z)| (words(a), words(z)));
    Backend {
        flags: b.flags,
        ifindex: b.ifindex,
        mac: b.mac,
        src_mac: b.src_mac,
        mtu: b.mtu,
        pad: [0; 2],
        outer_src,
        outer_dst,
    }
}
