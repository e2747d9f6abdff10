//! Every kind of virtual server through the whole daemon: NAT, tunnels, several ports, UDP, thresholds, timeouts, and a
//! scheduler that the kernel does not have.
use crate::cluster::{Cluster, LONG, PORT, lab, native, sources, vip};
use crate::kernel::{self, needs_ipvs};
use crate::traffic;
use anyhow::{Context, Result};
use lb_tests::apiserver::{ApiServer, Authority};
use lb_tests::client::Client;
use lb_tests::cplb::{self, Cplb};
use lb_tests::topology::{Lab, Node};
use lb_tests::{guest, wait};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

fn service() -> SocketAddr {
    SocketAddr::new(vip(), PORT)
}

/// Lines of `ipvsadm -L -n` with these options.
fn listed(node: &Node, options: &[&str]) -> Result<String> {
    node.output(&[&["ipvsadm", "-L", "-n"], options].concat())
}

#[test]
fn nat_carries_connections_to_another_port_and_back() -> Result<()> {
    needs_ipvs!();
    let own = sources(false)
        .iter()
        .map(|a| format!("{a}/24"))
        .collect::<Vec<_>>();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    // The real servers are in a network of their own, behind the director.
    let lab = Lab::builder()
        .node("c1", &["192.168.122.37/24"])
        .nic("eth1", &["10.20.0.1/24"])
        .node("r1", &["10.20.0.11/24"])
        .node("r2", &["10.20.0.12/24"])
        .node("client", &own)
        .build()?;
    let authority = Authority::new()?;
    let mut servers = Vec::new();
    for name in ["r1", "r2"] {
        let node = lab.node(name)?;
        node.netns().ip("route add default via 10.20.0.1\n")?;
        servers.push(ApiServer::start(node, &authority, &[vip()], 8443)?);
    }
    let director = lab.node("c1")?;
    let file = native(&format!(
        "  virtualServers:\n    - ipAddress: {}\n      lbKind: NAT\n      lbAlgo: wrr\n      \
         persistenceTimeoutSeconds: 0\n      realServers:\n        \
         - {{address: 10.20.0.11, port: 8443, weight: 2}}\n        - {{address: 10.20.0.12, port: 8443}}\n",
        vip()
    ));
    let mut daemon = Cplb::start(director, &file, &[])?;
    wait::until("both real servers", LONG, || {
        (director.holds(vip()) && kernel::real_servers(director, service()).ok()?.len() == 2).then_some(())
    })?;
    let saved = kernel::saved(director)?;
    let line = format!("-a -t {} -r 10.20.0.11:8443 -m -w 2", service());
    assert!(saved.contains(&line), "{saved:?}");
    assert!(
        !kernel::has_link(director, "dummyvip0")?,
        "NAT needs no address on the real server"
    );
    assert_eq!(director.netns().sysctl_value("ipv4.ip_forward")?, "1");
    let client = Client::new(lab.node("client")?, &authority)?.limit(Duration::from_secs(8));
    let answers = traffic::round(&client, &sources(false), service())?;
    let by = |name: &str| answers.iter().filter(|a| a.node == name).count();
    assert_eq!((by("r1"), by("r2")), (4, 2), "{answers:?}");
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait_all(LONG)?;
    assert!(kernel::saved(director)?.iter().all(String::is_empty));
    cplb::run(director, &["cleanup"])?;
    assert_eq!(
        director.netns().sysctl_value("ipv4.ip_forward")?,
        "1",
        "others may rely on forwarding by now: it stays"
    );
    Ok(())
}

#[test]
fn tunnels_are_programmed_and_ipip_carries_connections() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    for node in lab.controllers() {
        node.netns().ip(&format!(
            "link add tun0 type ipip local {}\nlink set tun0 up\n",
            node.ipv4()?
        ))?;
    }
    let tunnel = |port: u16, kind: &str| {
        format!(
            "    - {{ipAddress: {}, ports: [{port}], lbKind: TUN, tunnel: {kind}, persistenceTimeoutSeconds: 0}}\n",
            vip()
        )
    };
    let servers = tunnel(PORT, "{type: ipip}")
        + &tunnel(7001, "{type: gre}")
        + &tunnel(7002, "{type: gue, port: 6080}");
    let cluster = Cluster::same(&lab, &[vip()], &native(&format!("  virtualServers:\n{servers}")))?;
    let holder = cluster.settled(vip(), 3)?;
    let saved = kernel::saved(holder)?;
    let with = |port: u16, options: &str| {
        let start = format!("-a -t {}:{port} -r ", vip());
        saved
            .iter()
            .filter(|l| l.starts_with(&start) && l.contains(options))
            .count()
    };
    assert_eq!(with(PORT, " -i -w 1"), 3, "{saved:#?}");
    assert_eq!(with(7001, "--tun-type gre"), 3, "{saved:#?}");
    assert_eq!(with(7002, "--tun-type gue --tun-port 6080"), 3, "{saved:#?}");
    let answers = traffic::round(&cluster.client()?, &sources(false), service())?;
    let nodes: BTreeSet<&str> = answers.iter().map(|a| a.node.as_str()).collect();
    assert_eq!(nodes.len(), 3, "{answers:?}");
    Ok(())
}

