//! The election's driver on real sockets, in network namespaces that the test makes. Needs root; without it every test
//! says so and passes.
#![expect(clippy::unwrap_used, reason = "a test ends where its set-up fails")]

#[path = "vrrp_driver/lab.rs"]
mod lab;

use lab::{Lab, Running, ip, until};
use lb_common::model::{AdvertInterval, AuthPass, MacAddr, Priority, Version, Vrid};
use lb_common::spec::{
    Announce, ChecksumForm, Instance, InterfaceSelector, SyncGroup, Track, Tracked, Transport,
};
use lb_common::vrrp::track::Outside;
use lb_common::vrrp::{FaultReason, Reason, State};
use lb_userspace::vrrp::{Command, Config};
use std::process::Command as Process;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

fn instance(priority: u8) -> Instance {
    Instance {
        name: "k0s-vip-0".to_owned(),
        virtual_ips: vec!["10.9.0.100/24".parse().unwrap()],
        interface: InterfaceSelector::Auto,
        vrid: Vrid::new(51).unwrap(),
        version: Version::V3,
        priority: Priority::new(priority).unwrap(),
        preempt: true,
        preempt_delay: Duration::ZERO,
        advert_interval: AdvertInterval::new(Version::V3, 10).unwrap(),
        auth_pass: None,
        transport: Transport::Multicast,
        checksum: ChecksumForm::PseudoHeader,
        announce: Announce {
            repeat: 2,
            delay: Duration::from_millis(100),
            refresh: None,
            interval: Duration::from_millis(10),
        },
        track: Vec::new(),
        notify: Vec::new(),
        address_label: 0,
    }
}

fn v2(priority: u8) -> Instance {
    Instance {
        version: Version::V2,
        advert_interval: AdvertInterval::SECOND,
        auth_pass: AuthPass::new("secret99"),
        ..instance(priority)
    }
}

fn v6(priority: u8) -> Instance {
    Instance {
        virtual_ips: vec![
            "fe80::5454/128".parse().unwrap(),
            "2001:db8::54/64".parse().unwrap(),
        ],
        ..instance(priority)
    }
}

fn unicast(priority: u8, own: u8, peers: &[u8]) -> Instance {
    let address = |n| format!("10.9.0.{n}").parse().unwrap();
    Instance {
        transport: Transport::Unicast {
            source: Some(address(own)),
            peers: peers.iter().map(|p| address(*p)).collect(),
        },
        ..instance(priority)
    }
}

/// Two nodes: the better one becomes Active, leaves well, and the other follows.
fn elects_and_succeeds(better: Instance, worse: Instance) {
    let Some(lab) = Lab::new(2) else { return };
    let a = lab.start(0, vec![better]);
    let b = lab.start(1, vec![worse]);
    until("the better one holds", || a.is(State::Active) && a.holds());
    until("it is heard", || b.one().active.is_some());
    assert_eq!((b.is(State::Backup), b.holds()), (true, false));
    assert_eq!(b.one().active.unwrap().address, a.one().source.unwrap());
    until("it announces", || a.one().counters.announced >= 4);
    assert!(
        b.one().counters.rejected.is_empty(),
        "{:?}",
        b.one().last_rejected
    );
    a.stop();
    until("the other follows", || b.is(State::Active) && b.holds());
    assert_eq!(b.one().active, None);
    b.stop();
}

#[test]
fn v3_over_ipv4() {
    elects_and_succeeds(instance(200), instance(100));
}

#[test]
fn v2_with_a_password() {
    elects_and_succeeds(v2(200), v2(100));
}

#[test]
fn v3_over_ipv6() {
    elects_and_succeeds(v6(200), v6(100));
}

#[test]
fn v3_in_unicast() {
    elects_and_succeeds(unicast(200, 1, &[2]), unicast(100, 2, &[1]));
}

#[test]
fn v3_with_the_checksum_of_rfc_9568() {
    let form = |i| Instance {
        checksum: ChecksumForm::MessageOnly,
        ..i
    };
    elects_and_succeeds(form(instance(200)), instance(100));
}

