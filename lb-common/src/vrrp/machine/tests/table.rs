//! Every state with every input, against a table that a person can read beside the RFC.
use super::*;
use alloc::boxed::Box;
use std::fmt::Write;

fn states() -> Vec<(&'static str, Rig)> {
    let gated = Params {
        gated: true,
        ..params()
    };
    let mut willing = Rig::backup(gated);
    willing.expire();
    let mut lingering = Rig::active(params());
    lingering.hear(PEER, 150);
    let mut unclaimed = Rig::backup(params());
    unclaimed.expire();
    let mut leaving = Rig::active(params());
    leaving.give(Input::Shutdown);
    let mut succeeded = leaving.clone();
    succeeded.hear(PEER, 90);
    std::vec![
        ("Initialize", Rig::new(params())),
        ("Backup", Rig::backup(params())),
        ("Backup, willing", willing),
        ("Backup, lingering", lingering),
        ("Active, claiming", unclaimed),
        ("Active", Rig::active(params())),
        ("Leaving", leaving),
        ("Leaving, succeeded", succeeded),
    ]
}

fn inputs(gated: bool) -> Vec<(&'static str, Input)> {
    let changed = |f: fn(&mut Params)| {
        let mut p = Params { gated, ..params() };
        f(&mut p);
        Input::Reconfigure(Box::new(p))
    };
    std::vec![
        ("startup", Input::Startup),
        ("resume", Input::Resume),
        ("shutdown", Input::Shutdown),
        ("fault", Input::Fault(FaultReason::InterfaceDown)),
        ("advert, our own", Input::Advert(advert(US, 200))),
        ("advert, priority 0", Input::Advert(advert(PEER, 0))),
        ("advert, worse", Input::Advert(advert(PEER, 90))),
        (
            "advert, equal, lower address",
            Input::Advert(advert("10.0.0.3", 100))
        ),
        ("advert, equal, higher address", Input::Advert(advert(PEER, 100))),
        ("advert, better", Input::Advert(advert(PEER, 150))),
        ("weight +50", Input::Weight(50)),
        ("weight -50", Input::Weight(-50)),
        ("weight 0", Input::Weight(0)),
        ("reconfigure, nothing new", changed(|_| {})),
        (
            "reconfigure, interval 100 ms",
            changed(|p| p.advert_interval = AdvertInterval::new(Version::V3, 10).unwrap())
        ),
        ("reconfigure, owner", changed(|p| p.priority = Priority::OWNER)),
        ("overslept", Input::Overslept),
        ("promote", Input::Promote),
        ("demote", Input::Demote),
        ("claimed", Input::Claimed),
    ]
}

fn row(out: &mut String, name: &str, before: Option<Duration>, rig: &mut Rig, actions: &[Action]) {
    let timer = match (before, rig.until_timeout()) {
        (_, None) => "-".into(),
        (b, a) if a == b => "same".into(),
        (_, Some(a)) => std::format!("{} ms", a.as_millis()),
    };
    let actions = if actions.is_empty() {
        "-".into()
    } else {
        short(actions)
    };
    writeln!(
        out,
        "  {name:30} {:10} next {timer:8} {actions}",
        rig.m.state().name()
    )
    .unwrap();
}

fn render() -> String {
    let mut out = String::new();
    for (state, rig) in states() {
        // A little later, so that a timer that is set anew is seen to be.
        let mut rig = rig;
        rig.now += ms(100);
        let before = rig.until_timeout();
        writeln!(out, "{state}: next {:?}", before.map(|d| d.as_millis())).unwrap();
        for (name, input) in inputs(rig.m.params.gated) {
            let mut after = rig.clone();
            let actions = after.give(input);
            row(&mut out, name, before, &mut after, &actions);
        }
        let mut after = rig.clone();
        let actions = after.expire();
        row(&mut out, "timer", before, &mut after, &actions);
    }
    out
}

#[test]
fn every_state_answers_every_input_as_documented() {
    let (is, should) = (render(), include_str!("table.txt"));
    for (is, should) in is.lines().zip(should.lines()) {
        assert_eq!(is, should);
    }
    assert_eq!(is.lines().count(), should.lines().count(), "{is}");
}
