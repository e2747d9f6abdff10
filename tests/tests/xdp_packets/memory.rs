//! Which word of a full set makes room.
use super::desk;
use anyhow::{Result, ensure};
use lb_common::abi::flow::{self, STALE};
use lb_tests::xdp::fixture;
use lb_tests::xdp::frame::Frame;

/// Class and age of eight words, and which of them is gone after a new flow came; `None`: the new flow found no room.
type Row = (&'static str, [(u64, u64); 8], Option<usize>);

const E: u64 = flow::ESTABLISHED;
const P: u64 = flow::PROBATION;

const ROWS: &[Row] = &[
    (
        "established ones that are alive stay",
        [(E, 0), (E, 1), (E, 2), (E, 3), (E, 4), (E, STALE), (E, 6), (E, 7)],
        None,
    ),
    (
        "the oldest on probation goes",
        [(E, 70), (P, 3), (E, 2), (P, 9), (E, 4), (P, 8), (E, 6), (E, 7)],
        Some(3),
    ),
    (
        "one on probation goes however new it is",
        [(E, 70), (E, 3), (E, 2), (E, 9), (E, 4), (E, 8), (P, 0), (E, 7)],
        Some(6),
    ),
    (
        "one on probation goes before an established one that is stale",
        [(E, 900), (E, 3), (E, 2), (E, 9), (P, 1), (E, 8), (E, 5), (E, 7)],
        Some(4),
    ),
    (
        "of established ones the oldest that is stale goes",
        [
            (E, 70),
            (E, STALE + 1),
            (E, 2),
            (E, 9),
            (E, 1000),
            (E, 100),
            (E, 5),
            (E, 7),
        ],
        Some(4),
    ),
    (
        "one that became stale just now goes",
        [
            (E, 70),
            (E, 3),
            (E, 2),
            (E, 9),
            (E, 1),
            (E, 8),
            (E, 5),
            (E, STALE + 1),
        ],
        Some(7),
    ),
];

#[test]
fn a_full_set_makes_room_for_the_new_at_the_cost_of_the_least() -> Result<()> {
    let mut desk = desk()?;
    let names = fixture::scene()?.names;
    let bytes = Frame::parse("ether / ip / tcp")?.bytes(&names)?;
    for (name, words, gone) in ROWS {
        desk.begin()?;
        let hash = desk.hash("tcp c1:40000 vip:443")?;
        // The same set, other tags.
        let word = |i: usize, class, age: u64| {
            let other = hash.wrapping_add((i as u64 + 1) << flow::TAG_SHIFT);
            flow::word(other, 0_u64.wrapping_sub(age), class, 2)
        };
        let set: [u64; 8] = std::array::from_fn(|i| word(i, words[i].0, words[i].1));
        desk.write_set(hash, set);
        desk.packet(&bytes)?;
        let now = desk.read_set(hash);
        let changed: Vec<usize> = (0..8).filter(|i| now[*i] != set[*i]).collect();
        // Its own place is the first one's, whoever else is on probation.
        let first = flow::first_of(hash);
        let gone = if words[first].0 == P { Some(first) } else { *gone };
        ensure!(
            changed == gone.iter().copied().collect::<Vec<_>>(),
            "{name}: {changed:?} changed"
        );
        if let Some(place) = &gone {
            ensure!(
                now[*place] == flow::word(hash, 0, P, 1),
                "{name}: {:x}",
                now[*place]
            );
        }
    }
    Ok(())
}

#[test]
fn of_two_on_probation_the_one_with_the_higher_tag_has_the_place_though_another_is_empty() -> Result<()> {
    let mut desk = desk()?;
    let names = fixture::scene()?.names;
    let bytes = Frame::parse("ether / ip6 / tcp")?.bytes(&names)?;
    let hash = desk.hash("tcp c1v6:40000 vip6:443")?;
    let first = flow::first_of(hash);
    let tag = hash >> flow::TAG_SHIFT << flow::TAG_SHIFT;
    let own = flow::word(hash, 0, P, 1);
    let one = 1 << flow::TAG_SHIFT;
    let lower = flow::word(tag - one, 0, P, 2);
    let higher = flow::word(tag + one, 0, P, 2);
    let of_before = flow::word(tag + one, flow::STAMPS - 1, P, 2);
    for (name, there, expected) in [
        ("lower", lower, own),
        ("higher", higher, higher),
        ("higher, of the unit before", of_before, own),
    ] {
        desk.begin()?;
        desk.write_set(hash, std::array::from_fn(|i| if i == first { there } else { 0 }));
        desk.packet(&bytes)?;
        let expected: [u64; 8] = std::array::from_fn(|i| if i == first { expected } else { 0 });
        ensure!(desk.read_set(hash) == expected, "{name}: place {first}");
    }
    Ok(())
}

#[test]
fn where_its_own_place_is_established_an_empty_one_comes_first_wherever_it_is() -> Result<()> {
    let mut desk = desk()?;
    let names = fixture::scene()?.names;
    let bytes = Frame::parse("ether / ip6 / tcp")?.bytes(&names)?;
    for empty in 0..8 {
        desk.begin()?;
        let hash = desk.hash("tcp c1v6:40000 vip6:443")?;
        let first = flow::first_of(hash);
        let other = |i: usize| {
            let class = if i == first { E } else { P };
            flow::word(hash.wrapping_add((i as u64 + 1) << flow::TAG_SHIFT), 0, class, 2)
        };
        let set = std::array::from_fn(|i| if i == empty { 0 } else { other(i) });
        desk.write_set(hash, set);
        desk.packet(&bytes)?;
        ensure!(
            desk.read_set(hash)[empty] == flow::word(hash, 0, P, 1),
            "place {empty}"
        );
    }
    Ok(())
}

#[test]
fn a_flow_is_found_in_every_place_of_its_set() -> Result<()> {
    let mut desk = desk()?;
    let names = fixture::scene()?.names;
    let bytes = Frame::parse("ether / ip / tcp")?.bytes(&names)?;
    for place in 0..8 {
        desk.begin()?;
        let hash = desk.hash("tcp c1:40000 vip:443")?;
        let other = |i: usize| flow::word(hash.wrapping_add((i as u64 + 1) << flow::TAG_SHIFT), 0, E, 2);
        let set = std::array::from_fn(|i| {
            if i == place {
                flow::word(hash, 0, E, 511)
            } else {
                other(i)
            }
        });
        desk.write_set(hash, set);
        let (_, out) = desk.packet(&bytes)?;
        ensure!(out[..6] == names.mac("b3")?, "place {place}");
    }
    Ok(())
}
