//! Who keeps which number, and who gets whose.
use super::*;
use proptest::prelude::*;

fn set(keys: &[u8]) -> BTreeSet<u8> {
    keys.iter().copied().collect()
}

const fn none() -> Vec<u16> {
    Vec::new()
}

#[test]
fn a_number_stays_and_comes_back_and_is_passed_on_as_late_as_can_be() {
    let mut register = Register::new(1, 5);
    assert_eq!(register.hold(&set(&[10, 20])), none());
    assert_eq!((register.of(&10), register.of(&20)), (Some(1), Some(2)));
    assert_eq!(register.hold(&set(&[20, 30])), none());
    assert_eq!(
        (register.of(&10), register.of(&20), register.of(&30)),
        (None, Some(2), Some(3))
    );
    assert_eq!(register.hold(&set(&[10, 30])), none());
    assert_eq!(
        (register.of(&10), register.of(&30)),
        (Some(1), Some(3)),
        "10 is back where it was"
    );
    assert_eq!(register.hold(&set(&[30, 40])), none());
    assert_eq!(
        register.of(&40),
        Some(4),
        "one that nobody had, before one that somebody may come back for"
    );
    assert_eq!(
        register.hold(&set(&[30, 40, 50])),
        [2],
        "20's, which has been gone for longest"
    );
    assert_eq!(
        register.hold(&set(&[20, 30, 40, 50])),
        [1],
        "20 comes too late for its own"
    );
    assert_eq!(
        register.hold(&set(&[20, 30, 40, 50, 60])),
        none(),
        "there is no fifth number"
    );
    assert_eq!(register.of(&60), None);
}

proptest! {
    #[test]
    fn nobody_shares_and_nobody_loses_what_it_holds(
        rounds in prop::collection::vec(prop::collection::btree_set(0u8..40, 0..12), 1..20),
    ) {
        let mut register = Register::new(1, 17);
        let mut before: BTreeMap<u8, u16> = BTreeMap::new();
        for keys in rounds {
            let taken_over = register.hold(&keys);
            let numbers: BTreeSet<u16> = register.held.values().copied().collect();
            prop_assert_eq!(numbers.len(), keys.len());
            prop_assert!(numbers.iter().all(|n| (1..17).contains(n)));
            prop_assert!(register.held.keys().eq(&keys));
            for key in &keys {
                if let Some(number) = before.get(key) {
                    prop_assert_eq!(register.of(key), Some(*number));
                    prop_assert!(!taken_over.contains(number));
                }
            }
            before = register.held.clone();
        }
    }
}
