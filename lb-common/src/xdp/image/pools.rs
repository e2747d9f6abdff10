//! Different lists of backends, each with a table of its own.
use super::{MOST_POOLS, backend_key};
use crate::plan::{Backend, Forwarder};
use crate::xdp::ring::Seat;
use crate::xdp::{BackendKey, Numbers};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// The different pools, and which of them each service has.
pub(super) fn of(services: &[&Forwarder], numbers: &Numbers) -> (Vec<Vec<Seat>>, Vec<usize>) {
    let own = services.iter().map(|s| seats(s, numbers, |b| is_alive(s, b)));
    let mut chosen: Vec<Vec<Seat>> = own.collect();
    if chosen.iter().collect::<BTreeSet<_>>().len() > MOST_POOLS {
        // Machines that answer for one virtual IP or port and not for another, in more ways than there are tables: such
        // a machine counts as up for all of them until they agree again.
        let anywhere = alive_anywhere(services);
        let each = services.iter();
        chosen = each
            .map(|s| seats(s, numbers, |b| anywhere.contains(&backend_key(s, b.address))))
            .collect();
    }
    let mut pools: Vec<Vec<Seat>> = Vec::new();
    let mut by_service = Vec::new();
    for pool in chosen {
        let known = pools.iter().position(|p| *p == pool);
        by_service.push(known.unwrap_or(pools.len()));
        if known.is_none() {
            pools.push(pool);
        }
    }
    (pools, by_service)
}

/// Whether it may be sent packets: when it is up, and all with weight where none of these is (k0s's rule).
fn is_alive(service: &Forwarder, backend: &Backend) -> bool {
    let none = || !service.backends.iter().any(|b| b.weight > 0 && b.up);
    backend.up || (backend.weight > 0 && none())
}

fn alive_anywhere(services: &[&Forwarder]) -> BTreeSet<BackendKey> {
    let living = |s: &&Forwarder| -> Vec<BackendKey> {
        let alive = s.backends.iter().filter(|b| is_alive(s, b));
        alive.map(|b| backend_key(s, b.address)).collect()
    };
    services.iter().flat_map(living).collect()
}

fn seats(service: &Forwarder, numbers: &Numbers, up: impl Fn(&Backend) -> bool) -> Vec<Seat> {
    let seat = |b: &Backend| {
        Some(Seat {
            address: b.address,
            number: numbers.backends.of(&backend_key(service, b.address))?,
            weight: b.weight,
            up: up(b),
        })
    };
    let mut seats: Vec<Seat> = service.backends.iter().filter_map(seat).collect();
    seats.sort_unstable();
    seats
}
