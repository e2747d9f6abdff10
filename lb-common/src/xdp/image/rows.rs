//! One row of each table.
use super::TooMany;
use crate::abi::flow::STAMPS;
use crate::abi::tables::{
    BACKEND_LOCAL, BACKEND_REACHABLE, BACKEND_TUNNEL4, BACKEND_TUNNEL6, BACKENDS, IPV4, MEMBER_ALIVE,
    MEMBER_NEW, POOLS, PROBES, SERVICE_AFFINITY, SERVICES, VIP_ANY_PORT, VIPS, service_key, service_place,
    vip_place,
};
use crate::abi::{Backend, Service, Side, Vip};
use crate::model::{Persistence, ServiceKey};
use crate::plan::{Forwarder, Forwarding, Method};
use crate::xdp::place::arrange;
use crate::xdp::ring::Seat;
use crate::xdp::{BackendKey, Hop, Numbers, Reach, Resolved};
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

pub(super) fn empty(forwarding: &Forwarding) -> Box<Side> {
    Box::new(Side {
        vip_multiplier: 1,
        service_multiplier: 1,
        vip_count: 0,
        vip_probes: 1,
        service_probes: 1,
        zero: 0,
        key: forwarding.key,
        vips: [Vip::default(); VIPS],
        services: [Service::default(); SERVICES],
        backends: [Backend::default(); BACKENDS],
        members: [[0; BACKENDS]; POOLS],
    })
}

pub(super) fn put_vips(
    side: &mut Side,
    services: &[&Forwarder],
    resolved: &Resolved,
    numbers: &Numbers,
) -> Result<(), TooMany> {
    // One whose interface is not known gets no frame.
    let mut vips: BTreeMap<IpAddr, Vip> = BTreeMap::new();
    for s in services {
        let address = s.key.address;
        let (Some(face), Some(index)) = (resolved.vips.get(&address), numbers.vips.of(&address)) else {
            continue;
        };
        let (hi, lo) = halves(address);
        let vip = vips.entry(address).or_insert(Vip {
            hi,
            lo,
            vlan: face.vlan,
            index,
            mac: face.mac.0,
            ..Vip::default()
        });
        if s.key.port == 0 {
            vip.flags |= VIP_ANY_PORT;
        }
    }
    let vips: Vec<Vip> = vips.into_values().collect();
    let key = |i: usize| vips.get(i).map_or((0, 0), |v| (v.hi, v.lo));
    let home = |i: usize, multiplier| vip_place(key(i).0, key(i).1, multiplier);
    let found = arrange(vips.len(), VIPS, home).ok_or(TooMany {
        what: "virtual IPs with one hash",
        count: vips.len(),
        most: PROBES,
    })?;
    (side.vip_multiplier, side.vip_probes) = (found.multiplier, found.probes);
    side.vip_count = vips.len() as u32;
    for (vip, place) in vips.into_iter().zip(found.places) {
        side.vips[place] = vip;
    }
    Ok(())
}

pub(super) fn put_services(
    side: &mut Side,
    services: &[&Forwarder],
    pools: &[usize],
    resolved: &Resolved,
    numbers: &Numbers,
) -> Result<(), TooMany> {
    let rows = services.iter().zip(pools);
    let rows: Vec<Service> = rows
        .filter_map(|(s, pool)| service(s, *pool, resolved.stamp, numbers))
        .collect();
    let home = |i: usize, multiplier| service_place(rows.get(i).map_or(0, |s| s.key), multiplier);
    let found = arrange(rows.len(), SERVICES, home).ok_or(TooMany {
        what: "virtual servers with one hash",
        count: rows.len(),
        most: PROBES,
    })?;
    (side.service_multiplier, side.service_probes) = (found.multiplier, found.probes);
    for (row, place) in rows.into_iter().zip(found.places) {
        side.services[place] = row;
    }
    Ok(())
}

