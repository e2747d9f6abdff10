//! Backends that drain, fail, die and come back: whose flows move, and whose do not.
use crate::cluster::{CONTROLLERS, Cluster, File, LONG, PLAIN, TLS, lab, needs_xdp, only_those_of, services};
use anyhow::{Context, Result};
use lb_tests::crowd::Broken;
use lb_tests::forge::Flood;
use lb_tests::inject::FrameSender;
use lb_tests::wait;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn ten_thousand_connections_outlive_a_drain_and_a_flood() -> Result<()> {
    needs_xdp!();
    const CONNECTIONS: usize = 10_000;
    let lab = lab()?;
    let mut cluster = Cluster::start(&lab, File::default())?;
    let begun = Instant::now();
    let crowd = cluster.crowd(PLAIN, CONNECTIONS, Duration::from_secs(2))?;
    let served = crowd.servers();
    eprintln!(
        "{CONNECTIONS} connections after {:?}: {served:?}",
        begun.elapsed()
    );
    assert!(served.keys().map(String::as_str).eq(CONTROLLERS), "{served:?}");
    crowd.heard_again(LONG)?;

    // c3 gets no new ones; only what the holder remembers keeps the old ones there.
    cluster.reload(File {
        weights: [1, 1, 0],
        ..File::default()
    })?;
    cluster.settled("c1", &["c1", "c2"])?;
    crowd.heard_again(LONG)?;
    crowd.intact().context("c3 drains")?;
    let new = cluster.spread(PLAIN, 600)?;
    eprintln!(
        "c3 drains with {} connections, the slowest answer took {:?}; new ones: {new:?}",
        served["c3"],
        crowd.take_slowest()
    );
    assert!(new.keys().map(String::as_str).eq(["c1", "c2"]), "{new:?}");

    // Whoever can push those memories out with made-up packets cuts them.
    let holder = lab.node("c1")?;
    let flood = Flood {
        to: services(PLAIN)[0],
        mac: FrameSender::new(holder, "eth0")?.mac(),
        packets: 600_000,
        limit: Duration::from_secs(12),
    };
    let begun = Instant::now();
    let left = flood.send(cluster.client()?)?;
    eprintln!("{left} packets with made-up sources in {:?}", begun.elapsed());
    crowd.heard_again(LONG)?;
    crowd.intact().context("a flood passed by")?;
    eprintln!(
        "after the flood the slowest answer took {:?}",
        crowd.take_slowest()
    );

    cluster.reload(File::default())?;
    cluster.settled("c1", &CONTROLLERS)?;
    crowd.heard_again(LONG)?;
    crowd.intact().context("c3 takes new ones again")
}

#[test]
fn a_server_that_goes_and_comes_back_moves_nobody_elses_connections() -> Result<()> {
    needs_xdp!();
    let lab = lab()?;
    let mut cluster = Cluster::start(&lab, File::default())?;
    let crowd = cluster.crowd(PLAIN, 900, Duration::from_millis(300))?;
    // Its kernel lives and says so to everybody who had a connection.
    cluster.stop_serving("c3");
    cluster.settled("c1", &["c1", "c2"])?;
    crowd.heard_again(LONG)?;
    only_those_of(&crowd, "c3").context("c3's server was killed")?;
    cluster.serve("c3")?;
    cluster.settled("c1", &CONTROLLERS)?;
    crowd.heard_again(LONG)?;
    only_those_of(&crowd, "c3").context("c3's server came back")?;
    Ok(())
}

#[test]
fn a_dead_hosts_clients_are_reset_before_they_give_up() -> Result<()> {
    needs_xdp!();
    let lab = lab()?;
    let mut cluster = Cluster::start(&lab, File::default())?;
    let crowd = cluster.crowd(TLS, 300, Duration::from_millis(300))?;
    let own = crowd.servers()["c3"];
    cluster.die("c3")?;
    let died = Instant::now();
    wait::until("each of the dead host's connections is told", LONG, || {
        (crowd.broken().len() >= own).then_some(())
    })
    .with_context(|| cluster.tables())?;
    assert_eq!(only_those_of(&crowd, "c3")?, own);
    let mut times = Vec::new();
    for member in crowd.broken() {
        let (at, why) = member.broken.clone().context("broken")?;
        // The silence of 15 minutes that TCP's retransmissions last would be `Silent`, after this crowd's patience.
        assert_eq!(why, Broken::Reset, "{member}");
        times.push(at - died);
    }
    times.sort();
    eprintln!(
        "{own} connections of a dead host were reset after {:?} (median), {:?} to {:?}",
        times.get(times.len() / 2),
        times.first(),
        times.last()
    );
    crowd.heard_again(LONG)?;
    let new = cluster.spread(PLAIN, 200)?;
    assert!(new.keys().map(String::as_str).eq(["c1", "c2"]), "{new:?}");

    lab.mend("c3")?;
    cluster.serve("c3")?;
    cluster.run("c3")?;
    cluster.healthy(&CONTROLLERS)?;
    cluster.settled("c1", &CONTROLLERS)?;
    thread::sleep(Duration::from_secs(1));
    crowd.heard_again(LONG)?;
    assert_eq!(only_those_of(&crowd, "c3").context("c3 is back")?, own);
    Ok(())
}
