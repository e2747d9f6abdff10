//! TLS through both virtual IPs: three servers, the client's address, answers that do not pass the director, a program
//! that runs natively and says so, and nothing left of it.
use crate::cluster::{CONTROLLERS, Cluster, File, LONG, TLS, lab, needs_xdp, vips};
use crate::wire;
use anyhow::{Context, Result};
use lb_tests::cplb;
use lb_tests::topology::Node;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

/// The line of `ip link` that names the program on `eth0`: `xdp` natively, `xdpgeneric` otherwise.
fn program(node: &Node) -> Result<Option<String>> {
    let text = node.output(&["ip", "-details", "link", "show", "eth0"])?;
    Ok(text
        .lines()
        .find(|line| line.contains("xdp"))
        .map(|line| line.trim().to_owned()))
}

#[test]
fn tls_reaches_three_servers_natively_and_nothing_is_left() -> Result<()> {
    needs_xdp!();
    let lab = lab()?;
    let before: Vec<String> = CONTROLLERS
        .iter()
        .map(|name| parameters(lab.node(name)?))
        .collect::<Result<_>>()?;
    let mut cluster = Cluster::start(&lab, File::default())?;
    let client = wire::mac(cluster.client()?)?;

    let capture = wire::watch(&lab)?;
    let crowd = cluster.crowd(TLS, 120, Duration::from_millis(200))?;
    thread::sleep(Duration::from_secs(1));
    crowd.intact()?;
    let served = crowd.servers();
    drop(crowd);
    let seen = wire::seen(&capture.finish()?, client);
    assert!(served.keys().map(String::as_str).eq(CONTROLLERS), "{served:?}");
    // That each saw the client's own address is what a crowd checks of every answer.
    wire::nothing_circled(&seen, 200)?;
    let macs: Vec<[u8; 6]> = CONTROLLERS
        .iter()
        .map(|name| wire::mac(lab.node(name)?))
        .collect::<Result<_>>()?;
    assert_eq!(
        seen.directed.keys().collect::<Vec<_>>(),
        [&macs[0]],
        "only the holder directs: {seen:?}"
    );
    let own: BTreeSet<[u8; 6]> = macs.iter().copied().collect();
    assert_eq!(seen.answered, own, "each server answers for itself");

    for name in CONTROLLERS {
        let node = lab.node(name)?;
        let on = program(node)?.with_context(|| format!("no program on {name}"))?;
        assert!(on.contains("xdp") && !on.contains("xdpgeneric"), "{name}: {on}");
        says_native(&cluster, node)?;
    }
    for (name, before) in CONTROLLERS.iter().zip(before) {
        let node = lab.node(name)?;
        cluster.end(name, Signal::SIGTERM)?;
        let out = cplb::run(node, &["cleanup"])?;
        assert!(out.status.success(), "{out:?}");
        assert_eq!(program(node)?, None, "{name}");
        let addresses = node.addresses();
        let left: Vec<_> = addresses
            .values()
            .flatten()
            .filter(|a| vips().contains(a))
            .collect();
        assert!(left.is_empty(), "{name}: {addresses:?}");
        assert_eq!(parameters(node)?, before, "{name}");
    }
    Ok(())
}

/// The status names the datapath, the interface and how the program runs there.
fn says_native(cluster: &Cluster<'_>, node: &Node) -> Result<()> {
    let out = cplb::run(node, &["status"])?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        text.contains("xdp") && text.contains("native") && text.contains("eth0"),
        "{text}\n{}",
        cluster.tables()
    );
    Ok(())
}

/// What of a node may change while a daemon runs and has to be as before when it is gone.
fn parameters(node: &Node) -> Result<String> {
    let mut text = String::new();
    for name in [
        "ipv4.conf.eth0.arp_ignore",
        "ipv4.conf.eth0.arp_announce",
        "ipv4.conf.all.arp_ignore",
    ] {
        text += &format!("{name} = {}\n", node.netns().sysctl_value(name)?);
    }
    text += &node.output(&["ls", "/sys/fs/bpf"])?;
    text += &node.output(&["nft", "list", "tables"]).unwrap_or_default();
    text += &node.output(&["ip", "-brief", "link"])?;
    Ok(text)
}

#[test]
fn a_holder_whose_processes_are_all_killed_directs_nothing_and_is_a_server_like_any_other() -> Result<()> {
    needs_xdp!();
    let lab = lab()?;
    let mut cluster = Cluster::start(&lab, File::default())?;
    let client = wire::mac(cluster.client()?)?;
    let crowd = cluster.crowd(TLS, 200, Duration::from_millis(200))?;
    let capture = wire::watch(&lab)?;
    cluster.daemon("c1")?.signal_all(Signal::SIGKILL)?;
    cluster.daemon("c1")?.wait_all(LONG)?;
    cluster.settled("c2", &CONTROLLERS)?;
    crowd.heard_again(LONG)?;
    // The program went with the last process that held it, and until the successor was heard this node's kernel spoke
    // for connections that it does not know.
    eprintln!(
        "all of the holder's processes were killed: {} of 200 connections were lost",
        crowd.broken().len()
    );
    let again = cluster.crowd(TLS, 200, Duration::from_millis(200))?;
    again.heard_again(LONG)?;
    again.intact()?;
    wire::nothing_circled(&wire::seen(&capture.finish()?, client), 200)?;
    let out = cplb::run(lab.node("c1")?, &["cleanup"])?;
    assert!(out.status.success(), "{out:?}");
    assert_eq!(program(lab.node("c1")?)?, None);
    Ok(())
}
