//! What somebody else takes away comes back.
use crate::cluster::{Cluster, LONG, PORT, lab, native, sources, vip};
use crate::kernel::{self, needs_ipvs};
use crate::{traffic, wire};
use anyhow::{Context, Result};
use lb_tests::topology::Node;
use lb_tests::wait;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

fn service() -> SocketAddr {
    SocketAddr::new(vip(), PORT)
}

fn comes_back(node: &Node, what: &str, there: impl Fn() -> Result<bool>) -> Result<()> {
    let found = wait::until(&format!("{what} on {}", node.name()), LONG, || {
        there().ok()?.then_some(())
    });
    found.with_context(|| format!("{:?}\n{:?}", node.addresses(), kernel::saved(node)))
}

fn local(node: &Node) -> bool {
    node.addresses()
        .get("dummyvip0")
        .is_some_and(|list| list.contains(&vip()))
}

#[test]
fn what_somebody_else_takes_away_comes_back() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let file = native(&format!("  virtualServers: [{{ipAddress: {}}}]\n", vip()));
    let cluster = Cluster::same(&lab, &[vip()], &file)?;
    let holder = cluster.settled(vip(), 3)?;
    let backup = lab
        .controllers()
        .find(|n| n.name() != holder.name())
        .context("a backup")?;
    let directs = |node: &Node| Ok(kernel::real_servers(node, service())?.len() == 3);

    holder.output(&["ipvsadm", "-C"])?;
    comes_back(holder, "the virtual server", || directs(holder))?;

    let gone = format!("{}:{PORT}", backup.ipv4()?);
    holder.output(&["ipvsadm", "-d", "-t", &service().to_string(), "-r", &gone])?;
    comes_back(holder, "the real server", || directs(holder))?;

    let changed = format!("{}:{PORT}", holder.ipv4()?);
    holder.output(&[
        "ipvsadm",
        "-e",
        "-t",
        &service().to_string(),
        "-r",
        &changed,
        "-g",
        "-w",
        "0",
    ])?;
    comes_back(holder, "the weight", || {
        let line = format!("-a -t {} -r {changed} -g -w 1", service());
        Ok(kernel::saved(holder)?.contains(&line))
    })?;

    holder.output(&["ip", "addr", "del", "192.168.122.200/24", "dev", "eth0"])?;
    comes_back(holder, "the address", || Ok(holder.holds(vip())))?;

    for node in [holder, backup] {
        node.output(&["ip", "addr", "del", "192.168.122.200/32", "dev", "dummyvip0"])?;
        comes_back(node, "the address of direct routing", || Ok(local(node)))?;
        node.output(&["ip", "link", "set", "dummyvip0", "down"])?;
        comes_back(node, "the link", || {
            Ok(node.output(&["ip", "link", "show", "dummyvip0"])?.contains(",UP"))
        })?;
        node.output(&["ip", "link", "del", "dummyvip0"])?;
        comes_back(node, "the link with its address", || Ok(local(node)))?;
        node.output(&["nft", "flush", "ruleset"])?;
        comes_back(node, "the guard", || {
            Ok(kernel::tables(node)?.contains("cplb_guard"))
        })?;
        node.netns().sysctl("ipv4.conf.eth0.arp_ignore", "0")?;
        comes_back(node, "arp_ignore", || {
            Ok(node.netns().sysctl_value("ipv4.conf.eth0.arp_ignore")? == "1")
        })?;
    }
    assert_eq!(
        cluster.holder(vip())?.name(),
        holder.name(),
        "nothing of that is a reason to give the address away"
    );

    let capture = wire::tcp_of(&lab, &[vip()])?;
    let answers = traffic::round(&cluster.client()?, &sources(false), service())?;
    let nodes: BTreeSet<&str> = answers.iter().map(|a| a.node.as_str()).collect();
    assert_eq!(nodes.len(), 3, "{answers:?}");
    let IpAddr::V4(address) = vip() else {
        unreachable!("an IPv4 address")
    };
    assert_eq!(
        wire::who_has(&lab, address)?,
        BTreeSet::from([kernel::mac(holder)?])
    );
    wire::assert_nothing_circled(&lab, &capture.finish()?, &[vip()], "after all that")
}
