//! One test for each way in which other implementations went wrong: T1-T30 and the headlines of the fact base.
use super::*;
use alloc::boxed::Box;

fn without_preempt() -> Params {
    Params {
        preempt: false,
        ..params()
    }
}

fn owner() -> Params {
    Params {
        priority: Priority::OWNER,
        ..params()
    }
}

#[test]
fn t3_version_2_does_not_scale_skew_and_version_3_does() {
    let slow = |version| Params {
        version,
        advert_interval: AdvertInterval::new(version, 1000).unwrap(),
        ..params()
    };
    let wait = |version| Rig::backup(slow(version)).until_timeout();
    assert_eq!(wait(Version::V2), Some(Duration::from_nanos(30_609_375_000)));
    assert_eq!(wait(Version::V3), Some(Duration::from_nanos(36_093_750_000)));
}

#[test]
fn t4_version_3_adopts_the_interval_of_the_active_router_and_version_2_does_not() {
    let fast = Advert {
        interval_cs: 10,
        ..advert(PEER, 150)
    };
    let mut v3 = Rig::backup(params());
    v3.give(Input::Advert(fast));
    assert_eq!(v3.until_timeout(), Some(Duration::from_nanos(360_937_500)));
    // A worse router's interval is not adopted: its advert was discarded.
    let mut v3 = Rig::backup(params());
    v3.give(Input::Advert(Advert {
        interval_cs: 10,
        ..advert(PEER, 50)
    }));
    assert_eq!(v3.until_timeout(), Some(Duration::from_nanos(3_609_375_000)));
    // Once it is Active itself, its own interval counts again.
    let mut v3 = Rig::active(params());
    v3.give(Input::Advert(fast));
    while v3.m.state() != State::Active {
        v3.expire();
    }
    assert_eq!(v3.until_timeout(), Some(ms(1000)));

    let mut v2 = Rig::backup(Params {
        version: Version::V2,
        ..params()
    });
    v2.give(Input::Advert(fast));
    assert_eq!(v2.until_timeout(), Some(Duration::from_nanos(3_609_375_000)));
}

#[test]
fn t7_a_worse_router_s_packets_leave_a_backup_as_it_was() {
    let mut rig = Rig::backup(params());
    rig.now += ms(500);
    let before = rig.m.clone();
    for _ in 0..100 {
        rig.now += ms(10);
        assert!(rig.hear(PEER, 99).is_empty());
        assert_eq!(essence(&rig.m), essence(&before));
    }
    // And it takes over when it would have, saying why.
    let actions = rig.expire();
    assert_eq!(rig.now, at(1_000_000) + Duration::from_nanos(3_609_375_000));
    assert!(short(&actions).starts_with("Backup>Active Preempted"));
}

#[test]
fn headline_2_no_stream_of_packets_delays_the_beat_of_an_active_router() {
    for (source, priority) in [(PEER, 50), (PEER, 0), (US, 200), ("10.0.0.3", 100)] {
        let mut rig = Rig::active(params());
        rig.pass(ms(10_000));
        let (mut last, mut sent) = (rig.now, 0);
        for _ in 0..600 {
            let sending = sends(&rig.hear(source, priority));
            let beats = rig.pass(ms(10));
            if sending || beats.iter().any(|(_, a)| sends(&[*a])) {
                assert!(
                    rig.now.saturating_since(last) <= ms(1010),
                    "from {source} {priority}"
                );
                last = rig.now;
                sent += 1;
            }
        }
        assert!((6..=13).contains(&sent), "{sent} adverts in 6 s");
    }
}

#[test]
fn t9_a_worse_active_router_is_answered_at_once_but_not_packet_for_packet() {
    let mut rig = Rig::active(params());
    rig.now += ms(250);
    assert_eq!(short(&rig.hear(PEER, 50)), "advert 100, announce");
    assert_eq!(rig.until_timeout(), Some(ms(750)), "the beat goes on as it was");
    for _ in 0..90 {
        rig.now += ms(5);
        assert!(rig.hear(PEER, 50).is_empty());
    }
    rig.pass(ms(550));
    assert_eq!(short(&rig.hear(PEER, 50)), "advert 100, announce");
}

#[test]
fn t10_equal_priority_is_decided_by_the_address_and_our_own_packet_by_nobody() {
    let mut rig = Rig::active(params());
    assert_eq!(short(&rig.hear("10.0.0.3", 100)), "advert 100, announce");
    assert!(rig.hear(US, 255).is_empty() && rig.hear(US, 0).is_empty());
    assert!(short(&rig.hear("10.0.0.21", 100)).starts_with("advert 100, Active>Backup"));
    // A Backup router follows an equal one whatever its address is.
    let before = rig.until_timeout();
    rig.now += ms(700);
    rig.hear("10.0.0.3", 100);
    assert!(before.is_some() && rig.m.state() == State::Backup);
}

