//! What k0s asserts of its own control-plane load balancing, and what it leaves out: that traffic passes.
use crate::cluster::{Cluster, LONG, PORT, lab, sources, vip, vip6};
use crate::kernel::{self, needs_ipvs};
use crate::{traffic, wire};
use anyhow::{Context, Result};
use lb_tests::cplb;
use lb_tests::topology::{Lab, Node};
use lb_tests::wait;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// `examples/k0s.yaml`, with the prefix that k0s's own test has.
pub(crate) fn ipv4_file() -> String {
    include_str!("../../../examples/k0s.yaml").replace(".200/24", ".200/16")
}

/// `examples/k0s-ipv6.yaml` of this controller, in the lab's network.
fn ipv6_file(lab: &Lab, node: &Node) -> Result<String> {
    let mut text = include_str!("../../../examples/k0s-ipv6.yaml").replace("2001:db8:122::", "fd00:122::");
    let first = lab.node("c1")?.address(true)?.to_string();
    let own = node.address(true)?.to_string();
    let quoted = |address: &str| format!("\"{address}\"");
    text = text
        .replace(&quoted(&first), "FIRST")
        .replace(&quoted(&own), &quoted(&first));
    Ok(text.replace("FIRST", &quoted(&own)))
}

#[test]
fn what_k0s_asserts_holds_and_ipv4_traffic_is_spread() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let cluster = Cluster::same(&lab, &[vip()], &ipv4_file())?;
    assertions(&cluster, vip(), "inet", 32, 16)?;
    spread(&cluster, vip())?;
    only_the_holder_answers_arp(&cluster)?;
    plan_and_status(&cluster)
}

#[test]
fn what_k0s_asserts_holds_and_ipv6_traffic_is_spread() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let cluster = Cluster::start(&lab, &[vip6()], |node| ipv6_file(&lab, node))?;
    assertions(&cluster, vip6(), "inet6", 128, 64)?;
    spread(&cluster, vip6())?;
    let labels = cluster
        .holder(vip6())?
        .output(&["ip", "-6", "addrlabel", "list"])?;
    assert!(
        labels.contains("prefix fd00:122::200/128 label 10000"),
        "{labels}"
    );
    Ok(())
}

/// k0s's `inttest/cplb-ipvs`, assertion by assertion; and that the link is up, which k0s forgets.
fn assertions(cluster: &Cluster<'_>, vip: IpAddr, word: &str, whole: u8, prefix: u8) -> Result<()> {
    let service = SocketAddr::new(vip, PORT);
    let holder = cluster.settled(vip, 3)?;
    for node in cluster.lab.controllers() {
        let name = node.name();
        let text = node.output(&["ip", "--oneline", "addr", "show", "dummyvip0"])?;
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1, "{name}: {text}");
        assert!(
            lines[0].contains(&format!("{word} {vip}/{whole} ")),
            "{name}: {text}"
        );
        let link = node.output(&["ip", "--oneline", "link", "show", "dummyvip0"])?;
        assert!(link.contains(",UP"), "{name}: {link}");

        let own = node.output(&["ip", "--oneline", "addr", "show", "eth0"])?;
        let holds = own.contains(&format!("{word} {vip}/{prefix} "));
        assert_eq!(holds, name == holder.name(), "{name}: {own}");

        let saved = kernel::saved(node)?;
        for real in cluster.lab.controllers() {
            let address = SocketAddr::new(real.address(vip.is_ipv6())?, PORT);
            let line = format!("-a -t {service} -r {address} ");
            let there = saved.iter().any(|l| l.starts_with(&line));
            assert_eq!(there, name == holder.name(), "{name}: {line}: {saved:#?}");
        }
        if name != holder.name() {
            assert!(
                saved.iter().all(String::is_empty),
                "{name} balances too: {saved:#?}"
            );
        }
    }
    let line = kernel::service_line(holder, service)?;
    assert!(line.contains("-s rr") && line.contains("-p 360"), "{line}");
    Ok(())
}

/// Each client keeps its server, all servers are used, each sees the client's own address, and answers go to the
/// client from the server itself.
fn spread(cluster: &Cluster<'_>, vip: IpAddr) -> Result<()> {
    let (client, to) = (cluster.client()?, SocketAddr::new(vip, PORT));
    let holder = cluster.holder(vip)?;
    let capture = wire::tcp_of(cluster.lab, &[vip])?;
    let sources = sources(vip.is_ipv6());
    let first = traffic::round(&client, &sources, to)?;
    let seen: BTreeSet<&str> = first.iter().map(|a| a.node.as_str()).collect();
    assert_eq!(seen.len(), 3, "{first:?}");
    for _ in 0..2 {
        let again = traffic::round(&client, &sources, to)?;
        let by = |list: &[lb_tests::client::Answer]| -> Vec<String> {
            list.iter().map(|a| a.node.clone()).collect()
        };
        assert_eq!(by(&again), by(&first), "a client that is persistent was moved");
    }
    let frames = capture.finish()?;
    let mut macs = BTreeMap::new();
    for node in cluster.lab.controllers() {
        macs.insert(kernel::mac(node)?, node.name());
    }
    let answering: BTreeSet<&str> = wire::answering(&frames, vip)
        .iter()
        .filter_map(|mac| macs.get(mac).copied())
        .collect();
    assert_eq!(answering.len(), 3, "answers pass the holder: {answering:?}");
    // Of the sessions of a server that is not the holder, no answer comes from the holder's MAC address.
    let theirs: BTreeSet<SocketAddr> = first
        .iter()
        .filter(|a| a.node != holder.name())
        .map(|a| a.client)
        .collect();
    let holders_mac = kernel::mac(holder)?;
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
    let strays = frames.iter().filter(|f| {
        let to = f
            .ip()
            .filter(|ip| ip.source == vip)
            .and_then(|ip| Some(SocketAddr::new(ip.destination, port(ip.payload)?)));
        !f.outgoing && f.source_mac() == Some(holders_mac) && to.is_some_and(|to| theirs.contains(&to))
    });
    assert_eq!(strays.count(), 0, "an answer went through the holder");
    wire::assert_nothing_circled(cluster.lab, &frames, &[vip], "steady")
}

