//! The table of a pool: Maglev over those that are configured, with the places of those that are down lent to others.
//!
//! A backend that fails its checks keeps its places in the base table. Each of them is lent to the living backend that
//! comes first at this place: which one that is depends on the place and on each backend by itself, not on who else is
//! up. So going down moves exactly the flows of what went down, and coming back moves exactly those back, however many
//! are down at the time and in whichever order they go.
//!
//! The one that comes first is found as by weighted sampling (Efraimidis and Spirakis 2006): a backend reaches the k-th
//! of the places in its own order after about -ln(1 - k / places) / weight, and the earliest has it. So lent places are
//! shared by weight as well, up to chance.
use super::maglev::{self, Member, NOBODY};
use crate::abi::Ring;
use crate::abi::hash::Key;
use crate::abi::tables::{RING, RING_ROOM};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

/// A backend of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// Its own address, by which it is known in a pool.
    pub address: IpAddr,
    /// Its number; never 0.
    pub number: u16,
    /// Its share; 0: no places.
    pub weight: u32,
    /// Whether it takes packets.
    pub up: bool,
}

/// The numbers at the places of a pool's table; 0 everywhere when nobody has weight. Where none of those with weight is
/// up they all count as up: checks that all fail must not take the address away (k0s's rule).
pub fn ring(key: &Key, pool: &[Seat]) -> Box<Ring> {
    let mut pool = pool.to_vec();
    pool.sort_unstable();
    let pool = pool.as_slice();
    let members: Vec<Member> = pool
        .iter()
        .map(|s| Member {
            address: s.address,
            weight: s.weight,
        })
        .collect();
    let mut table = maglev::table(key, &members);
    let living: Vec<(u16, &Seat)> = (0u16..).zip(pool).filter(|(_, s)| s.weight > 0 && s.up).collect();
    let down = |member: u16| pool.get(usize::from(member)).is_some_and(|s| !s.up);
    if !living.is_empty() && table.iter().any(|m| down(*m)) {
        lend(key, &mut table, &living, down);
    }
    numbered(&table, pool)
}

/// Puts a living backend at each place whose own is down.
fn lend(key: &Key, table: &mut [u16], living: &[(u16, &Seat)], down: impl Fn(u16) -> bool) {
    let times = times();
    let mut first: Vec<(u64, u16)> = vec![(u64::MAX, NOBODY); RING];
    for (member, seat) in living {
        let slowness = SECOND / u64::from(seat.weight);
        for (wish, time) in maglev::wishes(key, seat.address).into_iter().zip(&times) {
            let arrival = u64::from(*time) * slowness;
            if let Some(best) = first.get_mut(usize::from(wish)).filter(|b| arrival < b.0) {
                *best = (arrival, *member);
            }
        }
    }
    for (place, (_, member)) in table.iter_mut().zip(first) {
        if down(*place) {
            *place = member;
        }
    }
}

/// A weight of 1 in fixed point.
const SECOND: u64 = 1 << 31;

/// When a backend of weight 1 reaches the k-th place of its order: 1/M + 1/(M-1) + ... up to k, in units of 2^-28.
fn times() -> Vec<u32> {
    let mut sum = 0;
    (1..=RING as u32)
        .rev()
        .map(|left| {
            sum += (1 << 28) / left;
            sum
        })
        .collect()
}

fn numbered(table: &[u16], pool: &[Seat]) -> Box<Ring> {
    let mut ring = Box::new([0; RING_ROOM]);
    for (place, member) in ring.iter_mut().zip(table) {
        *place = pool.get(usize::from(*member)).map_or(0, |s| s.number);
    }
    ring
}

const _: () = assert!(
    time_fits(),
    "the sum of 1/k up to the number of places, about 10.3, fits 32 bits"
);

const fn time_fits() -> bool {
    let mut sum: u64 = 0;
    let mut left = 1;
    while left <= RING as u64 {
        sum += (1 << 28) / left;
        left += 1;
    }
    sum <= u32::MAX as u64
}

#[cfg(test)]
mod tests;