#[test]
fn t13_no_announcement_before_the_addresses_are_in_place() {
    let mut rig = Rig::backup(params());
    assert_eq!(
        short(&rig.expire()),
        "Backup>Active ActiveDown, advert 100, claim"
    );
    assert_eq!(short(&rig.hear(PEER, 50)), "advert 100");
    assert!(!rig.pass(ms(70_000)).iter().any(|(_, a)| *a == Action::Announce));
    assert_eq!(short(&rig.give(Input::Claimed)), "announce");
}

#[test]
fn announcements_come_at_once_after_the_delay_and_with_every_refresh() {
    let mut rig = Rig::active(params());
    let times: Vec<_> = rig
        .pass(ms(130_000))
        .into_iter()
        .filter_map(|(t, a)| (a == Action::Announce).then_some(t.as_millis()))
        .collect();
    assert_eq!(times, [5_000, 65_000, 125_000]);
    let mut once = Rig::active(Params {
        announce_delay: Duration::ZERO,
        announce_refresh: None,
        ..params()
    });
    assert!(!once.pass(ms(130_000)).iter().any(|(_, a)| *a == Action::Announce));
}

#[test]
fn announcements_end_when_it_is_no_longer_active() {
    let mut rig = Rig::active(params());
    rig.hear(PEER, 150);
    let announced = |acts: Vec<(Duration, Action)>| acts.iter().any(|(_, a)| *a == Action::Announce);
    assert!(!announced(rig.pass(ms(3_000))));
    let mut rig = Rig::active(params());
    rig.give(Input::Shutdown);
    assert!(!announced(rig.pass(ms(60_000))));
}

#[test]
fn t17_every_way_out_of_active_says_priority_0_except_where_another_took_over() {
    for (input, says) in [
        (Input::Shutdown, true),
        (Input::Fault(FaultReason::Socket), true),
        (Input::Demote, true),
        (Input::Overslept, false),
        (Input::Advert(advert(PEER, 200)), false),
    ] {
        let actions = Rig::active(params()).give(input);
        assert_eq!(
            actions.contains(&Action::SendAdvert { priority: 0 }),
            says,
            "{}",
            short(&actions)
        );
    }
}

#[test]
fn t21_coming_back_from_a_fault_respects_nopreempt() {
    let mut rig = Rig::active(Params {
        priority: Priority::new(200).unwrap(),
        ..without_preempt()
    });
    rig.give(Input::Fault(FaultReason::InterfaceDown));
    assert_eq!(rig.m.fault(), Some(FaultReason::InterfaceDown));
    rig.pass(ms(10_000));
    assert_eq!(short(&rig.give(Input::Startup)), "Initialize>Backup Startup");
    assert_eq!(rig.m.fault(), None);
    for _ in 0..100 {
        rig.pass(ms(1000));
        rig.hear(PEER, 100);
    }
    assert_eq!(rig.m.state(), State::Backup);
    rig.pass(ms(4000));
    assert_eq!(rig.m.state(), State::Active, "a dead router is still replaced");
}

#[test]
fn preempt_delay_bears_a_worse_router_until_it_is_over() {
    let mut rig = Rig::backup(Params {
        preempt_delay: ms(30_000),
        ..params()
    });
    let started = rig.now;
    while rig.m.state() == State::Backup {
        rig.hear(PEER, 50);
        rig.pass(ms(1000));
    }
    let took = rig.now.saturating_since(started);
    assert!(took > ms(30_000) && took <= ms(34_610), "{took:?}");
    // It says nothing about a router that is dead.
    let mut rig = Rig::backup(Params {
        preempt_delay: ms(30_000),
        ..params()
    });
    rig.pass(ms(3_610));
    assert_eq!(rig.m.state(), State::Active);
}

#[test]
fn t22_weights_stay_within_1_and_254_and_never_move_an_owner() {
    let mut rig = Rig::active(params());
    assert_eq!(short(&rig.give(Input::Weight(-1000))), "advert 1");
    assert_eq!(short(&rig.give(Input::Weight(1000))), "advert 254");
    assert!(
        rig.give(Input::Weight(2000)).is_empty(),
        "nothing changed on the wire"
    );
    let mut rig = Rig::active(owner());
    assert!(rig.give(Input::Weight(-253)).is_empty());
    assert_eq!(rig.m.effective_priority(), Priority::OWNER);
}

#[test]
fn a_weight_counts_in_the_election_at_once() {
    let mut rig = Rig::active(params());
    rig.give(Input::Weight(-60));
    assert!(short(&rig.hear(PEER, 50)).starts_with("advert 40, Active>Backup Better"));
    rig.give(Input::Weight(0));
    rig.now += ms(100);
    let before = rig.m.poll_timeout();
    rig.hear(PEER, 50);
    assert_eq!(rig.m.poll_timeout(), before, "50 is worse than 100 again");
}