fn service(s: &Forwarder, pool: usize, stamp: Duration, numbers: &Numbers) -> Option<Service> {
    let ServiceKey {
        address,
        port,
        protocol,
    } = s.key;
    let index = numbers.vips.of(&address)?;
    let (mask_hi, mask_lo) = s.affinity.map_or((0, 0), |p| mask(address, p.granularity));
    Some(Service {
        key: service_key(index, protocol.number(), port.to_be()),
        pool: pool as u32,
        flags: if s.affinity.is_some() { SERVICE_AFFINITY } else { 0 },
        affinity: s.affinity.map_or(0, |p| units(p, stamp)),
        stats: numbers.services.of(&s.key)?.into(),
        mask_hi,
        mask_lo,
    })
}

/// A timeout in units of a stamp, rounded up. More than stamps can tell apart is as much as they can: about two hours.
fn units(persistence: Persistence, stamp: Duration) -> u32 {
    let unit = stamp.as_millis().max(1);
    let units = persistence.timeout.as_millis().div_ceil(unit);
    units.clamp(1, u128::from(STAMPS - 1)) as u32
}

/// How each is reached.
pub(super) fn put_backends(side: &mut Side, resolved: &Resolved, numbers: &Numbers) {
    for (number, key) in numbers.backends() {
        let reach = resolved.backends.get(&(key.address, key.method));
        side.backends[usize::from(number)] = way(key, reach.copied().unwrap_or_default());
    }
}

/// What each is to each pool.
pub(super) fn put_members(side: &mut Side, pools: &[Vec<Seat>]) {
    for (members, pool) in side.members.iter_mut().zip(pools) {
        for seat in pool {
            let alive = if seat.up { MEMBER_ALIVE } else { 0 };
            let new = if seat.weight > 0 { MEMBER_NEW } else { 0 };
            members[usize::from(seat.number)] = alive | new;
        }
    }
}

/// How to get there; without a flag where that is not known.
fn way(key: &BackendKey, reach: Reach) -> Backend {
    let hop = match reach {
        Reach::Unresolved => return Backend::default(),
        Reach::Local => {
            return Backend {
                flags: BACKEND_LOCAL | BACKEND_REACHABLE,
                ..Backend::default()
            };
        }
        Reach::OnLink(hop) => hop,
    };
    let mut backend = Backend {
        flags: BACKEND_REACHABLE,
        ifindex: hop.ifindex,
        mac: hop.mac.0,
        src_mac: hop.src_mac.0,
        mtu: hop.mtu,
        ..Backend::default()
    };
    if key.method == Method::Tunnel && !wrap(&mut backend, key.address, &hop) {
        return Backend::default();
    }
    backend
}

/// The outer header's addresses; false without a source of the family.
fn wrap(backend: &mut Backend, to: IpAddr, hop: &Hop) -> bool {
    let (flag, source) = match (hop.source, to) {
        (Some(s @ IpAddr::V4(_)), IpAddr::V4(_)) => (BACKEND_TUNNEL4, s),
        (Some(s @ IpAddr::V6(_)), IpAddr::V6(_)) => (BACKEND_TUNNEL6, s),
        _ => return false,
    };
    backend.flags |= flag;
    backend.outer_src = words(source);
    backend.outer_dst = words(to);
    true
}

/// As in a packet, read in native words; an IPv4 address in the first.
fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(a) => [a.to_bits().to_be(), 0, 0, 0],
        IpAddr::V6(a) => core::array::from_fn(|i| ((a.to_bits() >> (96 - 32 * i)) as u32).to_be()),
    }
}

/// As [`Vip`] has an address.
fn halves(address: IpAddr) -> (u64, u64) {
    match address {
        IpAddr::V4(a) => (IPV4, a.to_bits().to_be().into()),
        IpAddr::V6(a) => (((a.to_bits() >> 64) as u64).to_be(), (a.to_bits() as u64).to_be()),
    }
}

/// The leading bits that make clients one, as [`Vip`] has an address; the high half of IPv4 is unused.
fn mask(address: IpAddr, bits: u8) -> (u64, u64) {
    match address {
        IpAddr::V4(_) => {
            let ones = u32::MAX.checked_shl(32 - u32::from(bits.min(32))).unwrap_or(0);
            (0, ones.to_be().into())
        }
        IpAddr::V6(_) => {
            let ones = u128::MAX.checked_shl(128 - u32::from(bits.min(128))).unwrap_or(0);
            halves(IpAddr::V6(ones.into()))
        }
    }
}