#[test]
fn of_two_equal_routers_the_higher_address_wins() {
    let Some(lab) = Lab::new(2) else { return };
    let a = lab.start(0, vec![instance(100)]);
    until("the first holds", || a.holds());
    let b = lab.start(1, vec![instance(100)]);
    until("the second hears it", || b.one().active.is_some());
    assert!(b.is(State::Backup), "an equal router that is Active stays so");
    // Both Active at once, as after a partition.
    let partition = |on: &str| {
        for port in ["port1", "port2"] {
            lab.hub
                .ip(&format!("link set {port} type bridge_slave isolated {on}"));
        }
    };
    partition("on");
    until("the second holds too", || b.holds());
    partition("off");
    until("the lower address gives way", || {
        a.is(State::Backup) && !a.holds()
    });
    assert!(b.is(State::Active));
}

#[test]
fn a_reload_keeps_who_is_active_and_new_addresses_make_a_new_generation() {
    let Some(lab) = Lab::new(2) else { return };
    let a = lab.start(0, vec![instance(200)]);
    let b = lab.start(1, vec![instance(100)]);
    until("a holds", || a.holds() && b.one().active.is_some());
    let (before, transitions) = (a.view().generation, a.one().transitions);
    let more = Instance {
        virtual_ips: vec!["10.9.0.100/24".parse().unwrap(), "10.9.0.101/24".parse().unwrap()],
        ..instance(190)
    };
    for _ in 0..20 {
        a.reload(vec![instance(200)]);
        a.reload(vec![more.clone()]);
    }
    until("the new address is asked for", || {
        a.view().generation > before && a.one().priority == 190
    });
    until("and announced", || a.one().counters.announced > 4);
    assert_eq!(a.one().transitions, transitions, "nothing else happened");
    assert!(b.is(State::Backup));
    // Removed: leaves well, and is forgotten when it has let go.
    a.reload(Vec::new());
    until("b follows", || b.holds());
    until("it is gone", || a.view().instances.is_empty());
    a.reload(vec![instance(200)]);
    until("it is back", || a.is(State::Active) && b.is(State::Backup));
}

#[test]
fn an_instance_that_comes_back_while_it_leaves_turns_round() {
    let Some(lab) = Lab::new(1) else { return };
    let a = lab.start(0, vec![instance(200)]);
    until("a holds", || a.holds());
    // Nobody to take over: it leaves for a while.
    a.reload(Vec::new());
    until("it leaves", || a.is(State::Leaving));
    a.reload(vec![instance(200)]);
    until("it is Active again", || a.is(State::Active));
    assert_eq!(a.view().instances.len(), 1);
}

#[test]
fn a_link_that_fails_is_a_fault_and_an_interface_that_appears_ends_one() {
    let Some(lab) = Lab::new(2) else { return };
    let on_dummy = Instance {
        interface: InterfaceSelector::Name("later".to_owned()),
        vrid: Vrid::new(52).unwrap(),
        virtual_ips: vec!["10.8.0.100/24".parse().unwrap()],
        name: "later".to_owned(),
        ..instance(100)
    };
    let a = lab.start(0, vec![instance(200), on_dummy]);
    let b = lab.start(1, vec![instance(100)]);
    until("a holds", || a.holds());
    let fault = |i: usize| a.view().instances[i].fault;
    until("the other has no interface", || {
        fault(1) == Some(FaultReason::NoInterface)
    });
    lab.hub.ip("link set port1 down");
    until("a is at fault", || {
        fault(0) == Some(FaultReason::InterfaceDown) && !a.holds()
    });
    until("b follows", || b.holds());
    lab.hub.ip("link set port1 up");
    until("a takes part again", || {
        a.one().fault.is_none() && a.one().state == State::Active
    });
    // The interface comes by and by: present, up, with an address.
    lab.nodes[0].ip("link add later type veth peer name peer");
    until("it is down", || fault(1) == Some(FaultReason::InterfaceDown));
    lab.nodes[0].ip("link set peer up");
    lab.nodes[0].ip("link set later up");
    until("it has no address", || fault(1) == Some(FaultReason::NoAddress));
    lab.nodes[0].ip("addr add 10.8.0.1/24 dev later");
    until("it takes part", || a.view().instances[1].state == State::Active);
    lab.nodes[0].ip("link del later");
    until("it is gone", || fault(1) == Some(FaultReason::NoInterface));
}

