//! Who gets what, as a table.
use super::*;
use crate::health::{HealthCheck, Probe};
use crate::model::{Forwarding, Protocol, Scheduler, SchedulerFlags, ServiceKey};
use crate::spec::DatapathKind;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::string::{String, ToString};
use std::{format, vec};

fn server(last: u8, weight: u32) -> RealServer {
    RealServer {
        weight,
        ..RealServer::new(IpAddr::from([192, 0, 2, last]), 6443)
    }
}

fn virtual_server(weights: &[u32], sorry: bool) -> VirtualServer {
    let servers = weights.iter().zip(1..).map(|(w, n)| server(n, *w));
    VirtualServer {
        name: "api".into(),
        key: ServiceKey {
            address: IpAddr::from([192, 0, 2, 200]),
            port: 6443,
            protocol: Protocol::Tcp,
        },
        instance: 0,
        datapath: DatapathKind::Auto,
        scheduler: Scheduler::RoundRobin,
        flags: SchedulerFlags::default(),
        forwarding: Forwarding::DirectRouting,
        persistence: None,
        health_check: HealthCheck::new(Probe::Tcp),
        slow_start: Duration::ZERO,
        quorum: None,
        hysteresis: 0,
        proxy_protocol: crate::spec::ProxyProtocol::default(),
        sorry_server: sorry.then(|| server(99, 1)),
        real_servers: servers.collect(),
    }
}

/// `states`: a letter a server: `u`p, `n`ot ready, `d`own, or a digit: up, with so many tenths.
fn view(vs: &VirtualServer, states: &str, lost: bool) -> HealthView {
    let mut view = HealthView::default();
    for (server, state) in vs.real_servers.iter().zip(states.chars()) {
        let address = SocketAddr::new(server.address, server.port);
        match state {
            'n' => drop(view.unready.insert((vs.key, address))),
            'd' => drop(view.down.insert((vs.key, address))),
            c => {
                if let Some(tenths) = c.to_digit(10) {
                    let share = u8::try_from(tenths * 10).unwrap();
                    view.ramping.insert((vs.key, address, share));
                }
            }
        }
    }
    if lost {
        view.lost.insert(vs.key);
    }
    view
}

/// A weight for each that is alive, a dash for the others.
fn shown(selection: &Selection) -> String {
    let one = |c: &Candidate| if c.alive { c.weight.to_string() } else { "-".into() };
    let all: Vec<String> = selection.candidates.iter().map(one).collect();
    format!("{:?} {}", selection.choice, all.join(" "))
}

#[test]
fn servers_get_what_their_health_and_weight_say() {
    for (weights, states, expected) in [
        (vec![1, 1, 1], "uuu", "Healthy 1 1 1"),
        (vec![1, 2, 3], "udn", "Healthy 1 - 0"),
        (vec![1, 1, 1], "ndd", "Answering 1 - -"),
        (vec![1, 2, 3], "nnd", "Answering 1 2 -"),
        (vec![1, 2, 3], "ddd", "All 1 2 3"),
        // Drained by the file: it keeps what it has.
        (vec![0, 1, 1], "uuu", "Healthy 0 1 1"),
        (vec![0, 1, 1], "udd", "All 0 1 1"),
        (vec![0, 1, 1], "ddd", "All - 1 1"),
        (vec![0, 1, 1], "und", "Answering 0 1 -"),
        (vec![0, 0], "ud", "All 0 -"),
        // Slow start: everybody's weight is finer while somebody's grows.
        (vec![1, 1, 1], "u1u", "Healthy 10 1 10"),
        (vec![2, 4, 1], "u59", "Healthy 20 20 9"),
        (vec![1, 1, 1], "d1d", "Healthy - 1 -"),
        (vec![0, 1], "1u", "Healthy 0 10"),
    ] {
        let vs = virtual_server(&weights, false);
        let lost = states.chars().all(|c| c == 'd');
        let got = shown(&select(&vs, &view(&vs, states, lost)));
        assert_eq!(got, expected, "{weights:?} {states}");
    }
}

#[test]
fn the_sorry_server_takes_over_when_the_quorum_is_lost_and_the_living_keep_what_they_have() {
    let vs = virtual_server(&[1, 1, 1], true);
    assert_eq!(shown(&select(&vs, &view(&vs, "uud", false))), "Healthy 1 1 -");
    assert_eq!(shown(&select(&vs, &view(&vs, "und", true))), "Sorry 0 0 - 1");
    assert_eq!(shown(&select(&vs, &view(&vs, "ddd", true))), "Sorry - - - 1");
}

#[test]
fn a_node_can_serve_while_one_server_answers_or_the_quorum_is_met() {
    let mut vs = virtual_server(&[1, 1], false);
    for (states, able) in [("ud", true), ("nd", true), ("nn", true), ("dd", false)] {
        assert_eq!(view(&vs, states, false).can_serve(&vs), able, "{states}");
    }
    vs.quorum = Some(2);
    assert!(view(&vs, "ud", false).can_serve(&vs));
    assert!(!view(&vs, "nn", true).can_serve(&vs));
}
