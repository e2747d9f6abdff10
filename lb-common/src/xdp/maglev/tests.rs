//! What a table promises: exact shares, few moves, and the same table for everybody.
use super::*;
use core::net::Ipv6Addr;
use proptest::prelude::*;
use std::println;
use std::time::{Duration, Instant};

pub(crate) fn key(n: u64) -> Key {
    let mut state = n;
    let mut word = || {
        state = next(state);
        state
    };
    Key {
        words: core::array::from_fn(|_| word() as u32),
        last: word(),
    }
}

/// Controllers as clusters have them: neighbours in one network.
pub(crate) fn address(n: usize) -> IpAddr {
    IpAddr::from([10, 0, (n / 250) as u8, (n % 250 + 1) as u8])
}

fn members(weights: &[u32]) -> Vec<Member> {
    let list = weights.iter().enumerate();
    list.map(|(i, w)| Member {
        address: address(i),
        weight: *w,
    })
    .collect()
}

fn counts(table: &[u16], members: usize) -> Vec<u32> {
    let mut counts = vec![0; members];
    table.iter().for_each(|m| counts[usize::from(*m)] += 1);
    counts
}

/// Places whose owner is another address in `b`, apart from those that `a` gave to somebody who is not in `b`, or that
/// `b` gives to somebody who was not in `a`.
fn moved(a: (&[u16], &[Member]), b: (&[u16], &[Member])) -> usize {
    let owner = |(table, members): (&[u16], &[Member]), place: usize| members[usize::from(table[place])];
    let has = |(_, members): (&[u16], &[Member]), m: &Member| {
        members.iter().any(|o| o.address == m.address && o.weight > 0)
    };
    (0..RING)
        .filter(|place| {
            let (from, to) = (owner(a, *place), owner(b, *place));
            from.address != to.address && has(b, &from) && has(a, &to)
        })
        .count()
}

/// In parts of the whole table.
fn part(places: usize) -> f64 {
    places as f64 / RING as f64
}

fn check_quotas(weights: &[u32]) {
    let quotas = quotas(weights);
    let total: u64 = weights.iter().map(|w| u64::from(*w)).sum();
    assert_eq!(
        quotas.iter().map(|q| u64::from(*q)).sum::<u64>(),
        if total == 0 { 0 } else { RING as u64 }
    );
    let small = weights
        .iter()
        .filter(|w| **w > 0 && u64::from(**w) * (RING as u64) < total)
        .count();
    for (w, q) in weights.iter().zip(&quotas) {
        assert_eq!(*w == 0, *q == 0, "{weights:?}");
        if *w > 0 {
            let exact = f64::from(*w) * RING as f64 / total as f64;
            // Without a share of less than a place, each is exact up to rounding; else those that got a place too many
            // are missed by the others together.
            assert!(
                (f64::from(*q) - exact).abs() < 1.0 + small as f64,
                "{weights:?}: {q} for {exact}"
            );
        }
    }
}

#[test]
fn a_share_is_exact_up_to_one_place() {
    check_quotas(&[]);
    check_quotas(&[0, 0]);
    check_quotas(&[7]);
    check_quotas(&[1, 65535]);
    check_quotas(&[1, 1, 1, 65535, 65535, 0]);
    check_quotas(&vec![1; 511]);
    let ramp: Vec<u32> = (0..511).map(|i| i * 128).collect();
    check_quotas(&ramp);
    let mut uneven = vec![1; 511];
    uneven[17] = 65535;
    check_quotas(&uneven);
    assert_eq!(quotas(&[1, 1, 1]), [5461, 5460, 5460]);
    assert_eq!(quotas(&[3, 1]), [12286, 4095]);
}

#[test]
fn nobody_has_a_place_without_weight() {
    assert!(table(&key(1), &members(&[0, 0])).iter().all(|m| *m == NOBODY));
    assert!(table(&key(1), &[]).iter().all(|m| *m == NOBODY));
    assert!(table(&key(1), &members(&[0, 5])).iter().all(|m| *m == 1));
}

#[test]
fn a_table_is_made_of_key_addresses_and_weights_alone() {
    let list = members(&[1, 2, 3, 1]);
    let by_address = |list: &[Member], key: &Key| -> Vec<IpAddr> {
        table(key, list)
            .iter()
            .map(|m| list[usize::from(*m)].address)
            .collect()
    };
    let wanted = by_address(&list, &key(1));
    for shift in 1..4 {
        let mut other = list.clone();
        other.rotate_left(shift);
        assert!(by_address(&other, &key(1)) == wanted);
        other.reverse();
        assert!(by_address(&other, &key(1)) == wanted);
    }
    let differing = |other: &[IpAddr]| part(wanted.iter().zip(other).filter(|(a, b)| a != b).count());
    assert!(
        differing(&by_address(&list, &key(2))) > 0.5,
        "another key, another table"
    );
    let mut last = list.clone();
    last[0].address = IpAddr::V6(Ipv6Addr::LOCALHOST);
    assert!(differing(&by_address(&last, &key(1))) > 0.1);
}

