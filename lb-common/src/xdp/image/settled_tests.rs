//! The marks of places: none too few, and no more than it takes.
use super::tests::{THREE, compiled, find, forwarder, forwarding, tcp, three, vip, well};
use super::*;
use crate::abi::tables::{RING, RING_MOVED};
use crate::model::{Persistence, ServiceKey};
use core::time::Duration;
use proptest::collection::vec as vec_of;
use proptest::prelude::*;
use std::vec;

const PORTS: [u16; 3] = [6443, 8132, 9443];

/// One virtual server at one time: whether it is there, its clients' affinity, and which real servers are up.
type Standing = (bool, bool, [bool; THREE.len()]);

fn service(port: u16, (_, affine, up): &Standing) -> Forwarder {
    let mut forwarder = forwarder(tcp(vip(1), port), &three(|i| (1, up[i])));
    forwarder.affinity = affine.then(|| Persistence {
        timeout: Duration::from_secs(360),
        granularity: 32,
    });
    forwarder
}

fn places<'i>(image: &'i Image, key: &ServiceKey) -> &'i [u16] {
    let row = find(&image.side, key.address, 6, key.port).unwrap();
    &image.rings[row.pool as usize][..RING]
}

fn marked(ring: &[u16]) -> usize {
    ring.iter().filter(|place| **place & RING_MOVED != 0).count()
}

fn number(place: u16) -> u16 {
    place & !RING_MOVED
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the history: at a place without a mark every flow that may be remembered has what the table has.
    #[test]
    fn a_place_without_a_mark_was_never_anybody_elses(
        history in vec_of([any::<Standing>(), any::<Standing>(), any::<Standing>()], 1..7),
    ) {
        let mut numbers = Numbers::default();
        // By port and place: whom words may name.
        let mut words: BTreeMap<u16, Vec<BTreeSet<u16>>> = BTreeMap::new();
        for step in history {
            let there = PORTS.into_iter().zip(&step).filter(|(_, standing)| standing.0);
            let services: Vec<Forwarder> = there.map(|(port, standing)| service(port, standing)).collect();
            let wanted = forwarding(services);
            let image = compiled(&wanted, &mut numbers);
            for forwarder in wanted.services.values() {
                let ring = places(&image, &forwarder.key);
                let words = words.entry(forwarder.key.port).or_insert_with(|| vec![BTreeSet::new(); RING]);
                for (place, words) in ring.iter().zip(words) {
                    words.insert(number(*place));
                    if forwarder.affinity.is_some() {
                        words.extend([1, 2, 3]);
                    } else if place & RING_MOVED == 0 {
                        prop_assert_eq!(words.len(), 1, "{:?} has {}", words, place);
                    }
                }
            }
        }
    }
}

#[test]
fn what_never_changed_has_no_mark_and_what_goes_down_marks_its_own_places() {
    let image_of = |up: [bool; 3], numbers: &mut Numbers| {
        let one = service(PORTS[0], &(true, false, up));
        compiled(&forwarding(vec![one]), numbers)
    };
    let key = tcp(vip(1), PORTS[0]);
    let mut numbers = Numbers::default();
    let first = image_of([true; 3], &mut numbers);
    assert_eq!(marked(places(&first, &key)), 0);
    let again = image_of([true; 3], &mut numbers);
    assert!(Arc::ptr_eq(&first.rings[0], &again.rings[0]));
    let down = image_of([true, false, true], &mut numbers);
    let moved =
        |image: &Image| -> Vec<bool> { places(image, &key).iter().map(|p| p & RING_MOVED != 0).collect() };
    let own: Vec<bool> = places(&first, &key).iter().map(|place| *place == 2).collect();
    assert_eq!(moved(&down), own);
    let back = image_of([true; 3], &mut numbers);
    assert_eq!(moved(&back), own, "the marks stay");
    assert!(
        places(&back, &key)
            .iter()
            .zip(places(&first, &key))
            .all(|(b, f)| number(*b) == *f)
    );
}

#[test]
fn a_new_virtual_server_has_no_mark_and_one_that_was_gone_has_them_all() {
    let mut numbers = Numbers::default();
    let of = |ports: &[u16]| {
        let each = ports
            .iter()
            .map(|port| forwarder(tcp(vip(1), *port), &three(well)));
        forwarding(each.collect())
    };
    compiled(&of(&PORTS[..1]), &mut numbers);
    let both = compiled(&of(&PORTS[..2]), &mut numbers);
    assert_eq!(marked(places(&both, &tcp(vip(1), PORTS[1]))), 0);
    compiled(&of(&PORTS[..1]), &mut numbers);
    let back = compiled(&of(&PORTS[1..2]), &mut numbers);
    assert_eq!(marked(places(&back, &tcp(vip(1), PORTS[1]))), RING);
}

#[test]
fn where_clients_were_tied_every_place_is_marked() {
    let mut numbers = Numbers::default();
    let mut of = |affine: bool| {
        let one = service(PORTS[0], &(true, affine, [true; 3]));
        let image = compiled(&forwarding(vec![one]), &mut numbers);
        marked(places(&image, &tcp(vip(1), PORTS[0])))
    };
    assert_eq!([of(false), of(true), of(false)], [0, 0, RING]);
}