#[test]
fn t23_priority_0_shortens_the_wait_to_skew_time_and_repeating_it_does_not_stretch_it() {
    let mut rig = Rig::backup(params());
    rig.hear(PEER, 150);
    rig.now += ms(300);
    let first = rig.now;
    assert!(rig.hear(PEER, 0).is_empty(), "not at once");
    for _ in 0..60 {
        rig.now += ms(10);
        rig.hear(PEER, 0);
    }
    let actions = rig.expire();
    assert_eq!(rig.now.saturating_since(first), Duration::from_nanos(609_375_000));
    assert!(short(&actions).starts_with("Backup>Active ActiveLeft"));
}

#[test]
fn headline_4_an_interval_of_0_makes_no_timer_of_0() {
    let mut rig = Rig::backup(params());
    rig.give(Input::Advert(Advert {
        interval_cs: 0,
        ..advert(PEER, 150)
    }));
    assert!(rig.until_timeout().unwrap() >= ms(30));
}

#[test]
fn an_owner_is_active_at_once_with_its_advert_before_its_claim() {
    let mut rig = Rig::new(owner());
    assert_eq!(
        short(&rig.give(Input::Startup)),
        "Initialize>Active Owner, advert 255, claim"
    );
    // Two owners: the lower address yields, and does not come back for being reconfigured.
    assert!(short(&rig.hear(PEER, 255)).starts_with("Active>Backup Better"));
    rig.pass(ms(1000));
    let actions = rig.give(Input::Reconfigure(Box::new(Params {
        linger: ms(1),
        ..owner()
    })));
    assert!(actions.is_empty());
}

#[test]
fn a_router_that_overslept_lets_go_before_it_looks_around() {
    let mut rig = Rig::active(params());
    rig.now += ms(30_000);
    assert_eq!(
        short(&rig.give(Input::Overslept)),
        "release, Active>Backup Overslept"
    );
    rig.m.handle_timeout(rig.now);
    assert!(rig.actions().is_empty());
    assert_eq!(rig.until_timeout(), Some(Duration::from_nanos(3_609_375_000)));
}

#[test]
fn a_late_wake_up_gives_one_advert_and_not_all_that_were_missed() {
    let mut rig = Rig::active(params());
    rig.now += ms(3_300);
    rig.m.handle_timeout(rig.now);
    assert_eq!(short(&rig.actions()), "advert 100");
    assert_eq!(rig.until_timeout(), Some(ms(1000)));
}

#[test]
fn t16_a_reload_without_a_change_says_and_does_nothing() {
    for mut rig in [Rig::active(params()), Rig::backup(params())] {
        rig.now += ms(10);
        let before = rig.m.clone();
        assert!(rig.give(Input::Reconfigure(Box::new(params()))).is_empty());
        assert_eq!(essence(&rig.m), essence(&before));
    }
}

#[test]
fn a_reload_keeps_the_interval_that_a_backup_adopted() {
    let mut rig = Rig::backup(params());
    rig.give(Input::Advert(Advert {
        interval_cs: 400,
        ..advert(PEER, 150)
    }));
    rig.give(Input::Reconfigure(Box::new(Params {
        linger: ms(1),
        ..params()
    })));
    assert!(rig.until_timeout().unwrap() > ms(12_000));
}

#[test]
fn a_gated_machine_asks_once_and_takes_it_back_when_it_hears_a_good_router() {
    let gated = Params {
        gated: true,
        ..params()
    };
    let mut rig = Rig::backup(gated.clone());
    assert_eq!(short(&rig.expire()), "willing");
    assert!(rig.pass(ms(60_000)).is_empty() && rig.m.is_willing());
    rig.hear(PEER, 50);
    rig.hear(PEER, 0);
    assert!(rig.m.is_willing(), "a worse router is no reason");
    rig.hear(PEER, 150);
    assert!(!rig.m.is_willing());
    assert_eq!(short(&rig.expire()), "willing");
    assert!(short(&rig.give(Input::Promote)).starts_with("Backup>Active ActiveDown"));
    assert_eq!(
        short(&rig.give(Input::Demote)),
        "advert 0, Active>Backup SyncGroup"
    );
    assert!(rig.m.holds(), "it lingers");
    let mut owner = Rig::new(Params {
        gated: true,
        ..owner()
    });
    assert_eq!(
        short(&owner.give(Input::Startup)),
        "Initialize>Backup Startup, willing"
    );
    // Out of the group, it need not ask any more.
    let mut rig = Rig::backup(gated);
    rig.expire();
    assert!(short(&rig.give(Input::Reconfigure(Box::new(params())))).starts_with("Backup>Active ActiveDown"));
}
