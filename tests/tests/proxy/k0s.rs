//! k0s's userspace proxy: what its integration test asserts (`inttest/cplb-userspace`), and what it does wrong.
use crate::cluster::{BIND_PORT, Cluster, LONG, lab, no_rules, vip};
use anyhow::{Context, Result};
use lb_tests::topology::{Cut, Lab, Node};
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The block as k0s's test writes it: a virtual IP and nothing else, the interface in three ways.
fn file(lab: &Lab, node: &Node, vip: &str) -> Result<String> {
    let six = vip.contains(':');
    let own = node.address(six)?;
    let others: Vec<String> = lab
        .controllers()
        .filter(|n| n.name() != node.name())
        .map(|n| n.address(six).map(|a| format!("\"{a}\"")))
        .collect::<Result<_>>()?;
    let interface = match node.name() {
        "c1" => String::new(),
        "c2" => "\n            interface: eth0".to_owned(),
        _ => format!("\n            interface: {}", mac(node)?),
    };
    Ok(format!(
        "apiVersion: k0s.k0sproject.io/v1beta1
kind: ClusterConfig
metadata: {{name: k0s}}
spec:
  network:
    controlPlaneLoadBalancing:
      enabled: true
      type: Keepalived
      keepalived:
        vrrpInstances:
          - virtualIPs: [\"{vip}\"]
            authPass: \"123456\"
            unicastSourceIP: \"{own}\"
            unicastPeers: [{}]{interface}
",
        others.join(", ")
    ))
}

fn mac(node: &Node) -> Result<String> {
    let text = node.output(&["ip", "-o", "link", "show", "eth0"])?;
    let mac = text.split("link/ether ").nth(1).and_then(|t| t.split(' ').next());
    Ok(mac.context("a MAC address")?.to_owned())
}

fn start(lab: &Lab) -> Result<Cluster<'_>> {
    Cluster::start(lab, vip(), |node| file(lab, node, "192.168.122.200/16"))
}

#[test]
fn what_k0s_asserts_holds_over_ipv4() -> Result<()> {
    let lab = lab()?;
    let cluster = start(&lab)?;
    assertions(&cluster, "192.168.122.200/16", vip())?;
    // Its port on every address of every node, and on loopback, where k0s's own does not work.
    for node in ["c1", "c2", "c3"] {
        let own = lab.node(node)?.ipv4()?;
        assert_eq!(
            cluster.seen("client", SocketAddr::new(own, BIND_PORT), 6)?.len(),
            3
        );
        let local = SocketAddr::new(IpAddr::from([127, 0, 0, 1]), BIND_PORT);
        assert_eq!(cluster.seen(node, local, 6)?.len(), 3, "{node}");
    }
    let six = SocketAddr::new(lab.node("c2")?.address(true)?, BIND_PORT);
    assert_eq!(cluster.seen("client", six, 6)?.len(), 3);
    Ok(())
}

#[test]
fn what_k0s_asserts_holds_over_ipv6() -> Result<()> {
    let lab = lab()?;
    let vip: IpAddr = "fd00:122::200".parse()?;
    let cluster = Cluster::start(&lab, vip, |node| file(&lab, node, "fd00:122::200/64"))?;
    assertions(&cluster, "fd00:122::200/64", vip)
}

fn assertions(cluster: &Cluster<'_>, with_prefix: &str, vip: IpAddr) -> Result<()> {
    let holder = cluster.settled()?;
    let address = SocketAddr::new(vip, crate::cluster::PORT);
    for node in cluster.lab.controllers() {
        let name = node.name();
        assert!(
            node.output(&["ip", "-o", "addr", "show", "dummyvip0"]).is_err(),
            "{name} has a dummyvip0"
        );
        let own = node.output(&["ip", "-o", "addr", "show", "eth0"])?;
        assert_eq!(
            own.contains(&format!(" {with_prefix} ")),
            name == holder.name(),
            "{name}: {own}"
        );
        no_rules(node)?;
    }
    assert_eq!(
        cluster.seen("client", address, 15)?.len(),
        3,
        "three servers within 15 requests"
    );
    // From a node itself, the holder's as well: k0s's rule is not asked there, and the local server answers.
    for node in ["c1", "c2", "c3"] {
        assert_eq!(cluster.seen(node, address, 6)?.len(), 3, "from {node}");
    }
    let status = cluster.daemon(holder)?.status()?;
    let proxy = &status["kernel"]["proxy"]["servers"][0];
    assert!(
        proxy["how"]
            .as_str()
            .is_some_and(|how| how.contains("socket lookup program")),
        "{status}"
    );
    assert_eq!(
        status["kernel"]["problems"].as_array().map(Vec::len),
        Some(0),
        "{status}"
    );
    Ok(())
}

#[test]
fn an_api_server_that_stops_and_one_that_is_cut_off_cost_no_new_client_its_request() -> Result<()> {
    let lab = lab()?;
    let mut cluster = start(&lab)?;
    let holder = cluster.settled()?.name().to_owned();
    let client = cluster.client("client")?;
    let mut sessions = Vec::new();
    for _ in 0..9 {
        let mut session = client.connect(cluster.to())?;
        let node = session.get("/")?.node;
        sessions.push((session, node));
    }
    // Refused from one moment to the next: the next one is tried, from the first request on.
    let others: Vec<usize> = (0..3).filter(|i| format!("c{}", i + 1) != holder).collect();
    let (stopped, cut) = (others[0], others[1]);
    cluster.set_server(stopped, false)?;
    let seen = cluster.seen("client", cluster.to(), 12)?;
    assert!(
        !seen.contains(&format!("c{}", stopped + 1)) && seen.len() == 2,
        "{seen:?}"
    );
    // Dropped without a word: a connection takes its 2 s once in a while and goes elsewhere, until the health check
    // has found out; its sessions are reset then, and not after a quarter of an hour.
    let gone = format!("c{}", cut + 1);
    lab.cut(&gone, Cut::Silent)?;
    let seen = cluster.seen("client", cluster.to(), 12)?;
    assert_eq!(seen, BTreeSet::from([holder.clone()]));
    let theirs = sessions.iter_mut().filter(|(_, node)| *node == gone);
    for (session, _) in theirs {
        wait::until("a session of a dead server ends", LONG, || session.get("/").err())?;
    }
    for (session, _) in sessions.iter_mut().filter(|(_, node)| *node == holder) {
        session.get("/")?;
    }
    lab.mend(&gone)?;
    cluster.set_server(stopped, true)?;
    wait::until("all three serve again", LONG, || {
        (cluster.seen("client", cluster.to(), 6).ok()?.len() == 3).then_some(())
    })
}

