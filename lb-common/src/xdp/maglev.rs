//! Weighted Maglev (Eisenbud et al., NSDI 2016, §3.4): a table in which each backend has exactly its share of the places,
//! and nearly the same places whoever else is there.
//!
//! Every backend has an order of its own in which it would like the places, made of the key and its address alone. They
//! take turns, a heavier one more often, and each takes the first place of its order that is still free. So the table
//! depends neither on the order in which backends are listed nor on anything that one node knows and another does not.
//!
//! Other than in the paper the orders are shuffles and not arithmetic progressions: two of those whose steps are alike
//! run side by side, which shows in what moves when a backend goes (1.2 % of the table beside the backend's own share
//! has been seen with ten, against 0.8 %).
use crate::abi::hash::Key;
use crate::abi::tables::RING;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::net::IpAddr;

/// A backend as the table knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// What its order is made of.
    pub address: IpAddr,
    /// Its share of the sum of all weights; 0: no place.
    pub weight: u32,
}

/// At a place of a table that has no members.
pub const NOBODY: u16 = u16::MAX;

/// Which of `members` (an index, [`NOBODY`] where no member has weight) has each of the [`RING`] places.
///
/// Members are told apart by their addresses; one that is listed twice counts with its first weight. At most `RING` of
/// them can have a place.
pub fn table(key: &Key, members: &[Member]) -> Vec<u16> {
    let mut places = vec![NOBODY; RING];
    let mut turns = turns(key, members);
    let quotas = quotas(&turns.iter().map(|t| t.weight).collect::<Vec<_>>());
    let most = quotas.iter().copied().max().unwrap_or(0);
    for _ in 0..most {
        for (turn, quota) in turns.iter_mut().zip(&quotas) {
            turn.credit += quota;
            if turn.credit < most {
                continue;
            }
            turn.credit -= most;
            // One is always found: what the order has passed is taken, and there are as many places as turns.
            for wish in turn.wishes.by_ref() {
                if let Some(place) = places.get_mut(usize::from(wish)).filter(|p| **p == NOBODY) {
                    *place = turn.member;
                    break;
                }
            }
        }
    }
    places
}

struct Turn {
    member: u16,
    weight: u32,
    wishes: vec::IntoIter<u16>,
    /// Grows by its quota each round; a turn costs the largest quota.
    credit: u32,
}

/// Those that get a place, in an order that all nodes agree on.
fn turns(key: &Key, members: &[Member]) -> Vec<Turn> {
    let mut list: Vec<(u64, IpAddr, u16, u32)> = (0u16..)
        .zip(members)
        .filter(|(_, m)| m.weight > 0)
        .map(|(i, m)| (seed(key, m.address), m.address, i, m.weight))
        .collect();
    list.sort_unstable();
    list.dedup_by_key(|(_, address, ..)| *address);
    list.into_iter()
        .map(|(seed, _, member, weight)| Turn {
            member,
            weight,
            wishes: shuffled(seed).into_iter(),
            credit: 0,
        })
        .collect()
}

/// How many places each weight gives: they add up to [`RING`], each is the exact share rounded up or down (largest
/// remainders up, earlier ones first), and what has weight has at least one. All 0 for no weight at all.
pub fn quotas(weights: &[u32]) -> Vec<u32> {
    let mut out = vec![0u32; weights.len()];
    let mut rising: Vec<usize> = (0..weights.len()).collect();
    rising.sort_by_key(|i| weights.get(*i).copied());
    let mut places = RING as u64;
    let mut total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    let mut rest = Vec::new();
    for i in rising {
        let weight = weights.get(i).map_or(0, |w| u64::from(*w));
        if weight > 0 && rest.is_empty() && weight * places < total {
            // Less than one place: it gets one, and the others share what is left.
            set(&mut out, i, 1);
            places = places.saturating_sub(1);
            total -= weight;
        } else if weight > 0 {
            rest.push((i, weight));
        }
    }
    if total == 0 {
        return out;
    }
    let mut left = places;
    for (i, weight) in &rest {
        let whole = weight * places / total;
        set(&mut out, *i, whole);
        left -= whole;
    }
    rest.sort_by_key(|(i, weight)| (Reverse(weight * places % total), *i));
    for ((i, _), _) in rest.iter().zip(0..left) {
        if let Some(quota) = out.get_mut(*i) {
            *quota += 1;
        }
    }
    out
}

fn set(list: &mut [u32], i: usize, value: u64) {
    if let Some(entry) = list.get_mut(i) {
        *entry = u32::try_from(value).unwrap_or(u32::MAX);
    }
}

/// The order in which the backend with this address wants the places.
pub(super) fn wishes(key: &Key, address: IpAddr) -> Vec<u16> {
    shuffled(seed(key, address))
}

/// A number of the key and the address, the same on every machine.
fn seed(key: &Key, address: IpAddr) -> u64 {
    let (high, low) = match address {
        IpAddr::V4(a) => (u64::MAX, u64::from(a.to_bits())),
        IpAddr::V6(a) => {
            let bits = a.to_bits();
            ((bits >> 64) as u64, bits as u64)
        }
    };
    let words = key.words.iter().map(|w| u64::from(*w)).chain([high, low]);
    words.fold(key.last, |state, word| next(state ^ word))
}

/// Fisher and Yates's shuffle of all places.
fn shuffled(seed: u64) -> Vec<u16> {
    const ALL: u16 = RING as u16;
    let mut list: Vec<u16> = (0..ALL).collect();
    let mut state = seed;
    for last in (1..RING).rev() {
        state = state.wrapping_add(STEP);
        // Any of 0 to `last`; those that come up more often do so by 2^-50.
        let other = ((next(state) >> 32) * (last as u64 + 1)) >> 32;
        list.swap(last, other as usize);
    }
    list
}

const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's step and finaliser (Steele, Lea, Flood 2014).
const fn next(state: u64) -> u64 {
    let mut h = state.wrapping_add(STEP);
    h = (h ^ (h >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ (h >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ (h >> 31)
}

const _: () = assert!(
    RING < NOBODY as usize,
    "a place, and a member for each, fit 16 bits"
);

#[cfg(test)]
pub(super) mod tests;
