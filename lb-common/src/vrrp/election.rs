//! Who is better: priority first, then the primary address (RFC 9568 §6.4.2 and §6.4.3).
use super::Advert;
use crate::model::Priority;
use core::net::IpAddr;

/// Whether an Active router of `priority` at `source` gives way to `advert`.
///
/// Addresses are compared unsigned in network order, which is how `IpAddr` orders them (T10). Equal addresses never
/// get here: that is our own packet.
pub(super) fn beats_active(advert: &Advert, priority: Priority, source: IpAddr) -> bool {
    let ours = priority.get();
    advert.priority > ours || (advert.priority == ours && advert.source > source)
}

/// Whether a Backup router of `priority` lets the sender be Active. Its address does not matter: an equal router
/// that is Active stays so.
pub(super) const fn satisfies_backup(advert: &Advert, priority: Priority, preempt: bool) -> bool {
    !preempt || advert.priority >= priority.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advert(source: &str, priority: u8) -> Advert {
        Advert {
            source: source.parse().unwrap(),
            priority,
            interval_cs: 100,
        }
    }

    #[test]
    fn t10_ties_are_broken_by_address_as_an_unsigned_number() {
        let p = Priority::new(100).unwrap();
        let us = "10.0.0.200".parse().unwrap();
        assert!(beats_active(&advert("10.0.0.201", 100), p, us));
        assert!(!beats_active(&advert("10.0.0.9", 100), p, us), "not as text");
        assert!(
            beats_active(&advert("200.0.0.1", 100), p, us),
            "not as a signed number"
        );
        assert!(beats_active(&advert("10.0.0.1", 101), p, us));
        assert!(!beats_active(&advert("10.0.0.201", 99), p, us));
        let us = "fe80::2".parse().unwrap();
        assert!(beats_active(&advert("fe80::10", 100), p, us));
        assert!(!beats_active(&advert("fe80::1", 100), p, us));
    }

    #[test]
    fn a_backup_follows_an_equal_router_and_without_preempt_any() {
        let p = Priority::new(100).unwrap();
        assert!(satisfies_backup(&advert("10.0.0.1", 100), p, true));
        assert!(!satisfies_backup(&advert("10.0.0.1", 99), p, true));
        assert!(satisfies_backup(&advert("10.0.0.1", 1), p, false));
    }
}
