//! Sync groups, and that instances without one keep to themselves.
use super::super::{Advert, FaultReason, Reason, State};
use super::*;
use crate::model::{AdvertInterval, Priority, Version};
use crate::time::Duration;
use core::net::IpAddr;

const A: InstanceId = InstanceId(1);
const B: InstanceId = InstanceId(2);
const C: InstanceId = InstanceId(3);
const GROUP: Option<GroupId> = Some(GroupId(7));

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn params(priority: u8) -> Params {
    Params {
        version: Version::V3,
        priority: Priority::new(priority).unwrap(),
        preempt: true,
        preempt_delay: Duration::ZERO,
        advert_interval: AdvertInterval::SECOND,
        source: ip(20),
        linger: ms(500),
        announce_delay: Duration::ZERO,
        announce_refresh: None,
        gated: false,
    }
}

struct Rig {
    r: Router,
    now: Instant,
    log: Vec<(InstanceId, Action)>,
}

impl Rig {
    fn new() -> Self {
        Self {
            r: Router::new(),
            now: Instant::from_millis(1_000_000),
            log: Vec::new(),
        }
    }

    /// Members of one group, started.
    fn group(members: &[(InstanceId, u8)]) -> Self {
        let mut rig = Self::new();
        for (id, priority) in members {
            assert!(rig.r.insert(*id, params(*priority), GROUP));
        }
        for (id, _) in members {
            rig.give(*id, Input::Startup);
        }
        rig
    }

    fn active_group() -> Self {
        let mut rig = Self::group(&[(A, 100), (B, 100)]);
        rig.pass(ms(4000));
        assert_eq!(rig.states(), [State::Active; 2]);
        rig.log.clear();
        rig
    }

    fn drain(&mut self) {
        while let Some((id, action)) = self.r.poll_action() {
            self.log.push((id, action));
        }
    }

    fn give(&mut self, id: InstanceId, input: Input) {
        self.r.handle(self.now, id, input);
        self.drain();
    }

    fn hear(&mut self, id: InstanceId, last: u8, priority: u8) {
        let source = ip(last);
        self.give(
            id,
            Input::Advert(Advert {
                source,
                priority,
                interval_cs: 100,
            }),
        );
    }

    fn pass(&mut self, d: Duration) {
        let end = self.now + d;
        while let Some(at) = self.r.poll_timeout().filter(|at| *at <= end) {
            self.now = at;
            self.r.handle_timeout(at);
            assert!(self.r.poll_timeout().is_none_or(|t| t > at));
            self.drain();
        }
        self.now = end;
    }

    fn states(&self) -> Vec<State> {
        self.r.iter().map(|(_, m)| m.state()).collect()
    }

    fn said(&self, id: InstanceId, action: Action) -> usize {
        self.log.iter().filter(|e| **e == (id, action)).count()
    }
}

#[test]
fn instances_without_a_group_keep_to_themselves() {
    let mut rig = Rig::new();
    assert!(rig.r.insert(A, params(100), None));
    assert!(rig.r.insert(B, params(100), None));
    assert!(!rig.r.insert(A, params(1), None), "the name is taken");
    rig.give(A, Input::Startup);
    rig.give(B, Input::Startup);
    rig.pass(ms(4000));
    rig.hear(A, 30, 150);
    assert_eq!(rig.states(), [State::Backup, State::Active]);
    rig.give(B, Input::Fault(FaultReason::Tracked));
    assert_eq!(rig.states(), [State::Backup, State::Initialize]);
    rig.give(C, Input::Startup);
}

#[test]
fn a_group_that_was_active_in_a_process_before_this_one_goes_on_as_that() {
    let mut rig = Rig::new();
    for id in [A, B] {
        assert!(rig.r.insert(id, params(100), GROUP));
    }
    rig.give(A, Input::Resume);
    rig.give(B, Input::Resume);
    assert_eq!(rig.states(), [State::Active, State::Active]);
    rig.hear(A, 30, 150);
    assert_eq!(rig.states(), [State::Backup, State::Backup], "and loses as one");
}

#[test]
fn a_group_becomes_active_when_its_last_member_is_willing_and_not_before() {
    let mut rig = Rig::group(&[(A, 200), (B, 100)]);
    for _ in 0..10 {
        rig.pass(ms(1000));
        rig.hear(B, 30, 150);
        assert_eq!(rig.states(), [State::Backup; 2]);
    }
    assert!(rig.r.get(A).unwrap().is_willing());
    rig.pass(ms(4000));
    assert_eq!(rig.states(), [State::Active; 2]);
    assert!(
        !rig.log.iter().any(|(_, a)| *a == Action::Willing),
        "that is between machine and group"
    );
}

