//! A group as it is while k0s's keepalived is taken over node by node: one file of k0s's rendering, two of ours.
use super::wire::PATIENCE;
use anyhow::{Context, Result, ensure};
use lb_tests::apiserver::{ApiServer, Authority};
use lb_tests::cplb::Cplb;
use lb_tests::daemon::Daemon;
use lb_tests::topology::{Lab, Node};
use lb_tests::{keepalived, standing, wait};
use nix::sys::signal::Signal;
use std::net::IpAddr;
use std::time::Duration;

const K0S_YAML: &str = include_str!("../../../examples/k0s.yaml");

/// What k0s renders of `examples/k0s.yaml`, without the scripts (there is no k0s here) and the virtual servers (this
/// kernel may have no IPVS).
const RENDERED: &str = "vrrp_instance k0s-vip-0 {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 200
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass Example
    }
    virtual_ipaddress {
        192.168.122.200/24
    }
}
";

const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 122, 200));

fn backends(lab: &Lab) -> Result<Vec<String>> {
    lab.controllers()
        .map(|node| Ok(node.ipv4()?.to_string()))
        .collect()
}

fn logs(theirs: &Daemon, ours: &[Cplb<'_>]) -> String {
    let ours = ours.iter().map(|c| format!("{}:\n{}", c.node().name(), c.log()));
    format!(
        "keepalived:\n{}\n{}",
        theirs.log(),
        ours.collect::<Vec<_>>().join("\n")
    )
}

/// Every node but the holder, and whoever has left, has said that it is a backup.
fn others_back_up(theirs: &Daemon, ours: &[Cplb<'_>], gone: &[String], holder: &str) -> bool {
    let log = theirs.log();
    let last = log.lines().rfind(|line| line.contains("Entering "));
    let keepalived = holder == "c1"
        || gone.iter().any(|name| name == "c1")
        || last.is_some_and(|line| line.contains("BACKUP STATE"));
    let backup = |node: &Node| standing::of(node).is_ok_and(|s| s.is_all("Backup"));
    keepalived && ours.iter().all(|c| c.node().name() == holder || backup(c.node()))
}

#[test]
fn k0s_keepalived_on_one_node_and_cplb_on_two_are_one_group() -> Result<()> {
    let lab = Lab::k0s()?;
    let backends = backends(&lab)?;
    // A node of ours that can reach no API server would rather not hold the address.
    let authority = Authority::new()?;
    let servers = lab
        .controllers()
        .map(|node| ApiServer::start(node, &authority, &[VIP], 6443));
    let _servers = servers.collect::<Result<Vec<_>>>()?;
    let mut theirs = keepalived::start(lab.node("c1")?, RENDERED)?;
    let start = |name: &str| Cplb::start(lab.node(name)?, K0S_YAML, &backends);
    let mut ours = vec![start("c2")?, start("c3")?];
    // Each node has been the holder once when all three have had to go.
    let mut seen = Vec::new();
    for round in 0..3 {
        // Of equal priority, two may take over at once, and the better address stays: whoever holds is asked again.
        let holder = wait::until("one holder, and the others are backups", PATIENCE, || {
            let [holder] = lab.holders(VIP)[..] else {
                return None;
            };
            others_back_up(&theirs, &ours, &seen, holder.name()).then(|| holder.name().to_owned())
        })
        .with_context(|| logs(&theirs, &ours))?;
        wait::steady(
            "one holder",
            Duration::from_secs(4),
            || matches!(lab.holders(VIP)[..], [one] if one.name() == holder),
        )
        .with_context(|| format!("round {round}: {holder} held; {seen:?} had left"))?;
        for cplb in &ours {
            let now = standing::of(cplb.node())?;
            let role = now.roles()[0];
            ensure!(
                role.0["counters"]["rejected"] == serde_json::json!({}),
                "{:?}",
                role.0
            );
        }
        if holder == "c1" {
            theirs.signal(Signal::SIGTERM)?;
            theirs.wait(PATIENCE)?;
        } else {
            let at = ours.iter().position(|c| c.node().name() == holder);
            let mut leaver = ours.remove(at.context("a holder that nobody started")?);
            leaver.signal(Signal::SIGTERM)?;
            ensure!(leaver.wait(PATIENCE)?.success(), "{}", leaver.log());
        }
        seen.push(holder);
    }
    seen.sort_unstable();
    assert_eq!(seen, ["c1", "c2", "c3"]);
    ensure!(lab.holders(VIP).is_empty(), "everybody has left");
    Ok(())
}
