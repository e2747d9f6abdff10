//! The harness proves itself: nodes, cables, servers, prober, capture, and keepalived moving an address.
use anyhow::{Context, Result};
use lb_tests::apiserver::{ApiServer, Authority, Health};
use lb_tests::capture::{self, Capture};
use lb_tests::client::Client;
use lb_tests::inject::VrrpSender;
use lb_tests::keepalived::{self, Instance};
use lb_tests::netns::Netns;
use lb_tests::prober::Prober;
use lb_tests::topology::{Cut, Lab};
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(2);

fn vip() -> IpAddr {
    IpAddr::from([192, 168, 122, 200])
}

fn second(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_namespace_has_its_own_run_and_sys_and_goes_when_dropped() -> Result<()> {
    let netns = Netns::new("selftest")?;
    let place = Path::new("/run/netns").join(netns.name());
    assert!(place.exists());
    assert_eq!(netns.output(&["ls", "/sys/class/net"])?.trim(), "lo");
    netns.run(|| std::fs::write("/run/cplb-selftest", "x"))??;
    assert!(!Path::new("/run/cplb-selftest").exists());
    drop(netns);
    assert!(!place.exists());
    Ok(())
}

#[test]
fn a_cut_cable_is_a_gap_and_the_node_notices_only_a_lost_carrier() -> Result<()> {
    let lab = Lab::k0s()?;
    let target = lab.node("c1")?.ipv4()?;
    for (how, carrier) in [(Cut::Carrier, "0"), (Cut::Silent, "1")] {
        let prober = Prober::start(lab.node("client")?, target, TICK)?;
        std::thread::sleep(Duration::from_millis(200));
        lab.cut("c1", how)?;
        std::thread::sleep(Duration::from_millis(100));
        let seen = lab.node("c1")?.output(&["cat", "/sys/class/net/eth0/carrier"])?;
        assert_eq!(seen.trim(), carrier, "{how:?}");
        lab.mend("c1")?;
        std::thread::sleep(Duration::from_millis(200));
        let report = prober.finish()?;
        assert_eq!(report.gaps().len(), 1, "{how:?}: {:?}", report.gaps());
        assert!(
            report.longest() >= Duration::from_millis(90),
            "{how:?}: {:?}",
            report.longest()
        );
        assert_eq!(report.duplicates, 0);
        // The kernel looks at a link that came back once a second, and sends nothing through it before.
        std::thread::sleep(Duration::from_millis(1200));
    }
    Ok(())
}

#[test]
fn ipv6_is_probed_too() -> Result<()> {
    let lab = Lab::k0s()?;
    let prober = Prober::start(lab.node("client")?, lab.node("c2")?.address(true)?, TICK)?;
    std::thread::sleep(Duration::from_millis(200));
    let report = prober.finish()?;
    assert!(report.probes.len() > 20);
    assert_eq!(report.lost(), 0);
    Ok(())
}

#[test]
fn servers_say_who_they_are_and_whom_they_saw() -> Result<()> {
    let lab = Lab::k0s()?;
    let authority = Authority::new()?;
    let client = Client::new(lab.node("client")?, &authority)?;
    for ipv6 in [false, true] {
        for node in lab.controllers() {
            let address = node.address(ipv6)?;
            let server = ApiServer::start(node, &authority, &[vip()], 6443)?;
            let to = SocketAddr::new(address, 6443);
            let mut session = client.connect(to)?;
            let answer = session.get("/api")?;
            assert_eq!(answer.node, node.name());
            assert_eq!(answer.client, session.local());
            assert_eq!(session.certificate().as_ref(), Some(server.certificate()));
            assert_eq!(session.request("/readyz")?, (200, "ok".to_owned()));
            server.set_health(Health::Failing);
            assert_eq!(session.request("/readyz")?.0, 500);
            assert_eq!(server.connections(), 1);
            drop(server);
            assert!(client.get(to, "/api").is_err(), "the port is closed");
        }
    }
    Ok(())
}

#[test]
fn every_descendant_of_a_daemon_is_found() -> Result<()> {
    let lab = Lab::builder().node("a", &["10.0.0.1/24"]).build()?;
    let mut command = Command::new("sh");
    command.args(["-c", "(sleep 60 &) ; echo hello; exec sleep 60"]);
    let mut daemon = lb_tests::daemon::Daemon::start(lab.node("a")?, "sleeper", command)?;
    wait::until("two processes", second(2), || {
        (daemon.pids().len() == 2).then_some(())
    })?;
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait(second(2))?;
    assert_eq!(daemon.pids().len(), 1, "the orphan lives on");
    assert!(daemon.usage().resident_kib > 0);
    daemon.signal_all(Signal::SIGKILL)?;
    daemon.wait_all(second(2))?;
    Ok(())
}

#[test]
fn a_keepalived_pair_elects_and_moves_the_address() -> Result<()> {
    let lab = Lab::k0s()?;
    let capture = Capture::start(lab.switch(), |frame| frame.vrrp().is_some() || frame.is_arp())?;
    let mut daemons = Vec::new();
    for (node, priority) in [("c1", 200), ("c2", 100)] {
        let mut instance = Instance::new(51, &["192.168.122.200/24"]);
        (instance.priority, instance.interval) = (priority, 0.1);
        daemons.push(keepalived::start(
            lab.node(node)?,
            &keepalived::configuration(&[instance]),
        )?);
    }
    wait::until("c1 as holder", second(10), || {
        lab.node("c1").ok()?.holds(vip()).then_some(())
    })?;
    assert_eq!(lab.holder(vip(), second(2))?.name(), "c1");
    let prober = Prober::start(lab.node("client")?, vip(), TICK)?;
    std::thread::sleep(Duration::from_millis(300));
    lab.cut("c1", Cut::Silent)?;
    wait::until("c2 as holder", second(5), || {
        lab.node("c2").ok()?.holds(vip()).then_some(())
    })?;
    std::thread::sleep(Duration::from_millis(300));
    let report = prober.finish()?;
    let longest = report.longest();
    assert!(
        longest > Duration::from_millis(200) && longest < second(3),
        "{:?}",
        report.gaps()
    );
    daemons[1].signal(Signal::SIGTERM)?;
    daemons[1].wait(second(5))?;
    assert!(!lab.node("c2")?.holds(vip()));
    let frames = capture.finish()?;
    let adverts = frames.iter().filter(|f| {
        f.vrrp()
            .is_some_and(|ip| ip.source == "192.168.122.37".parse::<IpAddr>().unwrap())
    });
    assert!(adverts.count() > 5);
    let announced = |f: &capture::Frame| {
        f.arp()
            .is_some_and(|(from, to)| from == to && IpAddr::V4(from) == vip())
    };
    assert!(frames.iter().any(announced), "no gratuitous ARP was seen");
    Ok(())
}

#[test]
fn what_is_injected_is_captured_and_counted() -> Result<()> {
    let lab = Lab::k0s()?;
    let capture = Capture::start(lab.switch(), |frame| frame.vrrp().is_some() && !frame.outgoing)?;
    let source = lab.node("c1")?.ipv4()?;
    let sender = VrrpSender::new(lab.node("c1")?, source, 255)?;
    for _ in 0..3 {
        sender.send(&[0x21, 99, 0, 0, 0, 1, 0, 0])?;
    }
    let frames = capture.finish()?;
    let seen: Vec<_> = frames.iter().filter_map(|f| f.vrrp()).collect();
    // Each frame passes its port and the bridge itself; the port alone counts as a crossing.
    assert!(seen.len() >= 3, "{seen:?}");
    assert!(
        seen.iter()
            .all(|ip| ip.ttl == 255 && ip.payload[1] == 99 && ip.source == source)
    );
    let first = frames.first().context("a frame")?;
    assert_eq!(first.destination_mac(), Some([1, 0, 0x5e, 0, 0, 18]));
    Ok(())
}