#[test]
fn a_member_that_loses_takes_the_others_with_it_and_they_linger() {
    let mut rig = Rig::active_group();
    rig.hear(A, 30, 150);
    assert_eq!(rig.states(), [State::Backup; 2]);
    assert_eq!(rig.said(A, Action::SendAdvert { priority: 0 }), 0);
    assert_eq!(rig.said(B, Action::SendAdvert { priority: 0 }), 1);
    assert!(rig.r.get(A).unwrap().holds() && rig.r.get(B).unwrap().holds());
    rig.pass(ms(500));
    assert_eq!(
        (rig.said(A, Action::Release), rig.said(B, Action::Release)),
        (1, 1)
    );
}

#[test]
fn a_fault_of_one_is_the_fault_of_all_and_they_recover_together() {
    let mut rig = Rig::active_group();
    rig.give(B, Input::Fault(FaultReason::InterfaceDown));
    assert_eq!(rig.states(), [State::Initialize; 2]);
    assert_eq!(rig.r.get(A).unwrap().fault(), Some(FaultReason::SyncGroup));
    // Starting the healthy one does not help while the other is at fault (and is no way round it).
    rig.give(A, Input::Startup);
    assert_eq!(rig.states(), [State::Initialize; 2]);
    // Both at fault: both must recover.
    rig.give(A, Input::Fault(FaultReason::Tracked));
    rig.give(B, Input::Startup);
    assert_eq!(rig.states(), [State::Initialize; 2]);
    assert_eq!(rig.r.get(B).unwrap().fault(), Some(FaultReason::SyncGroup));
    rig.give(A, Input::Startup);
    assert_eq!(rig.states(), [State::Backup; 2]);
    rig.pass(ms(4000));
    assert_eq!(rig.states(), [State::Active; 2]);
}

#[test]
fn shutting_one_member_down_shuts_the_group_down_well() {
    let mut rig = Rig::active_group();
    rig.give(A, Input::Shutdown);
    assert_eq!(rig.states(), [State::Leaving; 2]);
    rig.give(B, Input::Shutdown);
    rig.hear(A, 30, 90);
    rig.hear(B, 30, 90);
    rig.pass(ms(500));
    assert_eq!(rig.states(), [State::Initialize; 2]);
    assert_eq!(rig.said(B, Action::Release), 1);
    assert_eq!(rig.r.poll_timeout(), None);
}

#[test]
fn a_group_that_returns_from_leaving_does_so_as_one() {
    let mut rig = Rig::active_group();
    rig.give(A, Input::Shutdown);
    rig.hear(A, 30, 90);
    rig.give(A, Input::Startup);
    rig.give(B, Input::Startup);
    // A has a successor and follows it; B must not be Active without A.
    assert_eq!(rig.states(), [State::Backup; 2]);
    let mut rig = Rig::active_group();
    rig.give(A, Input::Shutdown);
    rig.give(A, Input::Startup);
    rig.give(B, Input::Startup);
    assert_eq!(rig.states(), [State::Active; 2]);
    assert_eq!(
        (rig.said(A, Action::Release), rig.said(B, Action::Release)),
        (0, 0)
    );
}

#[test]
fn t16_a_new_member_joins_an_active_group_without_resetting_it() {
    let mut rig = Rig::active_group();
    assert!(rig.r.insert(C, params(100), GROUP));
    rig.give(C, Input::Startup);
    assert_eq!(rig.states(), [State::Active, State::Active, State::Backup]);
    rig.pass(ms(4000));
    assert_eq!(rig.states(), [State::Active; 3]);
    let moved = rig
        .log
        .iter()
        .filter(|(_, a)| {
            matches!(
                a,
                Action::Transition {
                    from: State::Active,
                    ..
                }
            )
        })
        .count();
    assert_eq!(moved, 0);
}

#[test]
fn an_instance_moves_into_a_group_and_out_of_it_without_changing_its_state() {
    let mut rig = Rig::active_group();
    rig.r.insert(C, params(100), None);
    rig.give(C, Input::Startup);
    rig.pass(ms(4000));
    rig.r.regroup(rig.now, C, GROUP);
    rig.drain();
    assert_eq!(rig.states(), [State::Active; 3]);
    rig.hear(A, 30, 150);
    assert_eq!(rig.states(), [State::Backup; 3]);
    rig.r.regroup(rig.now, C, None);
    rig.drain();
    for _ in 0..4 {
        rig.hear(A, 30, 150);
        rig.pass(ms(1000));
    }
    assert_eq!(rig.states(), [State::Backup, State::Backup, State::Active]);
}

