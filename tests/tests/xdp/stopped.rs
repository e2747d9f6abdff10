//! A holder's daemon that is stopped and not ended: its program stops directing by itself, another node takes over, and
//! when it wakes up nothing circles.
use crate::cluster::{CONTROLLERS, Cluster, File, LONG, PLAIN, TLS, lab, needs_xdp, services, vip};
use crate::wire::{self, STRANGER};
use anyhow::{Context, Result};
use lb_common::wire::tcp::SYN;
use lb_tests::forge::{self, Hop};
use lb_tests::inject::FrameSender;
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

#[test]
fn a_stopped_holder_passes_instead_of_directing_and_nothing_circles() -> Result<()> {
    needs_xdp!();
    let lab = lab()?;
    let mut cluster = Cluster::start(&lab, File::default())?;
    let client = cluster.client()?;
    let mac = wire::mac(client)?;
    let first = wire::mac(lab.node("c1")?)?;
    let crowd = cluster.crowd(TLS, 200, Duration::from_millis(200))?;

    let capture = wire::watch(&lab)?;
    cluster.daemon("c1")?.signal(Signal::SIGSTOP)?;
    wait::until("c2 holds", LONG, || {
        lab.node("c2").ok()?.holds(vip(false)).then_some(())
    })
    .with_context(|| cluster.tables())?;
    // What still goes to the stopped one, as a client's that missed the announcement would, is directed by it until its
    // lease ends and never after.
    let stale = Hop { from: mac, to: first };
    wait::until("the stopped holder passes", LONG, || {
        directs(&cluster, stale).ok().filter(|d| !d).map(|_| ())
    })
    .with_context(|| cluster.tables())?;
    cluster
        .held_by("c2")
        .context("the kernel has dropped the stopped holder's address")?;
    crowd.heard_again(LONG)?;
    crowd.intact().context("the holder's daemon was stopped")?;
    assert!(!directs(&cluster, stale)?, "it directs again");

    cluster.daemon("c1")?.signal(Signal::SIGCONT)?;
    cluster.settled("c1", &CONTROLLERS)?;
    crowd.heard_again(LONG)?;
    crowd.intact().context("the stopped daemon went on")?;
    assert!(directs(&cluster, stale)?, "so that the test above can fail");
    wire::nothing_circled(&wire::seen(&capture.finish()?, mac), 500)
}

/// Whether `c1` passes a client's packets for the virtual IP on to another node: of 30 flows some are another's.
fn directs(cluster: &Cluster<'_>, hop: Hop) -> Result<bool> {
    let capture = wire::watch(cluster.lab)?;
    let sender = FrameSender::new(cluster.client()?, "eth0")?;
    for port in 0..30 {
        let from = SocketAddr::new(STRANGER, 20_000 + port);
        sender.send(&forge::segment(hop, from, services(PLAIN)[0], 7, SYN)?)?;
    }
    thread::sleep(Duration::from_millis(100));
    let frames = capture.finish()?;
    let mut passed_on = frames.iter().filter(|f| f.source_mac() == Some(hop.to));
    Ok(passed_on.any(|f| {
        f.ip()
            .is_some_and(|ip| ip.source == STRANGER && ip.destination == vip(false))
    }))
}