#[test]
fn three_that_go_and_come_at_once_are_no_deadlock() -> Result<()> {
    let lab = lab()?;
    let mut cluster = start(&lab)?;
    cluster.settled()?;
    for _ in 0..2 {
        for i in 0..3 {
            cluster.set_server(i, false)?;
        }
        let client = cluster.client("client")?;
        wait::until("nobody answers", LONG, || client.get(cluster.to(), "/").err())?;
        let down = |s: &serde_json::Value| s["health"].to_string().matches("refused").count() >= 3;
        for daemon in &cluster.daemons {
            let _ = daemon.wait_status("all are known to be down", Duration::from_secs(10), down);
        }
        for i in 0..3 {
            cluster.set_server(i, true)?;
        }
        wait::until("all three serve again", LONG, || {
            (cluster.seen("client", cluster.to(), 6).ok()?.len() == 3).then_some(())
        })?;
    }
    Ok(())
}

#[test]
fn nothing_is_left_of_a_proxy_that_was_killed_or_stopped() -> Result<()> {
    let lab = lab()?;
    let mut cluster = start(&lab)?;
    let holder = cluster.settled()?;
    // The daemon alone, then all of it: the steering goes with the process, and the node's own API server answers what
    // still comes to the address.
    let index = cluster
        .daemons
        .iter()
        .position(|d| d.node().name() == holder.name());
    let mut daemon = cluster.daemons.remove(index.context("the holder's daemon")?);
    let before = lab.node("client")?;
    daemon.signal_all(Signal::SIGKILL)?;
    daemon.wait_all(LONG)?;
    no_rules(holder)?;
    assert!(holder.output(&["sh", "-c", "ss -Hltn | grep -q :6444"]).is_err());
    let own = cluster.seen(
        holder.name(),
        SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 6443),
        3,
    )?;
    assert_eq!(own, BTreeSet::from([holder.name().to_owned()]));
    let after = wait::until("another holds it", LONG, || {
        let holders = lab.holders(vip());
        matches!(holders[..], [one] if one.name() != holder.name()).then(|| holders[0].name().to_owned())
    })?;
    assert_eq!(
        cluster.seen(before.name(), cluster.to(), 15)?.len(),
        3,
        "by {after}"
    );
    for mut other in std::mem::take(&mut cluster.daemons) {
        other.signal(Signal::SIGTERM)?;
        other.wait_all(LONG)?;
        no_rules(other.node())?;
    }
    assert!(lab.holders(vip()).is_empty());
    Ok(())
}

#[test]
fn nftables_steers_where_that_is_asked_for_and_leaves_nothing() -> Result<()> {
    let lab = lab()?;
    let text = |node: &Node| -> Result<String> {
        Ok(format!(
            "apiVersion: cplb.io/v1alpha1
kind: ControlPlaneLoadBalancer
spec:
  vrrpInstances:
    - {{virtualIPs: [192.168.122.200/24], interface: eth0, advertInterval: 100ms, unicastSourceIP: {}, unicastPeers: [{}]}}
  proxy: {{steering: nftables}}
  virtualServers:
    - {{ipAddress: 192.168.122.200, datapath: proxy}}
",
            node.ipv4()?,
            lab.controllers()
                .filter(|n| n.name() != node.name())
                .map(|n| Ok(n.ipv4()?.to_string()))
                .collect::<Result<Vec<_>>>()?
                .join(", ")
        ))
    };
    let mut cluster = Cluster::start(&lab, vip(), text)?;
    let holder = cluster.settled()?;
    assert_eq!(cluster.seen("client", cluster.to(), 15)?.len(), 3);
    for node in ["c1", "c2", "c3"] {
        assert_eq!(cluster.seen(node, cluster.to(), 6)?.len(), 3, "from {node}");
    }
    // Somebody's flush heals within the second.
    holder.output(&["nft", "flush", "ruleset"])?;
    wait::until("the table is back", LONG, || {
        let rules = holder
            .output(&["nft", "list", "table", "inet", "cplb_proxy"])
            .ok()?;
        rules.contains("dnat").then_some(())
    })?;
    assert_eq!(cluster.seen("client", cluster.to(), 15)?.len(), 3);
    // The guardian takes the table away in a killed daemon's place; one of an earlier run that was killed whole goes at
    // the next start or by `cplb cleanup`.
    let index = cluster
        .daemons
        .iter()
        .position(|d| d.node().name() == holder.name());
    let mut daemon = cluster.daemons.remove(index.context("the holder's daemon")?);
    daemon.signal(Signal::SIGKILL)?;
    daemon.wait_all(LONG)?;
    no_rules(holder)?;
    let mut last = cluster.daemons.remove(0);
    let node = last.node();
    last.signal_all(Signal::SIGKILL)?;
    last.wait_all(LONG)?;
    let out = lb_tests::cplb::run(node, &["cleanup"])?;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    no_rules(node)
}
