//! Make before break: who holds the addresses while a router goes, and for how long.
use super::*;
use crate::vrrp::longest_down_interval;

type Timed = Vec<(Duration, Action)>;

#[test]
fn a_router_that_lost_lingers_and_then_lets_go() {
    let mut rig = Rig::active(params());
    rig.hear(PEER, 150);
    assert!(rig.m.holds());
    let acts = rig.pass(ms(2000));
    assert_eq!(acts, [(ms(500), Action::Release)]);
    assert!(!rig.m.holds());
    let mut rig = Rig::active(Params {
        linger: Duration::ZERO,
        ..params()
    });
    assert!(short(&rig.hear(PEER, 150)).starts_with("advert 100, release, Active>Backup"));
}

#[test]
fn a_router_that_yields_says_a_last_word_so_that_the_winner_announces() {
    let mut loser = Rig::active(params());
    assert!(short(&loser.hear(PEER, 150)).starts_with("advert 100, Active>Backup Better"));
    // Behind a cut cable it was Active all along and heard nobody.
    let mut winner = Rig::active(params());
    assert_eq!(short(&winner.hear("10.0.0.3", 100)), "advert 100, announce");
    // The rest of the loser's sync group says goodbye instead.
    let mut winner = Rig::active(params());
    assert_eq!(short(&winner.hear("10.0.0.3", 0)), "advert 100, announce");
}

#[test]
fn becoming_active_again_while_it_lingers_claims_and_does_not_let_go() {
    let mut rig = Rig::active(Params {
        linger: ms(4000),
        ..params()
    });
    rig.hear(PEER, 150);
    rig.now += ms(200);
    rig.hear(PEER, 0);
    let acts: Vec<_> = rig.pass(ms(900)).into_iter().map(|(_, a)| a).collect();
    assert_eq!(short(&acts), "Backup>Active ActiveLeft, advert 100, claim");
    assert!(!rig.pass(ms(60_000)).iter().any(|(_, a)| *a == Action::Release));
}

#[test]
fn leaving_waits_for_its_successor_and_lingers() {
    let mut rig = Rig::active(params());
    assert_eq!(
        short(&rig.give(Input::Shutdown)),
        "Active>Leaving Shutdown, advert 0"
    );
    rig.now += ms(620);
    assert!(rig.hear(PEER, 90).is_empty() && rig.m.holds());
    let acts = rig.pass(ms(60_000));
    assert_eq!(acts[0], (ms(500), Action::Release));
    assert!(matches!(
        acts[1].1,
        Action::Transition {
            to: State::Initialize,
            reason: Reason::Succeeded { .. },
            ..
        }
    ));
    assert_eq!(acts.len(), 2);
}

#[test]
fn leaving_repeats_its_goodbye_and_gives_up_when_the_slowest_backup_had_its_chance() {
    for (version, cs) in [(Version::V3, 100), (Version::V2, 100), (Version::V3, 10)] {
        let mut rig = Rig::active(Params {
            version,
            advert_interval: AdvertInterval::new(version, cs).unwrap(),
            ..params()
        });
        rig.give(Input::Shutdown);
        let interval = ms(u64::from(cs) * 10);
        let cap = longest_down_interval(version, interval) + ms(500);
        let acts = rig.pass(ms(60_000));
        let (goodbyes, end): (Timed, Timed) = acts
            .iter()
            .partition(|(_, a)| *a == Action::SendAdvert { priority: 0 });
        let period = interval * 255 / 256;
        assert!(
            goodbyes.windows(2).all(|w| w[1].0 - w[0].0 >= period),
            "{goodbyes:?}"
        );
        assert_eq!(end[0], (cap, Action::Release));
        assert!(matches!(
            end[1].1,
            Action::Transition {
                reason: Reason::NoSuccessor,
                ..
            }
        ));
    }
}

#[test]
fn a_machine_can_begin_by_leaving_in_a_dead_one_s_stead() {
    let now = at(5000);
    let mut m = Machine::leaving(params(), now);
    assert!(m.holds() && m.state() == State::Leaving);
    let said = core::iter::from_fn(|| m.poll_action()).collect::<Vec<_>>();
    assert_eq!(short(&said), "Active>Leaving Shutdown, advert 0");
    m.handle(now + ms(1), Input::Advert(advert(PEER, 90)));
    m.handle_timeout(now + ms(501));
    assert_eq!(m.poll_action(), Some(Action::Release));
    assert_eq!(m.state(), State::Initialize);
}
