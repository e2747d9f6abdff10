//! Changes while packets come.
use super::support::{Bench, Net, VIP, cannot};
use anyhow::Result;
use lb_tests::skip;
use lb_userspace::datapath::xdp::object::Globals;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const BACKENDS: [&str; 2] = ["10.0.0.2", "10.0.0.3"];

#[test]
fn no_frame_is_lost_while_the_program_is_replaced_again_and_again() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _servers = [net.serve("b", VIP)?, net.serve("c", VIP)?];
    net.hold(VIP)?;
    net.direct(async |mut bench: Bench| {
        let wanted = bench.holding(VIP, &BACKENDS).await;
        bench.set(&wanted).await;
        assert_eq!(bench.settle().await, Vec::<String>::new());
        let before = bench.xdp.view().unwrap().services[0].traffic;
        let stream = net.stream(VIP).unwrap();
        let mut programs = BTreeSet::new();
        for _ in 0..30 {
            bench.xdp.replace(Globals::default()).unwrap();
            bench.turn().await;
            programs.insert(bench.link("eth0").await.xdp.unwrap().program);
        }
        let (sent, arrived) = stream.finish();
        assert_eq!(programs.len(), 30, "each time another program");
        assert!(sent > 500, "{sent}");
        assert_eq!(arrived, sent);
        let view = bench.xdp.view().unwrap();
        let counted = view.services[0].traffic.packets - before.packets;
        assert_eq!(
            counted,
            u64::try_from(sent).unwrap(),
            "counters went on: {view:?}"
        );
        assert!(
            view.services[0].traffic.remembered > 0,
            "so did the table of flows: {view:?}"
        );
    })
}

#[test]
fn no_frame_is_lost_while_the_tables_change_again_and_again() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _servers = [net.serve("b", VIP)?, net.serve("c", VIP)?];
    net.hold(VIP)?;
    net.direct(async |mut bench: Bench| {
        let wanted = bench.holding(VIP, &BACKENDS).await;
        bench.set(&wanted).await;
        assert_eq!(bench.settle().await, Vec::<String>::new());
        let stream = net.stream(VIP).unwrap();
        for round in 0..60 {
            let mut changed = wanted.clone();
            for service in changed.services.values_mut() {
                service.backends[0].weight = 1 + round % 3;
                service.backends[1].up = round % 2 == 0;
            }
            assert_eq!(bench.set(&changed).await, Vec::<String>::new());
            assert_eq!(bench.xdp.observed(), Some(changed));
        }
        let (sent, arrived) = stream.finish();
        assert!(sent > 500, "{sent}");
        assert_eq!(arrived, sent);
        let view = bench.xdp.view().unwrap();
        assert_eq!(
            view.services[0].traffic.packets,
            u64::try_from(sent).unwrap(),
            "{view:?}"
        );
        assert!(view.dropped.is_empty(), "{view:?}");
    })
}

#[test]
fn a_daemon_that_no_longer_turns_no_longer_directs_and_one_that_turns_again_does() -> Result<()> {
    if let Some(why) = cannot() {
        skip!("{why}");
    }
    let net = Net::new()?;
    let _servers = [net.serve("b", VIP)?, net.serve("c", VIP)?];
    net.hold(VIP)?;
    net.direct(async |mut bench: Bench| {
        let wanted = bench.holding(VIP, &BACKENDS).await;
        bench.set(&wanted).await;
        assert_eq!(bench.settle().await, Vec::<String>::new());
        assert!(net.ask(VIP).is_ok());
        // Nobody serves on the director itself, so what is passed is refused there.
        let deadline = Instant::now() + Duration::from_secs(20);
        while net.ask(VIP).is_ok() {
            assert!(
                Instant::now() < deadline,
                "it directs although nobody renews its lease"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        let view = bench.xdp.view().unwrap();
        assert!(view.passed.contains_key("lease_ended"), "{view:?}");
        assert_eq!(bench.turn().await, Vec::<String>::new());
        assert!(net.ask(VIP).is_ok());
    })
}
