//! A holder that goes, in every way: the successor directs, and clients hardly notice.
use crate::cluster::{Cluster, LONG, PORT, lab, native, other_vip, sources, vip};
use crate::kernel::{self, needs_ipvs};
use crate::{k0s, traffic, wire};
use anyhow::{Context, Result};
use lb_tests::client::Client;
use lb_tests::cplb;
use lb_tests::topology::{Cut, Node};
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

const MOMENT: Duration = Duration::from_millis(1500);

fn service() -> SocketAddr {
    SocketAddr::new(vip(), PORT)
}

fn mh() -> String {
    let server = format!(
        "  virtualServers: [{{ipAddress: {}, lbAlgo: mh, schedulerFlags: [mh-port], persistenceTimeoutSeconds: 0}}]\n",
        vip()
    );
    native(&server)
}

/// Who is left, without `gone`, once one of them holds the address and directs to `servers` of them.
fn successor<'lab>(cluster: &Cluster<'lab>, gone: &str) -> Result<&'lab Node> {
    let found = wait::until("a successor that directs", LONG, || {
        let others = cluster.lab.controllers().filter(|n| n.name() != gone);
        others
            .into_iter()
            .find(|n| n.holds(vip()) && kernel::real_servers(n, service()).is_ok_and(|list| !list.is_empty()))
    });
    found.with_context(|| cluster.tables())
}

/// Who answers now: so many connections that nobody is missed by chance.
fn seen_in_rounds(client: &Client<'_>) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        seen.extend(
            traffic::round(client, &sources(false), service())?
                .into_iter()
                .map(|a| a.node),
        );
    }
    Ok(seen)
}

/// Ends the holder's daemon with `signal` while connections are made; says how many failed.
fn hand_over(file: &str, signal: Signal) -> Result<(usize, usize)> {
    let lab = lab()?;
    let mut cluster = Cluster::same(&lab, &[vip()], file)?;
    let old = cluster.settled(vip(), 3)?.name();
    let client = cluster.client()?;
    let capture = wire::tcp_of(&lab, &[vip()])?;
    let (new, attempts) = traffic::during(&client, &sources(false), service(), || {
        thread::sleep(MOMENT);
        let daemon = cluster.daemon_mut(old)?;
        daemon.signal(signal)?;
        daemon.wait(LONG)?;
        daemon.wait_all(LONG)?;
        let new = successor(&cluster, old)?.name();
        thread::sleep(MOMENT * 2);
        Ok(new)
    })?;
    assert_ne!(old, new);
    let failures = traffic::failures(&attempts);
    eprintln!("{signal}: {} connections, failed: {failures:#?}", attempts.len());
    assert!(
        kernel::saved(lab.node(old)?)?.iter().all(String::is_empty),
        "the old holder still has virtual servers"
    );
    let frames = capture.finish()?;
    wire::assert_nothing_circled(&lab, &frames, &[vip()], "a hand-over")?;
    // The API server beside a daemon that left is alive: whoever is balanced to it must reach it.
    let late = seen_in_rounds(&client)?;
    assert!(
        late.contains(old),
        "the server of the node that left is one like any other: {late:?}"
    );
    Ok((attempts.len(), failures.len()))
}

#[test]
fn no_connection_fails_when_the_holder_is_told_to_stop_and_servers_are_hashed() -> Result<()> {
    needs_ipvs!();
    let (all, failed) = hand_over(&mh(), Signal::SIGTERM)?;
    assert_eq!(failed, 0, "of {all}");
    Ok(())
}

#[test]
fn no_connection_fails_when_the_daemon_alone_is_killed_and_servers_are_hashed() -> Result<()> {
    needs_ipvs!();
    let (all, failed) = hand_over(&mh(), Signal::SIGKILL)?;
    assert_eq!(failed, 0, "of {all}");
    Ok(())
}

#[test]
fn at_most_the_connection_under_way_fails_when_a_round_robin_holder_is_told_to_stop() -> Result<()> {
    needs_ipvs!();
    // A new director knows nothing of a handshake that the old one began; connections come one after another here.
    let (all, failed) = hand_over(&k0s::ipv4_file(), Signal::SIGTERM)?;
    assert!(failed <= 1, "{failed} of {all}");
    Ok(())
}

#[test]
fn a_dead_node_is_replaced_as_holder_and_as_real_server_and_rejoins() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let mut cluster = Cluster::same(&lab, &[vip()], &k0s::ipv4_file())?;
    let old = cluster.settled(vip(), 3)?.name();
    let client = cluster.client()?;
    // The power: nothing of ours and no cable.
    lab.cut(old, Cut::Carrier)?;
    cluster.daemon(old)?.signal_all(Signal::SIGKILL)?;
    cluster.stop_serving(old);
    let new = successor(&cluster, old)?;
    let dead = SocketAddr::new(lab.node(old)?.ipv4()?, PORT).to_string();
    wait::until("the dead real server left", LONG, || {
        (!kernel::real_servers(new, service()).ok()?.contains(&dead)).then_some(())
    })
    .with_context(|| cluster.tables())?;
    let answers = traffic::round(&client, &sources(false), service())?;
    assert!(answers.iter().all(|a| a.node != old), "{answers:?}");

    lab.mend(old)?;
    cluster.serve(old)?;
    cluster.run(old)?;
    wait::until("the real server is back", LONG, || {
        let holder = lab.holder(vip(), LONG).ok()?;
        (kernel::real_servers(holder, service()).ok()?.len() == 3).then_some(())
    })
    .with_context(|| cluster.tables())?;
    // Those that were moved stay where they are; others find it.
    let all: Vec<_> = (0..6)
        .map(|_| traffic::round(&client, &sources(false), service()))
        .collect::<Result<_>>()?;
    assert!(!all.is_empty());
    Ok(())
}

