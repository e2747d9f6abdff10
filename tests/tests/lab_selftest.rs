//! The harness proves itself: nodes, cables, servers, prober, capture, and keepalived moving an address.
use anyhow::{Context, Result};
use lb_common::wire::checksum::Sum;
use lb_tests::apiserver::{ApiServer, Authority, Health};
use lb_tests::capture::{self, Capture};
use lb_tests::client::Client;
use lb_tests::crowd::server::{self, Service};
use lb_tests::crowd::{self, Crowd, Plan, Reach};
use lb_tests::decap::Decapsulator;
use lb_tests::forge::{self, Hop};
use lb_tests::inject::{FrameSender, VrrpSender};
use lb_tests::keepalived::{self, Instance};
use lb_tests::netns::Netns;
use lb_tests::prober::Prober;
use lb_tests::ready::Ready;
use lb_tests::topology::{Cut, Lab};
use lb_tests::veth::{self, insn};
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
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
    for node in lab.nodes() {
        node.wait_for_addresses(second(20))?;
    }
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
    command.args(["-c", "sleep 60 & echo hello; exec sleep 60"]);
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

/// Sends frames of an experimental type back to their sender, and passes the rest.
const BOUNCE: &[u64] = &[
    insn(0x61, 2, 1, 0, 0),      // r2 = data
    insn(0x61, 3, 1, 4, 0),      // r3 = data_end
    insn(0xb7, 0, 0, 0, 2),      // r0 = XDP_PASS
    insn(0xbf, 4, 2, 0, 0),      // r4 = r2
    insn(0x07, 4, 0, 0, 14),     // r4 += 14
    insn(0x2d, 4, 3, 11, 0),     // if r4 > r3 goto exit
    insn(0x69, 5, 2, 12, 0),     // r5 = the type
    insn(0x55, 5, 0, 9, 0xb588), // if r5 != 0x88b5 goto exit
    insn(0x61, 5, 2, 0, 0),      // both addresses change places
    insn(0x69, 6, 2, 4, 0),
    insn(0x61, 7, 2, 6, 0),
    insn(0x69, 8, 2, 10, 0),
    insn(0x63, 2, 7, 0, 0),
    insn(0x6b, 2, 8, 4, 0),
    insn(0x63, 2, 5, 6, 0),
    insn(0x6b, 2, 6, 10, 0),
    insn(0xb7, 0, 0, 0, 3), // r0 = XDP_TX
    insn(0x95, 0, 0, 0, 0), // exit
];

#[test]
fn a_frame_that_a_native_program_sends_back_arrives_and_is_captured() -> Result<()> {
    let two = || {
        Lab::builder()
            .node("a", &["10.0.0.1/24"])
            .node("b", &["10.0.0.2/24"])
    };
    for (lab, arrives) in [(two().native_xdp().build()?, true), (two().build()?, false)] {
        let (a, b) = (lab.node("a")?, lab.node("b")?);
        let _bounce = veth::attach(b.netns(), "eth0", BOUNCE)?;
        let ours = |frame: &capture::Frame| frame.ethertype() == Some(0x88b5);
        let at_a = Capture::start(a.netns(), move |f| ours(f) && !f.outgoing)?;
        let at_switch = Capture::start(lab.switch(), move |f| ours(f) && !f.outgoing)?;
        let sender = FrameSender::new(a, "eth0")?;
        let to = FrameSender::new(b, "eth0")?.mac();
        let mut frame = [to, sender.mac()].concat();
        frame.extend([0x88, 0xb5]);
        frame.resize(60, 7);
        sender.send(&frame)?;
        std::thread::sleep(Duration::from_millis(200));
        let (at_a, at_switch) = (at_a.finish()?, at_switch.finish()?);
        let back = at_a.iter().filter(|f| f.source_mac() == Some(to)).count();
        // There and back; without a program on the ports it is lost on its way, which is why the lab has them.
        assert_eq!((back, at_switch.len()), if arrives { (1, 2) } else { (0, 1) });
    }
    Ok(())
}

#[test]
fn checksums_are_complete_on_the_wire_where_programs_run_natively() -> Result<()> {
    let lab = Lab::builder()
        .node("a", &["10.0.0.1/24"])
        .node("b", &["10.0.0.2/24"])
        .native_xdp()
        .build()?;
    let udp = |f: &capture::Frame| !f.outgoing && f.ip().is_some_and(|ip| ip.protocol == 17);
    let capture = Capture::start(lab.switch(), udp)?;
    let send = || -> Result<()> {
        UdpSocket::bind("10.0.0.1:4000")?.send_to(b"checksum", "10.0.0.2:4001")?;
        Ok(())
    };
    lab.node("a")?.netns().run(send)??;
    let frames = capture.finish()?;
    let ip = frames.iter().find_map(capture::Frame::ip).context("a datagram")?;
    let mut bytes = vec![
        10,
        0,
        0,
        1,
        10,
        0,
        0,
        2,
        0,
        17,
        0,
        ip.payload.len().to_be_bytes()[7],
    ];
    bytes.extend(ip.payload);
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum = words.fold(0, |sum: u32, word| (sum + word) % 0xffff);
    assert_eq!(sum, 0, "{:02x?}", ip.payload);
    Ok(())
}

