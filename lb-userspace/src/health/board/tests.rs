//! Slow start, quorum and the sentences, on a clock by hand.
use super::*;
use crate::config::{Overrides, load_text};
use std::time::Duration;

fn spec(rest: &str) -> Spec {
    let text = format!(
        "apiVersion: cplb.io/v1alpha1\nkind: ControlPlaneLoadBalancer\nspec:\n  \
         vrrpInstances: [{{virtualIPs: [192.0.2.200/24]}}]\n  virtualServers:\n    - name: api\n      \
         ipAddress: 192.0.2.200\n      lbAlgo: wlc\n{rest}      realServers: [{{address: 192.0.2.1}}, \
         {{address: 192.0.2.2, weight: 2}}, {{address: 192.0.2.3}}]\n"
    );
    let nobody = |_: &str| Err("nobody".to_owned());
    match load_text("test.yaml", text.as_bytes(), &Overrides::default(), &nobody) {
        Ok(loaded) => loaded.spec,
        Err(report) => panic!("{report}"),
    }
}

/// A letter a server: `u`p, `n`ot ready, `d`own.
fn states(spec: &Spec, letters: &str) -> BTreeMap<Seat, Health> {
    let vs = &spec.virtual_servers[0];
    let one = |(server, letter): (&lb_common::spec::RealServer, char)| {
        let health = match letter {
            'u' => Health::Up,
            'n' => Health::Unready,
            _ => Health::Down,
        };
        ((vs.key, SocketAddr::new(server.address, server.port)), health)
    };
    vs.real_servers.iter().zip(letters.chars()).map(one).collect()
}

fn problems(spec: &Spec, view: &HealthView) -> Vec<String> {
    Board::sentences(spec, view).1
}

#[test]
fn a_server_that_comes_back_starts_slowly_and_one_that_is_new_does_not() {
    let spec = spec("      slowStart: 10s\n");
    let (mut board, start) = (Board::default(), Instant::from_millis(1_000));
    let view = board.view(start, &spec, states(&spec, "uuu"));
    assert!(view.ramping.is_empty() && board.due(start).is_none());
    board.view(start, &spec, states(&spec, "udn"));
    let view = board.view(start, &spec, states(&spec, "uuu"));
    let shares = |view: &HealthView| {
        view.ramping
            .iter()
            .map(|(_, _, share)| *share)
            .collect::<Vec<_>>()
    };
    assert_eq!(shares(&view), [10, 10]);
    assert_eq!(board.due(start), Some(start + Duration::from_secs(1)));
    let later = start + Duration::from_secs(5);
    // One falls again: its ramp begins anew when it is back.
    let view = board.view(later, &spec, states(&spec, "udu"));
    assert_eq!(shares(&view), [60]);
    let view = board.view(later, &spec, states(&spec, "uuu"));
    assert_eq!(shares(&view), [10, 60]);
    let end = start + Duration::from_secs(16);
    let view = board.view(end, &spec, states(&spec, "uuu"));
    assert!(view.ramping.is_empty() && board.due(end).is_none());
}

#[test]
fn a_quorum_counts_weight_and_has_its_margin() {
    let spec = spec("      quorum: 2\n      hysteresis: 1\n      sorryServer: {address: 192.0.2.9}\n");
    let mut board = Board::default();
    let mut lost = |letters: &str| {
        let view = board.view(Instant::ZERO, &spec, states(&spec, letters));
        !view.lost.is_empty()
    };
    // 4, 2, 1, 0, 2, 3 of healthy weight.
    let seen = ["uuu", "udu", "udd", "ddd", "udn", "dun", "uun"].map(&mut lost);
    assert_eq!(seen, [false, false, false, true, true, true, false]);
    let view = board.view(Instant::ZERO, &spec, states(&spec, "ddd"));
    assert_eq!(
        problems(&spec, &view),
        ["api: too few of its 3 real servers are healthy: the sorry server 192.0.2.9:6443 serves"]
    );
}

#[test]
fn what_is_unusual_is_said() {
    let spec = spec("");
    let mut board = Board::default();
    let mut said = |letters: &str| {
        let view = board.view(Instant::ZERO, &spec, states(&spec, letters));
        problems(&spec, &view)
    };
    assert_eq!(said("uud"), Vec::<String>::new());
    assert_eq!(
        said("nnd"),
        ["api: none of its 3 real servers is ready: connections go to those that answer at all"]
    );
    assert_eq!(
        said("ddd"),
        ["api: NONE of its 3 real servers answers: all are kept, in case it is the checks that fail"]
    );
}