#[test]
fn removing_the_member_that_held_the_group_back_lets_the_rest_go_on() {
    let mut rig = Rig::group(&[(A, 100), (B, 100), (C, 100)]);
    for _ in 0..6 {
        rig.hear(C, 30, 150);
        rig.pass(ms(1000));
    }
    assert_eq!(rig.states(), [State::Backup; 3]);
    assert!(rig.r.remove(rig.now, C));
    rig.drain();
    assert_eq!(rig.states(), [State::Active; 2]);
    // And a fault goes with its member.
    let mut rig = Rig::active_group();
    rig.give(B, Input::Fault(FaultReason::Tracked));
    rig.r.remove(rig.now, B);
    rig.drain();
    assert_eq!(rig.states(), [State::Backup]);
}

#[test]
fn an_active_instance_that_is_removed_says_goodbye_and_lets_go() {
    let mut rig = Rig::active_group();
    rig.r.remove(rig.now, B);
    rig.drain();
    assert_eq!(rig.said(B, Action::SendAdvert { priority: 0 }), 1);
    assert_eq!(rig.said(B, Action::Release), 1);
    assert_eq!(rig.states(), [State::Active], "the group goes on without it");
    assert!(!rig.r.remove(rig.now, B));
}

#[test]
fn where_two_nodes_each_win_one_member_the_first_member_decides() {
    let mut rig = Rig::active_group();
    // Equal priorities; in the first member's family we have the higher address, in the second's they have.
    rig.hear(A, 10, 100);
    rig.hear(B, 30, 100);
    assert_eq!(
        rig.states(),
        [State::Active; 2],
        "the other node hears A and yields"
    );
    // The same seen from the other node.
    let mut rig = Rig::active_group();
    rig.hear(B, 10, 100);
    rig.hear(A, 30, 100);
    assert_eq!(rig.states(), [State::Backup; 2]);
}

#[test]
fn a_better_router_that_only_a_following_member_hears_wins_after_active_down_interval() {
    let mut rig = Rig::active_group();
    let from = rig.now;
    while rig.states() == [State::Active; 2] {
        rig.pass(ms(1000));
        rig.hear(B, 30, 150);
    }
    let took = rig.now.saturating_since(from);
    assert!(took > ms(3600) && took <= ms(6000), "{took:?}");
    assert!(rig.log.iter().any(|e| matches!(
        e,
        (
            B,
            Action::Transition {
                reason: Reason::Better { .. },
                ..
            }
        )
    )));
    // Heard once and never again, it is forgotten.
    let mut rig = Rig::active_group();
    for _ in 0..5 {
        rig.hear(B, 30, 150);
        rig.pass(ms(4000));
    }
    assert_eq!(rig.states(), [State::Active; 2]);
}

#[test]
fn reconfiguring_keeps_a_member_in_its_group_and_a_single_one_out() {
    let mut rig = Rig::group(&[(A, 100), (B, 100)]);
    rig.give(A, Input::Reconfigure(Box::new(params(120))));
    assert!(rig.r.get(A).unwrap().params().gated);
    let mut gated = params(100);
    gated.gated = true;
    rig.r.insert(C, params(100), None);
    rig.give(C, Input::Reconfigure(Box::new(gated)));
    assert!(!rig.r.get(C).unwrap().params().gated);
}

#[test]
fn a_guardian_s_machine_leaves_through_a_router() {
    let mut rig = Rig::new();
    rig.r
        .insert_machine(A, Machine::leaving(params(100), rig.now), None);
    rig.drain();
    assert_eq!(rig.said(A, Action::SendAdvert { priority: 0 }), 1);
    rig.pass(ms(60_000));
    assert_eq!(rig.states(), [State::Initialize]);
    assert_eq!(rig.said(A, Action::Release), 1);
}

#[test]
fn t24_254_instances_at_100_ms_take_over_within_their_own_timers() {
    let mut rig = Rig::new();
    let fast = Params {
        advert_interval: AdvertInterval::new(Version::V3, 10).unwrap(),
        ..params(100)
    };
    for n in 1..=254 {
        rig.r.insert(InstanceId(n), fast.clone(), None);
        rig.give(InstanceId(n), Input::Startup);
    }
    let heard = rig.now;
    rig.pass(ms(361));
    assert!(rig.states().iter().all(|s| *s == State::Active));
    assert_eq!(
        rig.r.poll_timeout().map(|t| t.saturating_since(heard) < ms(462)),
        Some(true)
    );
    // Once it is warm, its queue does not grow any more.
    let room = rig.r.queue.capacity();
    rig.pass(ms(2000));
    assert_eq!(rig.r.queue.capacity(), room);
}
