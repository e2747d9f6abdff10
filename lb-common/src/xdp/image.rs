//! The tables as bytes.
use super::numbers::Kept;
use super::place::arrange;
use super::ring::{self, Seat};
use super::{BackendKey, Hop, Numbers, Reach, Resolved};
use crate::abi::flow::STAMPS;
use crate::abi::tables::{
    BACKEND_ALIVE, BACKEND_LOCAL, BACKEND_NEW, BACKEND_REACHABLE, BACKEND_TUNNEL4, BACKEND_TUNNEL6, BACKENDS,
    IPV4, POOLS, PROBES, SERVICE_AFFINITY, SERVICES, VIP_ANY_PORT, VIPS, service_key, service_place,
    vip_place,
};
use crate::abi::{Backend, Ring, Service, Side, Vip};
use crate::model::{Persistence, ServiceKey};
use crate::plan::{Forwarder, Forwarding, Method};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

/// More than the tables hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the XDP datapath takes at most {most} {what}, but there are {count}")]
pub struct TooMany {
    /// In the plural: `virtual IPs`.
    pub what: &'static str,
    /// How many there are.
    pub count: usize,
    /// How many there may be.
    pub most: usize,
}

/// Virtual IPs with virtual servers. Half the places, so that a multiplier is found.
pub const MOST_VIPS: usize = VIPS / 2;
/// Virtual servers; for the same reason.
pub const MOST_SERVICES: usize = SERVICES / 2;
/// Real servers, each address once for each port; 0 is nobody.
pub const MOST_BACKENDS: usize = BACKENDS - 1;
/// Different lists of real servers.
pub const MOST_POOLS: usize = POOLS;

/// What goes into the maps.
#[derive(Clone, Debug)]
pub struct Image {
    /// `SIDES[side]`.
    pub side: Box<Side>,
    /// `RINGS[side * POOLS + i]`. A table that is the same as in an earlier image is the same allocation
    /// ([`Arc::ptr_eq`]), so that it need not be written again.
    pub rings: Vec<Arc<Ring>>,
    /// Numbers that had another backend before: their `BACKEND_STATS` are to be set to 0.
    pub new_backends: Vec<u16>,
    /// The same of `SERVICE_STATS`.
    pub new_services: Vec<u16>,
}

/// Makes the tables.
///
/// # Errors
/// When they do not hold so much; `numbers` is then as it was.
pub fn compile(
    forwarding: &Forwarding,
    resolved: &Resolved,
    numbers: &mut Numbers,
) -> Result<Image, TooMany> {
    // A virtual server whose address is not held is not directed.
    let services: Vec<&Forwarder> = (forwarding.services.values())
        .filter(|s| forwarding.vips.contains_key(&s.key.address))
        .collect();
    check(services.iter().copied())?;
    let mut next = numbers.clone();
    let keys = services
        .iter()
        .flat_map(|s| s.backends.iter().map(|b| backend_key(s, b.address)));
    let new_backends = next.backends.hold(&keys.collect());
    let new_services = next.services.hold(&services.iter().map(|s| s.key).collect());
    next.vips.hold(&services.iter().map(|s| s.key.address).collect());
    let (pools, by_service) = pools(&services, &next);
    let mut side = empty(forwarding);
    put_vips(&mut side, &services, resolved, &next)?;
    put_services(&mut side, &services, &by_service, resolved, &next)?;
    put_backends(&mut side, &services, resolved, &next);
    next.rings = pools
        .into_iter()
        .map(|pool| kept(forwarding, pool, numbers))
        .collect();
    *numbers = next;
    Ok(Image {
        side,
        rings: numbers.rings.iter().map(|k| k.ring.clone()).collect(),
        new_backends,
        new_services,
    })
}

/// Whether the tables hold these virtual servers, whatever the health of their real servers.
///
/// # Errors
/// When there is too much of anything.
pub fn check<'a>(services: impl Iterator<Item = &'a Forwarder>) -> Result<(), TooMany> {
    let (mut vips, mut keys) = (BTreeSet::new(), BTreeSet::new());
    let (mut backends, mut pools) = (BTreeSet::new(), BTreeSet::new());
    for s in services {
        vips.insert(s.key.address);
        keys.insert(s.key);
        let pool: BTreeMap<BackendKey, u32> = s
            .backends
            .iter()
            .map(|b| (backend_key(s, b.address), b.weight))
            .collect();
        backends.extend(pool.keys().copied());
        pools.insert(pool);
    }
    for (what, count, most) in [
        ("virtual IPs with virtual servers", vips.len(), MOST_VIPS),
        ("virtual servers", keys.len(), MOST_SERVICES),
        (
            "real servers (each address counts once for each port)",
            backends.len(),
            MOST_BACKENDS,
        ),
        ("different lists of real servers", pools.len(), MOST_POOLS),
    ] {
        if count > most {
            return Err(TooMany { what, count, most });
        }
    }
    Ok(())
}