#[test]
fn the_source_is_never_a_virtual_ip_and_follows_the_interface() {
    let Some(lab) = Lab::new(1) else { return };
    // Left over from a run that crashed: the VIP is the first address of the subnet.
    lab.nodes[0].ip("addr del 10.9.0.1/24 dev eth0");
    lab.nodes[0].ip("addr add 10.9.0.100/24 dev eth0");
    let by_name = Instance {
        interface: InterfaceSelector::Mac("02:00:00:00:00:01".parse::<MacAddr>().unwrap()),
        ..instance(100)
    };
    let a = lab.start(0, vec![by_name]);
    until("there is no address", || {
        a.one().fault == Some(FaultReason::NoAddress)
    });
    lab.nodes[0].ip("addr add 10.9.0.1/24 dev eth0");
    until("the secondary one serves", || {
        a.one().source == Some("10.9.0.1".parse().unwrap())
    });
    until("it is Active", || a.is(State::Active));
    lab.nodes[0].ip("addr add 10.9.0.7/24 dev eth0");
    lab.nodes[0].ip("addr del 10.9.0.1/24 dev eth0");
    until("another serves", || {
        a.one().source == Some("10.9.0.7".parse().unwrap())
    });
    assert!(a.is(State::Active));
}

#[test]
fn tracking_moves_the_priority_or_makes_a_fault() {
    let Some(lab) = Lab::new(2) else { return };
    lab.nodes[0].ip("link add t0 type veth peer name t1");
    lab.nodes[0].ip("link set t1 up");
    lab.nodes[0].ip("link set t0 up");
    let track = |weight| Track {
        what: Tracked::Interface("t0".to_owned()),
        weight,
    };
    let with = |weight| Instance {
        track: vec![track(weight)],
        ..instance(200)
    };
    let a = lab.start(0, vec![with(-150)]);
    let b = lab.start(1, vec![instance(100)]);
    until("a holds", || a.is(State::Active));
    lab.nodes[0].ip("link set t1 down");
    until("its priority falls below b's", || {
        a.one().priority == 50 && b.is(State::Active) && a.is(State::Backup)
    });
    let outside = |fault, weight| {
        a.send(Command::Outside {
            instance: "k0s-vip-0".to_owned(),
            outside: Outside { fault, weight },
        });
    };
    outside(false, 100);
    until("the outside weight adds to it", || {
        a.one().priority == 150 && a.is(State::Active)
    });
    outside(true, 100);
    until("what is looked at outside is a fault too", || {
        a.one().fault == Some(FaultReason::Tracked) && !a.holds() && b.is(State::Active)
    });
    outside(false, 100);
    until("and is over", || a.one().fault.is_none() && a.is(State::Active));
    a.reload(vec![with(0)]);
    until("without a weight it is a fault", || {
        a.one().fault == Some(FaultReason::Tracked) && !a.holds()
    });
    until("b follows", || b.is(State::Active));
}