#[test]
fn a_crowd_knows_which_of_its_connections_go_on() -> Result<()> {
    let lab = Lab::builder()
        .node("client", &["10.0.0.1/24", "10.0.0.2/24", "fd00::1/64"])
        .node("s1", &["10.0.0.11/24", "fd00::11/64"])
        .node("s2", &["10.0.0.12/24"])
        .native_xdp()
        .build()?;
    let client = lab.node("client")?;
    client.wait_for_addresses(second(20))?;
    let authority = Authority::new()?;
    for tls in [None, Some(&authority)] {
        let mut servers = Vec::new();
        for name in ["s1", "s2"] {
            let ports: &[u16] = &[6443];
            let service = Service {
                ports: if tls.is_none() { ports } else { &[] },
                tls: tls.map(|authority| (ports, authority)),
                vips: &[],
                grace: None,
            };
            servers.push(server::start(lab.node(name)?, service)?);
        }
        let reach = Reach {
            sources: ["10.0.0.1", "fd00::1", "10.0.0.2"]
                .map(|a| a.parse().unwrap())
                .to_vec(),
            to: ["10.0.0.11:6443", "10.0.0.12:6443", "[fd00::11]:6443"]
                .map(|a| a.parse().unwrap())
                .to_vec(),
            tls: tls
                .map(|authority| authority.client_config())
                .transpose()?
                .map(Arc::new),
        };
        let plan = Plan {
            connections: 300,
            interval: Duration::from_millis(100),
            patience: second(10),
        };
        let crowd = Crowd::start(client, &reach, plan)?;
        crowd.established(second(20))?;
        assert_eq!(crowd.servers(), [("s1".into(), 200), ("s2".into(), 100)].into());
        lab.cut("s2", Cut::Silent)?;
        std::thread::sleep(Duration::from_millis(500));
        lab.mend("s2")?;
        crowd.heard_again(second(20))?;
        crowd.intact()?;
        let slowest = crowd.take_slowest();
        assert!(slowest >= Duration::from_millis(400), "{slowest:?}");
        drop(servers.pop());
        let broken = wait::until("those of s2 break", second(20), || {
            let broken = crowd.broken();
            (broken.len() == 100).then_some(broken)
        })?;
        assert!(
            broken.iter().all(|m| m.node.as_deref() == Some("s2")),
            "{broken:?}"
        );
        crowd.heard_again(second(20))?;
        assert_eq!(crowd.broken().len(), 100);
    }
    Ok(())
}

#[test]
fn many_bytes_and_datagrams_pass() -> Result<()> {
    let lab = Lab::builder()
        .node("client", &["10.0.0.1/24"])
        .node("s1", &["10.0.0.11/24"])
        .build()?;
    let (client, node) = (lab.node("client")?, lab.node("s1")?);
    let service = Service {
        ports: &[6443],
        vips: &[node.ipv4()?],
        tls: None,
        grace: None,
    };
    let _server = server::start(node, service)?;
    let (from, to) = (
        SocketAddr::new(client.ipv4()?, 40_000),
        SocketAddr::new(node.ipv4()?, 6443),
    );
    let mut line = crowd::line(client, Some(from), to, second(10))?;
    assert_eq!(line.ask()?.client, from);
    assert_eq!(line.put(3_000_000)?.count, 2);
    assert_eq!(line.get(3_000_000)?.count, 3);
    line.abort()?;
    let again = crowd::line(client, Some(from), to, second(10))?.ask()?;
    assert_eq!((again.node.as_str(), again.count), ("s1", 1));
    let word = crowd::datagram(client, from, to, second(5))?.context("no answer")?;
    assert_eq!((word.node.as_str(), word.client), ("s1", from));
    Ok(())
}

#[test]
fn the_far_end_of_a_tunnel_hands_the_inner_packet_over() -> Result<()> {
    let lab = Lab::builder()
        .node("client", &["10.0.0.1/24", "fd00::1/64"])
        .node("s1", &["10.0.0.11/24", "fd00::11/64"])
        .build()?;
    let (client, node) = (lab.node("client")?, lab.node("s1")?);
    client.wait_for_addresses(second(20))?;
    node.wait_for_addresses(second(20))?;
    node.netns()
        .ip("address add 10.9.9.9/32 dev lo\naddress add fd09::9/128 dev lo\n")?;
    let _far = Decapsulator::open(node)?;
    let sender = FrameSender::new(client, "eth0")?;
    let hop = Hop {
        from: sender.mac(),
        to: FrameSender::new(node, "eth0")?.mac(),
    };
    for (outer_v6, inner_v6) in [(false, false), (false, true), (true, false), (true, true)] {
        let inner_to: IpAddr = if inner_v6 {
            "fd09::9".parse()?
        } else {
            "10.9.9.9".parse()?
        };
        let listening = node.netns().run(|| UdpSocket::bind((inner_to, 5000)))??;
        listening.set_read_timeout(Some(second(10)))?;
        // 7 > 5000, 4 bytes, and no checksum for IPv4; IPv6's is summed up.
        let mut datagram = vec![0, 7, 0x13, 0x88, 0, 12, 0, 0, b'd', b'e', b'e', b'p'];
        let inner_from = client.address(inner_v6)?;
        let sum = Sum::pseudo(inner_from, inner_to, 17, datagram.len()).context("one family")?;
        let sum = sum.bytes(&datagram).finish();
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        let inner = forge::packet(hop, inner_from, inner_to, 17, &datagram)?;
        let (protocol, length) = if inner_v6 { (41, 52) } else { (4, 32) };
        let (from, to) = (client.address(outer_v6)?, node.address(outer_v6)?);
        sender.send(&forge::packet(hop, from, to, protocol, &inner[14..14 + length])?)?;
        let mut buffer = [0; 16];
        let (count, from) = listening
            .recv_from(&mut buffer)
            .with_context(|| format!("{outer_v6} {inner_v6}"))?;
        assert_eq!((&buffer[..count], from.ip()), (&b"deep"[..], inner_from));
    }
    Ok(())
}