const fn backend_key(service: &Forwarder, address: IpAddr) -> BackendKey {
    BackendKey {
        address,
        method: service.method,
        protocol: service.key.protocol,
        port: service.key.port,
    }
}

/// Who may be sent packets: those that are up, and all with weight where none of these is (k0s's rule).
fn alive(service: &Forwarder) -> impl Iterator<Item = (IpAddr, bool)> {
    let none = !service.backends.iter().any(|b| b.weight > 0 && b.up);
    service
        .backends
        .iter()
        .map(move |b| (b.address, b.up || (none && b.weight > 0)))
}

/// The different pools, and which of them each service has.
fn pools(services: &[&Forwarder], numbers: &Numbers) -> (Vec<Vec<Seat>>, Vec<usize>) {
    let exact: Vec<Vec<Seat>> = services
        .iter()
        .map(|s| seats(s, numbers, &alive(s).collect()))
        .collect();
    let different: BTreeSet<&Vec<Seat>> = exact.iter().collect();
    let chosen = if different.len() <= MOST_POOLS {
        exact
    } else {
        // One port of a machine answers for one virtual IP and not for another, in more ways than there are tables:
        // such a machine counts as up for all of them until they agree again.
        let anywhere = alive_anywhere(services);
        let up = |s: &Forwarder| -> BTreeMap<IpAddr, bool> {
            let keys = s.backends.iter().map(|b| (b.address, backend_key(s, b.address)));
            keys.map(|(a, k)| (a, anywhere.contains(&k))).collect()
        };
        services.iter().map(|s| seats(s, numbers, &up(s))).collect()
    };
    let mut pools: Vec<Vec<Seat>> = Vec::new();
    let by_service = chosen.into_iter().map(|pool| {
        pools.iter().position(|p| *p == pool).unwrap_or_else(|| {
            pools.push(pool);
            pools.len() - 1
        })
    });
    let by_service = by_service.collect();
    (pools, by_service)
}

fn seats(service: &Forwarder, numbers: &Numbers, up: &BTreeMap<IpAddr, bool>) -> Vec<Seat> {
    let seat = |b: &crate::plan::Backend| {
        Some(Seat {
            address: b.address,
            number: numbers.backends.of(&backend_key(service, b.address))?,
            weight: b.weight,
            up: up.get(&b.address).copied().unwrap_or(false),
        })
    };
    let mut seats: Vec<Seat> = service.backends.iter().filter_map(seat).collect();
    seats.sort_unstable();
    seats
}

fn alive_anywhere(services: &[&Forwarder]) -> BTreeSet<BackendKey> {
    let each = services
        .iter()
        .flat_map(|s| alive(s).map(move |(a, up)| (backend_key(s, a), up)));
    each.filter(|(_, up)| *up).map(|(key, _)| key).collect()
}

fn kept(forwarding: &Forwarding, pool: Vec<Seat>, before: &Numbers) -> Kept {
    let same = |k: &&Kept| k.key == forwarding.key && k.pool == pool;
    before.rings.iter().find(same).cloned().unwrap_or_else(|| Kept {
        key: forwarding.key,
        ring: ring::ring(&forwarding.key, &pool).into(),
        pool,
    })
}

fn empty(forwarding: &Forwarding) -> Box<Side> {
    Box::new(Side {
        vip_multiplier: 1,
        service_multiplier: 1,
        vip_count: 0,
        vip_probes: 1,
        service_probes: 1,
        pad: 0,
        key: forwarding.key,
        vips: [Vip::default(); VIPS],
        services: [Service::default(); SERVICES],
        backends: [Backend::default(); BACKENDS],
    })
}

fn put_vips(
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

fn put_services(
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

fn put_backends(side: &mut Side, services: &[&Forwarder], resolved: &Resolved, numbers: &Numbers) {
    let living = alive_anywhere(services);
    let takes_new: BTreeSet<BackendKey> = (services.iter())
        .flat_map(|s| {
            s.backends
                .iter()
                .filter(|b| b.weight > 0)
                .map(|b| backend_key(s, b.address))
        })
        .collect();
    for (number, key) in numbers.backends() {
        let reach = resolved
            .backends
            .get(&(key.address, key.method))
            .copied()
            .unwrap_or_default();
        let mut backend = way(key, reach);
        if living.contains(key) {
            backend.flags |= BACKEND_ALIVE;
        }
        if takes_new.contains(key) {
            backend.flags |= BACKEND_NEW;
        }
        side.backends[usize::from(number)] = backend;
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
#[cfg(test)]
mod tests;