#[test]
fn members_of_a_sync_group_go_together() {
    let Some(lab) = Lab::new(2) else { return };
    let two = |priority| {
        let other = Instance {
            name: "six".to_owned(),
            ..v6(priority)
        };
        vec![instance(priority), other]
    };
    let groups = || {
        vec![SyncGroup {
            name: "both".to_owned(),
            members: vec![0, 1],
        }]
    };
    // Each begins on its own; the group comes by a reload.
    let start = |node, priority| {
        let r = lab.start(node, two(priority));
        r.send(Command::Reload {
            instances: two(priority),
            sync_groups: groups(),
        });
        r
    };
    let all = |r: &Running, state| r.view().instances.iter().all(|i| i.state == state);
    let a = start(0, 200);
    let b = start(1, 100);
    until("a has both", || all(&a, State::Active));
    // One address fewer: its instance cannot go on, and takes the other with it.
    lab.nodes[0].ip("addr del fe80::1/64 dev eth0");
    until("b has both", || all(&b, State::Active));
    let faults: Vec<_> = a.view().instances.iter().map(|i| i.fault).collect();
    assert_eq!(
        faults,
        [Some(FaultReason::SyncGroup), Some(FaultReason::NoAddress)]
    );
    lab.nodes[0].ip("addr add fe80::1/64 dev eth0 nodad");
    until("a has both again", || {
        all(&a, State::Active) && all(&b, State::Backup)
    });
}

#[test]
fn a_storm_of_foreign_adverts_changes_nothing_and_is_counted() {
    let Some(lab) = Lab::new(3) else { return };
    let a = lab.start(0, vec![v2(200)]);
    let b = lab.start(1, vec![v2(100)]);
    until("a holds", || a.holds() && b.one().active.is_some());
    let (before, transitions) = (a.one().counters.sent, b.one().transitions.len());
    // The same VRID with another password, far more often than anybody adverts.
    let sent = lab.nodes[2].run(|| {
        let key = lb_userspace::sys::rawsock::Destination::Group(lb_common::model::Family::Ipv4);
        let index = nix::net::if_::if_nametoindex("eth0").unwrap();
        let socket = lb_userspace::sys::rawsock::VrrpSocket::open(index, "eth0", key).unwrap();
        let (source, group) = ("10.9.0.3".parse().unwrap(), "224.0.0.18".parse().unwrap());
        let mut bytes = Vec::new();
        foreign().encode(source, group, &mut bytes).unwrap();
        let start = Instant::now();
        let mut sent = 0_u64;
        while start.elapsed() < Duration::from_secs(4) {
            for _ in 0..50 {
                sent += u64::from(socket.send(source, group, &bytes).is_ok());
            }
            thread::sleep(Duration::from_millis(1));
        }
        sent
    });
    until("they are counted", || {
        a.one()
            .counters
            .rejected
            .get("auth")
            .is_some_and(|n| *n > sent / 2)
    });
    let rejected = a.one().last_rejected.unwrap();
    assert_eq!(rejected.source, "10.9.0.3".parse::<std::net::IpAddr>().unwrap());
    assert!(
        !rejected.why.contains("another8"),
        "no password in: {}",
        rejected.why
    );
    assert!(a.one().counters.sent > before, "it went on sending its adverts");
    assert_eq!(b.one().transitions.len(), transitions);
    assert!(a.is(State::Active) && b.is(State::Backup));
}

fn foreign() -> lb_common::wire::vrrp::Advertisement {
    use lb_common::wire::vrrp::{Addresses, Advertisement, Auth};
    let vips = ["192.0.2.1".parse().unwrap()];
    Advertisement {
        version: Version::V2,
        vrid: Vrid::new(51).unwrap(),
        priority: 250,
        interval_cs: 100,
        reserved: 0,
        auth: Some(Auth::from_pass(AuthPass::new("another8"))),
        addresses: Addresses::of(lb_common::model::Family::Ipv4, vips),
        checksum_form: ChecksumForm::MessageOnly,
    }
}

fn notices_a_static_holder(instance: Instance, address: &str, plain: &str) {
    let Some(lab) = Lab::new(2) else { return };
    lab.nodes[1].ip(&format!("addr add {address} dev eth0"));
    let a = lab.start(0, vec![instance]);
    until("a holds", || a.holds());
    until("the other is noticed", || a.one().conflict.is_some());
    let text = a.one().conflict.unwrap();
    assert!(
        text.contains("02:00:00:00:00:02") && text.contains(plain),
        "{text}"
    );
    assert!(a.is(State::Active), "it is said, not acted upon");
}

