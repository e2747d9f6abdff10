//! Going down and coming back.
use super::*;
use crate::xdp::maglev::tests::{address, key};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn pool(weights: &[u32]) -> Vec<Seat> {
    let list = (0u16..).zip(weights);
    list.map(|(i, w)| Seat {
        address: address(usize::from(i)),
        number: i + 1,
        weight: *w,
        up: true,
    })
    .collect()
}

fn down(pool: &[Seat], which: &[usize]) -> Vec<Seat> {
    let mut pool = pool.to_vec();
    which.iter().for_each(|i| pool[*i].up = false);
    pool
}

fn shares(ring: &Ring) -> BTreeMap<u16, f64> {
    let mut shares = BTreeMap::new();
    for number in &ring[..RING] {
        *shares.entry(*number).or_insert(0.0) += 1.0 / RING as f64;
    }
    shares
}

#[test]
fn what_is_down_has_no_place_and_all_down_is_all_up() {
    let all = pool(&[1, 1, 1]);
    let shares_of = |which: &[usize]| shares(&ring(&key(1), &down(&all, which)));
    assert_eq!(shares_of(&[0]).into_keys().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(shares_of(&[0, 2]).into_keys().collect::<Vec<_>>(), [2]);
    assert_eq!(ring(&key(1), &down(&all, &[0, 1, 2])), ring(&key(1), &all));
    assert!(ring(&key(1), &all)[RING..].iter().all(|n| *n == 0));
}

#[test]
fn one_that_drains_has_no_place_and_is_no_help() {
    let all = pool(&[0, 1, 1]);
    let shares_of = |which: &[usize]| shares(&ring(&key(1), &down(&all, which)));
    assert_eq!(shares_of(&[]).into_keys().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(shares_of(&[1, 2]).into_keys().collect::<Vec<_>>(), [2, 3]);
    assert_eq!(
        shares(&ring(&key(1), &pool(&[0, 0])))
            .into_keys()
            .collect::<Vec<_>>(),
        [0]
    );
    assert_eq!(shares(&ring(&key(1), &[])).into_keys().collect::<Vec<_>>(), [0]);
}

#[test]
fn neither_the_order_nor_the_numbers_matter() {
    let all = down(&pool(&[1, 2, 3, 4, 4]), &[1, 3]);
    let wanted = ring(&key(9), &all);
    let mut other = all.clone();
    other.reverse();
    assert_eq!(ring(&key(9), &other), wanted);
    other.iter_mut().for_each(|s| s.number += 100);
    let renumbered = ring(&key(9), &other);
    assert!(
        wanted[..RING]
            .iter()
            .zip(&renumbered[..RING])
            .all(|(a, b)| a + 100 == *b)
    );
}

/// A walk through states of health: whatever changes, only the places of what changed move.
fn walk(seed: u64, weights: &[u32], steps: &[usize]) {
    let key = key(seed);
    let mut state = pool(weights);
    let mut before = ring(&key, &state);
    for step in steps {
        let which = step % state.len();
        state[which].up ^= true;
        let after = ring(&key, &state);
        let number = state[which].number;
        let living = |s: &[Seat]| s.iter().any(|s| s.up && s.weight > 0);
        let mut last = state.clone();
        last[which].up ^= true;
        if living(&state) && living(&last) {
            for (from, to) in before.iter().zip(after.iter()) {
                assert!(
                    from == to || *from == number || *to == number,
                    "{from} -> {to} as {number} changed"
                );
                assert!(from == to || state[which].up == (*to == number));
            }
        }
        before = after;
    }
}

#[test]
fn down_and_back_move_exactly_the_flows_of_what_went() {
    for seed in 0..20 {
        walk(seed, &[1, 1, 1], &[0, 1, 0, 2, 1, 0, 2, 0]);
        walk(seed, &[1, 2, 3, 100, 7], &[3, 0, 1, 3, 2, 0, 4, 3, 1, 2, 4]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_walk_moves_what_it_must(
        seed: u64,
        weights in prop::collection::vec(0u32..=20, 2..12),
        steps in prop::collection::vec(0usize..12, 1..8),
    ) {
        walk(seed, &weights, &steps);
    }

    #[test]
    fn lent_places_are_shared_by_weight(
        seed: u64,
        weights in prop::collection::vec(1u32..=100, 2..20),
        lost in prop::collection::vec(any::<bool>(), 20),
    ) {
        let which: Vec<usize> = (0..weights.len()).filter(|i| lost[*i]).collect();
        prop_assume!(which.len() < weights.len());
        let pool = down(&pool(&weights), &which);
        let total: u32 = pool.iter().filter(|s| s.up).map(|s| s.weight).sum();
        let shares = shares(&ring(&key(seed), &pool));
        for seat in pool.iter().filter(|s| s.up) {
            let wanted = f64::from(seat.weight) / f64::from(total);
            let share = shares.get(&seat.number).copied().unwrap_or(0.0);
            prop_assert!((share - wanted).abs() < 0.02, "{share} for {wanted}");
        }
    }
}