/// k0s #4700: every node has the address on `dummyvip0`, and all of them answered for it.
fn only_the_holder_answers_arp(cluster: &Cluster<'_>) -> Result<()> {
    let holder = kernel::mac(cluster.holder(vip())?)?;
    let IpAddr::V4(address) = vip() else {
        unreachable!("an IPv4 address")
    };
    assert_eq!(wire::who_has(cluster.lab, address)?, BTreeSet::from([holder]));
    Ok(())
}

/// What is planned is there, and the status says what there is.
fn plan_and_status(cluster: &Cluster<'_>) -> Result<()> {
    let holder = cluster.holder(vip())?.name();
    for node in cluster.lab.controllers() {
        let config = cluster.daemon(node.name())?.config().display().to_string();
        let backends = cluster.backends()?.join(",");
        let out = cplb::run(node, &["plan", "--config", &config, "--backend", &backends])?;
        assert!(out.status.success(), "{out:?}");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let (backup, held) = text
            .split_once("besides, while this node holds")
            .context(text.clone())?;
        let (part, other) = if node.name() == holder {
            (held, backup)
        } else {
            (backup, held)
        };
        assert!(part.contains("nothing to change"), "{}: {text}", node.name());
        assert!(
            other.contains(&format!("virtual server TCP {}:{PORT}", vip())),
            "{}: {text}",
            node.name()
        );

        let out = cplb::run(node, &["status"])?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let shown = text.contains(&format!("TCP {}:{PORT} rr persistent 360", vip()));
        assert_eq!(shown, node.name() == holder, "{}: {text}", node.name());
        assert!(
            text.contains("VIRTUAL SERVERS") && !text.contains("PROBLEMS"),
            "{text}"
        );
    }
    Ok(())
}

#[test]
fn a_plan_before_the_start_says_what_the_start_then_does() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let node = lab.node("c1")?;
    let file = node.dir().join("plan.yaml");
    std::fs::write(&file, ipv4_file())?;
    let args = [
        "plan",
        "--config",
        &file.display().to_string(),
        "--backend",
        "192.168.122.37,192.168.122.87",
    ];
    let before = String::from_utf8_lossy(&cplb::run(node, &args)?.stdout).into_owned();
    for wanted in [
        "+ link dummyvip0 up",
        "+ address 192.168.122.200/32 on dummyvip0",
        "arp_ignore = 1",
    ] {
        assert!(before.contains(wanted), "{wanted}: {before}");
    }
    assert!(
        kernel::saved(node)?.iter().all(String::is_empty),
        "planning changes nothing"
    );
    assert!(!kernel::has_link(node, "dummyvip0")?);

    let ignore = node.netns().sysctl_value("ipv4.conf.eth0.arp_ignore")?;
    let announce = node.netns().sysctl_value("ipv4.conf.eth0.arp_announce")?;
    let backends = ["192.168.122.37", "192.168.122.87"].map(str::to_owned);
    let mut daemon = cplb::Cplb::start(node, &ipv4_file(), &backends)?;
    let service = SocketAddr::new(vip(), PORT);
    wait::until("two real servers", LONG, || {
        (kernel::real_servers(node, service).ok()?.len() == 2).then_some(())
    })?;
    assert_eq!(node.netns().sysctl_value("ipv4.conf.eth0.arp_ignore")?, "1");
    assert_eq!(node.netns().sysctl_value("ipv4.conf.eth0.arp_announce")?, "2");
    daemon.signal(nix::sys::signal::Signal::SIGTERM)?;
    daemon.wait_all(LONG)?;
    assert!(
        kernel::saved(node)?.iter().all(String::is_empty),
        "{:?}",
        kernel::saved(node)?
    );
    assert!(!node.holds(vip()));
    let out = cplb::run(node, &["cleanup"])?;
    assert!(out.status.success(), "{out:?}");
    assert!(!kernel::has_link(node, "dummyvip0")?);
    assert_eq!(node.netns().sysctl_value("ipv4.conf.eth0.arp_ignore")?, ignore);
    assert_eq!(
        node.netns().sysctl_value("ipv4.conf.eth0.arp_announce")?,
        announce
    );
    Ok(())
}