#[test]
fn somebody_who_has_the_ipv4_address_by_hand_is_noticed() {
    notices_a_static_holder(instance(100), "10.9.0.100/24", "10.9.0.100");
}

#[test]
fn somebody_who_has_the_ipv6_address_by_hand_is_noticed() {
    notices_a_static_holder(v6(100), "2001:db8::54/64 nodad", "2001:db8::54");
}

#[test]
fn a_change_of_holder_is_no_conflict() {
    let Some(lab) = Lab::new(2) else { return };
    let a = lab.start(0, vec![instance(100)]);
    until("a holds", || a.holds());
    thread::sleep(Duration::from_millis(2500));
    let b = lab.start(1, vec![instance(200)]);
    until("b preempts", || b.holds() && !a.holds());
    b.stop();
    until("a follows", || a.is(State::Active));
    assert_eq!(a.one().conflict, None);
}

#[test]
fn a_guardian_leaves_in_a_dead_daemons_place() {
    let Some(lab) = Lab::new(2) else { return };
    let slow = |priority| Instance {
        advert_interval: AdvertInterval::new(Version::V3, 200).unwrap(),
        ..instance(priority)
    };
    let b = lab.start(1, vec![slow(250)]);
    until("b is there", || b.is(State::Backup));
    let config = Config {
        instances: vec![slow(200)],
        leaving: true,
        linger: Duration::from_millis(100),
        realtime: None,
        ..Config::default()
    };
    let mut a = lab.start_with(0, config);
    until("b follows", || b.holds());
    // Not its own patience was at an end: it heard priority 0.
    assert_eq!(b.one().transitions.last().unwrap().reason, Reason::ActiveLeft);
    a.driver.take().unwrap().join().unwrap();
}

#[test]
fn a_claim_waits_until_it_is_applied_and_the_last_view_too() {
    let Some(lab) = Lab::new(1) else { return };
    let a = lab.start(0, vec![instance(100)]);
    a.applying.store(false, Ordering::Relaxed);
    until("the addresses are asked for", || a.one().holds);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(
        a.one().counters.announced,
        0,
        "nothing is there yet to be announced"
    );
    a.applying.store(true, Ordering::Relaxed);
    until("it is announced", || a.one().counters.announced >= 2);
    let heartbeat = a.driver().heartbeat();
    assert!(heartbeat.is_fresh(lb_userspace::clock::now(), Duration::from_secs(2)));
    a.applying.store(false, Ordering::Relaxed);
    let start = Instant::now();
    a.stop();
    assert!(
        start.elapsed() >= Duration::from_secs(2),
        "the daemon had its two seconds"
    );
}

#[test]
fn lost_notifications_are_made_up_for() {
    use lb_userspace::sys::linkmon::LinkMonitor;
    let Some(lab) = Lab::new(1) else { return };
    let (resyncs, known, real) = lab.nodes[0].run(|| {
        let mut monitor = LinkMonitor::open().unwrap();
        let settle = |m: &mut LinkMonitor| {
            until("it is read", || {
                m.drain(100_000).unwrap();
                m.synced()
            });
        };
        settle(&mut monitor);
        let mut batch = String::new();
        for n in 0..6000 {
            batch += &format!("addr add 10.{}.{}.1/32 dev lo\n", n / 250 + 10, n % 250);
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("batch");
        std::fs::write(&file, batch).unwrap();
        ip(&format!("-batch {}", file.display()));
        // Nobody read meanwhile.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            monitor.drain(100_000).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        let out = Process::new("ip").args(["-o", "addr"]).output().unwrap();
        let real = String::from_utf8_lossy(&out.stdout).lines().count();
        (monitor.resyncs(), monitor.table().addresses().count(), real)
    });
    assert!(resyncs > 0, "the queue was not meant to hold all of it");
    assert_eq!(known, real);
}
