//! A new binary takes over on every node, while connections are open.
use crate::cluster::{Cluster, LONG, lab, native, vip};
use crate::established::{broken, open};
use crate::kernel::{needs_ipvs, saved};
use anyhow::{Context, Result};
use lb_tests::daemon::Daemon;
use lb_tests::topology::Node;
use lb_tests::wait;
use serde_json::Value;
use std::process::Command;

fn role(cluster: &Cluster<'_>, node: &Node) -> Result<(Value, Value)> {
    let status = cluster.daemon(node.name())?.status()?;
    let instance = &status["roles"]["instances"][0];
    Ok((instance["state"].clone(), instance["transitions"].clone()))
}

#[test]
fn a_new_binary_on_each_node_changes_no_holder_and_breaks_no_connection() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let rest = format!("  virtualServers: [{{ipAddress: {}}}]\n", vip());
    let mut cluster = Cluster::same(&lab, &[vip()], &native(&rest))?;
    let holder = cluster.settled(vip(), 3)?;
    let mut sessions = open(&cluster)?;
    let table = saved(holder)?;
    let mut monitor = Command::new("ip");
    monitor.args(["monitor", "address"]);
    let monitor = Daemon::start(holder, "monitor", monitor)?;
    // Renewals of the lease are told each second.
    let told = || monitor.log().contains(&vip().to_string()).then_some(());
    wait::until("the kernel tells of the address", LONG, told)?;
    let backups: Vec<&Node> = lab.controllers().filter(|n| n.name() != holder.name()).collect();
    let before: Vec<_> = backups.iter().map(|n| role(&cluster, n)).collect::<Result<_>>()?;
    for _ in 0..3 {
        cluster.upgrade(holder.name())?;
        assert_eq!(
            broken(&mut sessions),
            Vec::<String>::new(),
            "{}",
            cluster.tables()
        );
        assert_eq!(saved(holder)?, table, "virtual servers");
    }
    let after: Vec<_> = backups.iter().map(|n| role(&cluster, n)).collect::<Result<_>>()?;
    assert_eq!(after, before, "a backup saw a change");
    for node in &backups {
        cluster.upgrade(node.name())?;
        let (state, _) = role(&cluster, node)?;
        assert_eq!(state, "Backup", "{}", node.name());
    }
    assert_eq!(cluster.settled(vip(), 3)?.name(), holder.name());
    assert_eq!(
        broken(&mut sessions),
        Vec::<String>::new(),
        "{}",
        cluster.tables()
    );
    let gone: Vec<String> = monitor
        .log()
        .lines()
        .filter(|l| l.starts_with("Deleted") && l.contains(&vip().to_string()))
        .map(str::to_owned)
        .collect();
    assert_eq!(gone, Vec::<String>::new(), "the address was away");
    // It was the last daemon's to take down, too.
    cluster.stop(holder.name()).context("leaving")?;
    wait::until("another holder", LONG, || {
        (lab.holders(vip()).first()?.name() != holder.name()).then_some(())
    })
}