#[test]
fn a_backup_that_is_told_to_stop_takes_no_connections_along() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let mut cluster = Cluster::same(&lab, &[vip()], &mh())?;
    let holder = cluster.settled(vip(), 3)?.name();
    let other = lab
        .controllers()
        .find(|n| n.name() != holder)
        .context("a backup")?
        .name();
    let client = cluster.client()?;
    let ((), attempts) = traffic::during(&client, &sources(false), service(), || {
        thread::sleep(MOMENT);
        cluster.stop(other)?;
        thread::sleep(MOMENT * 2);
        Ok(())
    })?;
    assert!(
        traffic::failures(&attempts).is_empty(),
        "{:#?}",
        traffic::failures(&attempts)
    );
    let late = seen_in_rounds(&client)?;
    assert!(
        late.contains(other),
        "the API server beside it is alive and gets nothing: {late:?}"
    );
    Ok(())
}

#[test]
fn after_everything_of_ours_was_killed_nothing_circles_and_cleanup_removes_it() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let mut cluster = Cluster::same(&lab, &[vip()], &k0s::ipv4_file())?;
    let before = parameters(lab.node("client")?)?;
    let old = cluster.settled(vip(), 3)?;
    let client = cluster.client()?;
    let capture = wire::tcp_of(&lab, &[vip()])?;
    let ((), attempts) = traffic::during(&client, &sources(false), service(), || {
        thread::sleep(MOMENT);
        let daemon = cluster.daemon_mut(old.name())?;
        daemon.signal_all(Signal::SIGKILL)?;
        daemon.wait_all(LONG)?;
        // Of equal priority, both of the others may take over, and the better address stays.
        successor(&cluster, old.name())?;
        wait::until("the kernel's lease has ended", LONG, || {
            (!old.holds(vip())).then_some(())
        })?;
        thread::sleep(MOMENT * 2);
        Ok(())
    })?;
    eprintln!(
        "{} connections, failed: {:#?}",
        attempts.len(),
        traffic::failures(&attempts)
    );
    assert_eq!(
        kernel::real_servers(old, service())?.len(),
        3,
        "the dead holder's virtual server is still in its kernel"
    );
    let new = lab.holder(vip(), LONG)?;
    assert_ne!(new.name(), old.name());
    let seen = seen_in_rounds(&client)?;
    assert!(
        seen.contains(old.name()),
        "{seen:?}: the node of the dead daemon is a real server like any other"
    );
    wire::assert_nothing_circled(&lab, &capture.finish()?, &[vip()], "after everything was killed")?;

    let out = cplb::run(old, &["cleanup"])?;
    assert!(out.status.success(), "{out:?}");
    nothing_is_left(old)?;
    assert_eq!(parameters(old)?, before);
    Ok(())
}

#[test]
fn somebody_elses_virtual_server_outlives_all_that_we_do() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let mut cluster = Cluster::same(&lab, &[vip()], &mh())?;
    let holder = cluster.settled(vip(), 3)?;
    let foreign = SocketAddr::new(other_vip(), PORT);
    for command in [
        format!("-A -t {foreign} -s wlc"),
        format!("-a -t {foreign} -r 10.9.8.7:443 -m -w 7"),
    ] {
        let mut argv = vec!["ipvsadm"];
        argv.extend(command.split(' '));
        holder.output(&argv)?;
    }
    thread::sleep(MOMENT);
    cluster.stop(holder.name())?;
    cplb::run(holder, &["cleanup"])?;
    let left = kernel::saved(holder)?;
    assert!(
        kernel::service_line(holder, foreign)?.contains("-s wlc"),
        "{left:?}"
    );
    assert_eq!(
        kernel::real_servers(holder, foreign)?,
        ["10.9.8.7:443"],
        "{left:?}"
    );
    assert!(
        left.iter()
            .all(|l| l.is_empty() || l.contains(&foreign.to_string())),
        "{left:?}"
    );
    Ok(())
}

/// No address, no link, no virtual server, no table of ours.
fn nothing_is_left(node: &Node) -> Result<()> {
    let all = node.output(&["ip", "--oneline", "addr"])?;
    assert!(!all.contains(&vip().to_string()), "{all}");
    assert!(!kernel::has_link(node, "dummyvip0")?);
    assert!(
        kernel::saved(node)?.iter().all(String::is_empty),
        "{:?}",
        kernel::saved(node)?
    );
    assert!(
        !kernel::tables(node)?.contains("cplb"),
        "{}",
        kernel::tables(node)?
    );
    Ok(())
}

/// Every parameter that we may change.
fn parameters(node: &Node) -> Result<Vec<String>> {
    let names = [
        "ipv4.conf.eth0.arp_ignore",
        "ipv4.conf.eth0.arp_announce",
        "ipv4.conf.eth0.promote_secondaries",
        "ipv4.vs.expire_nodest_conn",
        "ipv4.vs.expire_quiescent_template",
        "ipv4.vs.sloppy_tcp",
        "ipv4.ip_forward",
    ];
    names
        .iter()
        .map(|name| Ok(format!("{name} = {}", node.netns().sysctl_value(name)?)))
        .collect()
}
