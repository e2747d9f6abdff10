//! Properties of any sequence of inputs, timeouts and pauses.
use super::*;
use alloc::boxed::Box;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Give(Input),
    /// Sleep to the next timer, at most so long, and be late by so much.
    Sleep {
        at_most: Duration,
        late: Duration,
    },
}

fn any_params() -> impl Strategy<Value = Params> {
    (
        (
            any::<bool>(),
            1..=255_u8,
            any::<bool>(),
            prop_oneof![Just(0), 0..60_000_u64],
        ),
        (1..=40_u16, prop_oneof![Just(0), 0..9000_u64], any::<bool>()),
        (
            prop_oneof![Just(0), 0..9000_u64],
            prop::option::of(prop_oneof![Just(0), 0..90_000_u64]),
        ),
    )
        .prop_map(
            |((two, priority, preempt, delay), (n, linger, gated), (announce, refresh))| {
                let version = if two { Version::V2 } else { Version::V3 };
                Params {
                    version,
                    priority: Priority::new(priority).unwrap(),
                    preempt,
                    preempt_delay: ms(delay),
                    advert_interval: AdvertInterval::new(version, if two { n * 100 } else { n * 10 })
                        .unwrap(),
                    source: US.parse().unwrap(),
                    linger: ms(linger),
                    announce_delay: ms(announce),
                    announce_refresh: refresh.map(ms),
                    gated,
                }
            },
        )
}