/// Pins the table itself: nodes of different builds must agree, or a change of holder moves flows.
#[test]
fn the_table_is_what_it_was_in_the_first_release() {
    let digest = |table: &[u16]| table.iter().fold(0u64, |h, m| next(h ^ u64::from(*m)));
    assert_eq!(
        digest(&table(&key(1), &members(&[1, 1, 1]))),
        0x2cd6_2709_31cf_2c99
    );
    assert_eq!(
        digest(&table(&key(2), &members(&[1, 2, 300, 0, 7]))),
        0xe0de_1b6e_b5ba_bf77
    );
    let v6: Vec<Member> = (1..=3u16)
        .map(|n| Member {
            address: IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]),
            weight: 1,
        })
        .collect();
    assert_eq!(digest(&table(&key(3), &v6)), 0x8937_dff7_3750_866a);
}

/// One of `weights` leaves (or comes, which is the same seen from the other side): what moves besides its own places.
fn beside(key: &Key, weights: &[u32], gone: usize) -> f64 {
    let before = members(weights);
    let mut after = before.clone();
    after.remove(gone);
    let (a, b) = (table(key, &before), table(key, &after));
    part(moved((&a, &before), (&b, &after)))
}

/// The table of ARCHITECTURE.md: `CPLB_MAGLEV_KEYS=40 cargo test --release -p lb-common --lib figures -- --nocapture`.
#[test]
fn figures() {
    let keys: u32 = std::env::var("CPLB_MAGLEV_KEYS").map_or(1, |k| k.parse().unwrap());
    println!(
        "| backends | weights | largest deviation of a share | moved beside its own places: mean | most | one table |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    for n in [2, 3, 4, 5, 7, 10, 20, 50] {
        for (name, weights) in [
            ("equal", vec![1; n]),
            ("1..n", (1..=n as u32).collect()),
            (
                "one 100",
                (0..n).map(|i| if i == 0 { 100 } else { 1 }).collect::<Vec<u32>>(),
            ),
        ] {
            let total: u32 = weights.iter().sum();
            let (mut deviation, mut sum, mut most, mut runs) = (0f64, 0f64, 0f64, 0u32);
            let mut each = Duration::MAX;
            let tables: Vec<Vec<u16>> = (0..keys)
                .map(|k| {
                    let started = Instant::now();
                    let table = table(&key(k.into()), &members(&weights));
                    each = each.min(started.elapsed());
                    table
                })
                .collect();
            for (k, table) in (0..).zip(&tables) {
                for (count, w) in counts(table, n).iter().zip(&weights) {
                    let share = f64::from(*w) / f64::from(total);
                    deviation = deviation.max((part(*count as usize) - share).abs());
                }
                for gone in 0..n.min(if keys > 1 { 10 } else { 2 }) {
                    let moved = beside(&key(k), &weights, gone);
                    sum += moved;
                    most = most.max(moved);
                    runs += 1;
                }
            }
            println!(
                "| {n} | {name} | {:.3} % | {:.2} % | {:.2} % | {each:?} |",
                deviation * 100.0,
                sum / f64::from(runs) * 100.0,
                most * 100.0
            );
            assert!(deviation < 1.0 / RING as f64 && most < 0.02);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn quotas_are_exact(weights in prop::collection::vec(prop_oneof![0u32..4, 0u32..=65535], 0..60)) {
        check_quotas(&weights);
    }

    #[test]
    fn a_table_has_the_quotas(seed: u64, weights in prop::collection::vec(0u32..=65535, 1..20)) {
        prop_assume!(weights.iter().any(|w| *w > 0));
        let table = table(&key(seed), &members(&weights));
        let mut ours = counts(&table, weights.len());
        let mut wanted = quotas(&weights);
        // Which of two equal ones gets the place that is left over is decided by the key.
        ours.sort_unstable();
        wanted.sort_unstable();
        prop_assert_eq!(ours, wanted);
    }

    #[test]
    fn who_leaves_moves_its_share_and_little_more(
        seed: u64, weights in prop::collection::vec(1u32..=100, 2..30), gone: prop::sample::Index,
    ) {
        let gone = gone.index(weights.len());
        prop_assert!(beside(&key(seed), &weights, gone) < 0.02);
    }

    #[test]
    fn a_changed_weight_moves_what_it_must_and_little_more(
        seed: u64, weights in prop::collection::vec(1u32..=100, 2..20), which: prop::sample::Index, to in 1u32..=100,
    ) {
        let mut after = weights.clone();
        after[which.index(weights.len())] = to;
        let share = |w: &[u32], i: usize| f64::from(w[i]) / f64::from(w.iter().sum::<u32>());
        let must: f64 = (0..weights.len()).map(|i| (share(&weights, i) - share(&after, i)).abs()).sum::<f64>() / 2.0;
        let (a, b) = (members(&weights), members(&after));
        let moved = part(moved((&table(&key(seed), &a), &a), (&table(&key(seed), &b), &b)));
        prop_assert!(moved < must + 0.02, "{moved} where {must} had to");
    }
}
