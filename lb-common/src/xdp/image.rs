//! The tables as bytes.
mod pools;
mod rows;

use super::numbers::Kept;
use super::{BackendKey, Numbers, Resolved};
use super::{ring, settled};
use crate::abi::tables::{BACKENDS, POOLS, SERVICES, VIPS};
use crate::abi::{Ring, Side};
use crate::plan::{Forwarder, Forwarding};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

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
/// Machines behind them; 0 is nobody.
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
    let (pools, by_service) = pools::of(&services, &next);
    let mut side = rows::empty(forwarding);
    rows::put_vips(&mut side, &services, resolved, &next)?;
    rows::put_services(&mut side, &services, &by_service, resolved, &next)?;
    rows::put_backends(&mut side, resolved, &next);
    rows::put_members(&mut side, &pools);
    let users = |pool: usize| {
        let all = services.iter().zip(&by_service);
        all.filter(move |(_, p)| **p == pool).map(|(s, _)| *s)
    };
    let tables = pools.into_iter().enumerate();
    next.rings = tables
        .map(|(i, pool)| kept(forwarding, pool, users(i), numbers))
        .collect();
    let rings = &next.rings;
    let in_force = services.iter().zip(&by_service);
    next.settled
        .hold(in_force.filter_map(|(s, pool)| Some((*s, rings.get(*pool)?.ring.clone()))));
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
        ("real servers", backends.len(), MOST_BACKENDS),
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
    }
}

/// The table of a pool: the one that was made before, if there is one.
fn kept<'a>(
    forwarding: &Forwarding,
    pool: Vec<ring::Seat>,
    users: impl Iterator<Item = &'a Forwarder>,
    before: &Numbers,
) -> Kept {
    let same = |k: &&Kept| k.key == forwarding.key && k.pool == pool;
    let known = before.rings.iter().find(same);
    let mut ring = match known {
        Some(known) => settled::bare(&known.ring),
        None => ring::ring(&forwarding.key, &pool),
    };
    before.settled.mark(&mut ring, users);
    match known {
        Some(known) if *known.ring == *ring => known.clone(),
        Some(_) | None => Kept {
            key: forwarding.key,
            ring: ring.into(),
            pool,
        },
    }
}

#[cfg(test)]
mod settled_tests;
#[cfg(test)]
mod tests;