#[test]
fn ports_udp_thresholds_and_timeouts_are_as_the_file_has_them() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let vip = vip();
    let mut file = format!(
        "  virtualServers:\n    - ipAddress: {vip}\n      lbAlgo: sh\n      schedulerFlags: [sh-port]\n      \
         ports: [{PORT}, 9443, {{port: 8132, persistenceTimeoutSeconds: 0, lbAlgo: lc, schedulerFlags: []}}]\n      \
         realServers:\n"
    );
    let mut list = String::new();
    for node in lab.controllers() {
        let address = node.ipv4()?;
        file += &format!(
            "        - {{address: {address}, weight: 3, upperThreshold: 100, lowerThreshold: 80}}\n"
        );
        list += &format!("{{address: {address}}}, ");
    }
    file += &format!(
        "    - ipAddress: {vip}\n      ports: [5353]\n      protocol: UDP\n      schedulerFlags: [ops]\n      \
         persistenceTimeoutSeconds: 0\n      realServers: [{list}]\n  \
         ipvsTimeouts: {{tcp: 10m, tcpFin: 1m, udp: 2m}}\n"
    );
    let mut cluster = Cluster::same(&lab, &[vip], &native(&file))?;
    let holder = cluster.settled(vip, 3)?;
    let saved = kernel::saved(holder)?;
    for wanted in [
        format!("-A -t {vip}:{PORT} -s sh -p 360 -b sh-port"),
        format!("-A -t {vip}:9443 -s sh -p 360 -b sh-port"),
        format!("-A -t {vip}:8132 -s lc"),
        format!("-A -u {vip}:5353 -s rr -o"),
    ] {
        assert!(saved.contains(&wanted), "{wanted}: {saved:#?}");
    }
    // Nothing listens on these two: when every check fails, everybody is kept.
    assert_eq!(kernel::real_servers(holder, SocketAddr::new(vip, 9443))?.len(), 3);
    let thresholds = listed(holder, &["--thresholds"])?;
    let words = |line: &str| {
        line.split_whitespace()
            .skip(2)
            .take(2)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert!(
        thresholds.lines().any(|l| words(l) == ["100", "80"]),
        "{thresholds}"
    );
    assert!(
        listed(holder, &["--timeout"])?.contains("600 60 120"),
        "{}",
        listed(holder, &["--timeout"])?
    );

    let sockets: Vec<UdpSocket> = lab
        .controllers()
        .map(|node| Ok(node.netns().run(|| UdpSocket::bind("0.0.0.0:5353"))??))
        .collect::<Result<_>>()?;
    let asking = lab
        .node("client")?
        .netns()
        .run(|| UdpSocket::bind("0.0.0.0:0"))??;
    for _ in 0..6 {
        asking.send_to(b"?", (vip, 5353))?;
        thread::sleep(Duration::from_millis(20));
    }
    let own = lab.node("client")?.ipv4()?;
    let mut counts = Vec::new();
    for socket in &sockets {
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let mut count = 0;
        while let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
            assert_eq!(from.ip(), own);
            count += 1;
        }
        counts.push(count);
    }
    assert_eq!(counts, [2, 2, 2], "one datagram after another, each by itself");

    let name = holder.name();
    cluster.stop(name)?;
    cplb::run(holder, &["cleanup"])?;
    assert!(
        listed(holder, &["--timeout"])?.contains("900 120 300"),
        "{}",
        listed(holder, &["--timeout"])?
    );
    Ok(())
}

#[test]
fn a_scheduler_that_the_kernel_lacks_is_said_and_the_address_is_carried() -> Result<()> {
    needs_ipvs!();
    if !guest::inside() {
        wait::say_skipped("takes a module out of the kernel, which is done in a guest only");
        return Ok(());
    }
    // Nobody else in these suites uses it, and the guest has no modprobe that would bring it back.
    nix::kmod::delete_module(c"ip_vs_ovf", nix::kmod::DeleteModuleFlags::O_NONBLOCK).context("ip_vs_ovf")?;
    let lab = lab()?;
    let file = format!(
        "  virtualServers:\n    - {{ipAddress: {}, lbAlgo: ovf, persistenceTimeoutSeconds: 0}}\n    \
         - {{ipAddress: {}, ports: [9443], persistenceTimeoutSeconds: 0}}\n",
        vip(),
        vip()
    );
    let node = lab.node("c1")?;
    let daemon = Cplb::start(node, &native(&file), &["192.168.122.37".to_owned()])?;
    let problem = |status: &serde_json::Value| -> bool {
        let list = status["kernel"]["problems"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        list.iter().any(|p| p.as_str().is_some_and(|p| p.contains("ovf")))
    };
    daemon.wait_status("the scheduler that is not there is named", LONG, problem)?;
    wait::until("the address", LONG, || node.holds(vip()).then_some(()))?;
    wait::until("the other virtual server", LONG, || {
        kernel::service_line(node, SocketAddr::new(vip(), 9443)).ok()
    })?;
    let text = String::from_utf8_lossy(&cplb::run(node, &["status"])?.stdout).into_owned();
    assert!(text.contains("PROBLEMS") && text.contains("ovf"), "{text}");
    Ok(())
}
