//! A hash table without a search: the multiplier of its hash is chosen so that every key is at its first place, or at
//! one of the few after it that the program looks at.
use crate::abi::tables::PROBES;
use alloc::vec::Vec;

/// Where each key goes.
pub(super) struct Arrangement {
    /// Of the hash.
    pub(super) multiplier: u64,
    /// How many places have to be looked at, 1 to [`PROBES`].
    pub(super) probes: u32,
    /// By key.
    pub(super) places: Vec<usize>,
}

/// So many multipliers are tried for fewer looks than [`PROBES`].
const TRIES_FOR_FEWER: u64 = 32;
/// So many are tried at all. Of keys that fill half the table, one in about twenty does.
const TRIES: u64 = 20_000;

/// Finds a multiplier for `keys` keys in `size` places (a power of two); `home` says where a key is looked for first.
/// `None` where there is none, which takes more keys than half the places, or many with one hash.
pub(super) fn arrange(keys: usize, size: usize, home: impl Fn(usize, u64) -> u32) -> Option<Arrangement> {
    let mut best: Option<Arrangement> = None;
    for attempt in 0..TRIES {
        let multiplier = candidate(attempt);
        let homes: Vec<usize> = (0..keys).map(|k| home(k, multiplier) as usize).collect();
        let (places, probes) = settle(&homes, size)?;
        if best.as_ref().is_none_or(|b| probes < b.probes) {
            best = Some(Arrangement {
                multiplier,
                probes,
                places,
            });
        }
        let found = best.as_ref().map_or(u32::MAX, |b| b.probes);
        if found == 1 || (attempt >= TRIES_FOR_FEWER && found as usize <= PROBES) {
            break;
        }
    }
    best.filter(|b| b.probes as usize <= PROBES)
}

/// Odd, with its bits well mixed: the golden ratio's multiples, each a full period apart.
const fn candidate(attempt: u64) -> u64 {
    let mut h = (attempt + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    h = (h ^ (h >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (h ^ (h >> 32)) | 1
}

/// Each key at the first free place from its home on, round the end, in the order of homes: no other order has a shorter
/// longest way. With it, the longest way in places looked at. `None` for more keys than places.
fn settle(homes: &[usize], size: usize) -> Option<(Vec<usize>, u32)> {
    if homes.len() > size {
        return None;
    }
    let mut order: Vec<usize> = (0..homes.len()).collect();
    order.sort_unstable_by_key(|k| homes.get(*k).copied());
    let mut places = homes.to_vec();
    let mut free = 0;
    let mut longest = 0;
    // What runs over the end in the first round takes the first places of the second, which is then right.
    for _ in 0..2 {
        free = free.max(size) - size;
        longest = 0;
        for key in &order {
            let home = homes.get(*key).copied()?;
            free = free.max(home);
            longest = longest.max(free - home);
            *places.get_mut(*key)? = free % size;
            free += 1;
        }
    }
    Some((places, u32::try_from(longest + 1).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::tables::{SERVICES, VIPS, service_key, service_place, vip_place};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn check(homes: &[usize], size: usize) -> Result<(), TestCaseError> {
        let (places, probes) = settle(homes, size).unwrap();
        prop_assert_eq!(
            places.iter().collect::<BTreeSet<_>>().len(),
            homes.len(),
            "no two share a place"
        );
        let ways = || homes.iter().zip(&places).map(|(h, p)| (p + size - h) % size);
        prop_assert_eq!(ways().max().map_or(1, |w| w + 1), probes as usize);
        // Nobody stands behind a free place, so a search that ends at one would be right too.
        for (home, way) in homes.iter().zip(ways()) {
            for step in 0..way {
                prop_assert!(places.contains(&((home + step) % size)));
            }
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn everybody_settles_near_home(homes in prop::collection::vec(0usize..16, 0..=16)) {
            check(&homes, 16)?;
        }
    }

    #[test]
    fn half_a_table_is_always_arranged() {
        for n in [0, 1, 3, 10, 50, 128, VIPS / 2] {
            let key = |k: usize| u64::from(u32::from_ne_bytes([10, 0, (k / 256) as u8, (k % 256) as u8]));
            let v4 = arrange(n, VIPS, |k, m| vip_place(u64::MAX, key(k), m)).unwrap();
            assert!(
                v4.probes as usize <= PROBES && (n > 10 || v4.probes == 1),
                "{n}: {}",
                v4.probes
            );
            let v6 = arrange(n, VIPS, |k, m| vip_place(0xb80d_0120, (k as u64 + 1) << 56, m)).unwrap();
            assert!(v6.probes as usize <= PROBES, "{n}: {}", v6.probes);
        }
        for n in [1, 10, 100, SERVICES / 2] {
            let key = |k: usize| service_key((k % 255) as u16, 6, (6443 + k / 255) as u16);
            let services = arrange(n, SERVICES, |k, m| service_place(key(k), m)).unwrap();
            assert!(services.probes as usize <= PROBES && (n > 10 || services.probes == 1));
        }
    }

    #[test]
    fn what_cannot_be_arranged_is_said_so() {
        assert!(arrange(PROBES + 1, VIPS, |_, _| 7).is_none());
        assert!(arrange(VIPS + 1, VIPS, |k, _| (k % VIPS) as u32).is_none());
    }
}