fn any_input() -> impl Strategy<Value = Input> {
    let advert = (
        prop_oneof![Just(US), Just(PEER), Just("10.0.0.3"), Just("10.0.0.77")],
        prop_oneof![2 => any::<u8>(), 1 => Just(0), 1 => Just(255)],
        any::<u16>(),
    )
        .prop_map(|(source, priority, interval_cs)| {
            Input::Advert(Advert {
                interval_cs,
                ..advert(source, priority)
            })
        });
    prop_oneof![
        8 => advert,
        3 => Just(Input::Startup),
        3 => Just(Input::Claimed),
        1 => Just(Input::Shutdown),
        1 => Just(Input::Fault(FaultReason::Tracked)),
        1 => (-300..300).prop_map(Input::Weight),
        1 => any_params().prop_map(|p| Input::Reconfigure(Box::new(p))),
        1 => Just(Input::Overslept),
        1 => Just(Input::Promote),
        1 => Just(Input::Demote),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    let sleep =
        (0..20_000_u64, prop_oneof![3 => Just(0), 1 => 0..8000_u64]).prop_map(|(at_most, late)| Op::Sleep {
            at_most: ms(at_most),
            late: ms(late),
        });
    prop_oneof![any_input().prop_map(Op::Give), sleep]
}

/// What must hold whatever happens.
struct Watcher {
    rig: Rig,
    state: State,
    holds: bool,
    /// Claimed since the last Claim.
    in_place: bool,
    last_advert: Instant,
}

impl Watcher {
    fn new(params: Params) -> Self {
        let rig = Rig::new(params);
        Self {
            last_advert: rig.now,
            state: State::Initialize,
            holds: false,
            in_place: false,
            rig,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Give(input) => self.give(input),
            Op::Sleep { at_most, late } => {
                let wake = self.rig.m.poll_timeout().unwrap_or(self.rig.now + at_most);
                self.rig.now = wake.min(self.rig.now + at_most).max(self.rig.now) + late;
            }
        }
        // The caller's order: inputs, then timers.
        self.rig.m.handle_timeout(self.rig.now);
        assert!(
            self.rig.m.poll_timeout().is_none_or(|next| next > self.rig.now),
            "a timer in the past is a busy loop"
        );
        self.check_idle();
        self.check_actions();
        self.check_state();
    }

    /// Left alone, it does not wake all the time: more timers than there are take as long as the shortest period.
    fn check_idle(&self) {
        let mut m = self.rig.m.clone();
        for _ in 0..8 {
            let Some(next) = m.poll_timeout() else { return };
            m.handle_timeout(next);
        }
        let next = m.poll_timeout();
        assert!(next.is_none_or(|next| next >= self.rig.now + SHORTEST_PERIOD));
    }

    fn give(&mut self, input: Input) {
        let before = self.rig.clone();
        let claimed = input == Input::Claimed;
        let advert = if let Input::Advert(a) = &input {
            Some(*a)
        } else {
            None
        };
        if claimed && self.holds {
            self.in_place = true;
        }
        self.rig.m.handle(self.rig.now, input);
        if let Some(advert) = advert {
            self.check_discarded(&before, advert);
        }
    }

    /// T7: an advert that does not count changes nothing, or nothing but one answer.
    fn check_discarded(&self, before: &Rig, advert: Advert) {
        let m = &before.m;
        let ours = advert.source == m.params.source;
        let worse = advert.priority > 0 && advert.priority < m.effective_priority().get();
        let delay_over = before.now >= m.started + m.params.preempt_delay;
        let discarded = match m.state {
            State::Initialize => true,
            State::Backup => ours || (worse && m.params.preempt && delay_over),
            State::Active | State::Leaving => ours,
        };
        if discarded {
            assert_eq!(essence(&self.rig.m), essence(m));
        } else if worse && m.state == State::Active {
            assert_eq!(self.rig.m.timers, m.timers);
            assert_eq!(self.rig.m.state, State::Active);
        }
    }

    fn check_actions(&mut self) {
        for action in self.rig.actions() {
            match action {
                Action::SendAdvert { priority } => {
                    assert!(
                        priority == 0 || self.state == State::Active,
                        "an advert while {}",
                        self.state
                    );
                    self.last_advert = self.rig.now;
                }
                Action::Claim => {
                    assert_eq!(self.state, State::Active);
                    (self.holds, self.in_place) = (true, false);
                }
                Action::Announce => assert!(
                    self.in_place && self.state == State::Active,
                    "announced too early"
                ),
                Action::Release => {
                    assert!(core::mem::take(&mut self.holds), "released what it did not hold");
                    self.in_place = false;
                }
                Action::Willing => assert!(self.rig.m.params.gated),
                Action::Transition { from, to, .. } => {
                    assert_eq!(from, self.state);
                    assert_ne!(from, to);
                    self.state = to;
                    assert!(
                        to != State::Initialize || !self.holds,
                        "stopped without letting go"
                    );
                }
            }
        }
    }

    fn check_state(&self) {
        let m = &self.rig.m;
        assert_eq!((self.state, self.holds), (m.state, m.holds()));
        let next = m.poll_timeout();
        match m.state {
            State::Initialize => assert_eq!(next, None),
            State::Backup => {
                assert!(next.is_some() || m.is_willing());
                assert!(
                    !self.holds || m.timers.get(Timer::Linger).is_some(),
                    "it would hold for ever"
                );
            }
            State::Active => {
                assert!(self.holds);
                let due = m.timers.get(Timer::Adver).unwrap();
                assert!(due <= self.rig.now + m.params.advert_interval.duration());
                assert!(due <= self.last_advert + m.params.advert_interval.duration());
            }
            State::Leaving => {
                assert!(self.holds);
                let ends = m.timers.get(Timer::Linger).or(m.timers.get(Timer::GiveUp));
                assert!(ends.is_some(), "it would leave for ever");
            }
        }
    }
}

proptest! {
    #[test]
    fn no_sequence_breaks_what_must_hold(params in any_params(), ops in prop::collection::vec(any_op(), 1..80)) {
        let mut watcher = Watcher::new(params);
        for op in ops {
            watcher.apply(op);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_left_alone_ends_up_active_or_not_at_all(
        params in any_params(),
        ops in prop::collection::vec(any_op(), 1..40),
    ) {
        let mut watcher = Watcher::new(params);
        for op in ops {
            watcher.apply(op);
        }
        // Longer than any interval that could have been adopted (655 s) needs.
        let settled = watcher.rig.now + ms(4 * 655_360 + 20_000);
        while watcher.rig.now < settled && watcher.rig.m.poll_timeout().is_some_and(|t| t < settled) {
            watcher.apply(Op::Sleep { at_most: ms(10_000_000), late: ms(0) });
        }
        let m = &watcher.rig.m;
        prop_assert!(
            matches!(m.state(), State::Active | State::Initialize) || (m.is_willing() && !m.holds()),
            "{:?}", m
        );
    }
}
