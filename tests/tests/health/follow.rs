//! The virtual IP is where somebody can serve, and stays where it is when nobody can.
use crate::cluster::{CONTROLLERS, Cluster, LONG, PORT, datapath, lab, vip, who};
use anyhow::{Context, Result};
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_holder_that_reaches_no_server_gives_way_and_takes_back() -> Result<()> {
    let datapath = datapath!();
    let lab = lab(datapath)?;
    let mut cluster = Cluster::start(&lab, datapath)?;
    let holder = lab.node("c1")?;
    let others = ["c2", "c3"].map(|n| lab.node(n).and_then(|n| n.ipv4()));
    let at = Instant::now();
    // Its own server is dead, and the others' addresses lead nowhere from here. Adverts go on: they are multicast.
    cluster.server("c1")?.signal(Signal::SIGKILL)?;
    for other in &others {
        let other = other.as_ref().map_err(|e| anyhow::anyhow!("{e:#}"))?;
        holder
            .netns()
            .ip(&format!("route add unreachable {other}/32\n"))?;
    }
    cluster.held_by("c2")?;
    eprintln!(
        "{datapath}: the virtual IP left a node that reaches nobody after {:?}",
        at.elapsed()
    );
    let status = cluster.daemon("c1")?.status()?;
    let tracked = &status["track"]["instances"]["api"][0];
    assert_eq!(
        (&tracked["what"], &tracked["well"]),
        (&"virtualServers".into(), &false.into()),
        "{status:#}"
    );
    let why = tracked["why"].as_str().unwrap_or_default();
    assert!(
        why.contains("none of its real servers can be reached from this node"),
        "{why}"
    );
    assert_eq!(status["roles"]["instances"][0]["priority"], 1);
    let client = cluster.client()?;
    wait::until("the new holder's clients are served", LONG, || {
        who(&client, None).ok()
    })?;

    for other in &others {
        let other = other.as_ref().map_err(|e| anyhow::anyhow!("{e:#}"))?;
        holder
            .netns()
            .ip(&format!("route del unreachable {other}/32\n"))?;
    }
    cluster.serve("c1")?;
    cluster.held_by("c1")?;
    cluster.reaches_all()
}

/// Everybody sees it, so nobody is a better holder; and all are kept, in case it is the checks that fail.
#[test]
fn an_outage_of_all_servers_moves_nothing_and_is_said() -> Result<()> {
    let datapath = datapath!();
    let lab = lab(datapath)?;
    let mut cluster = Cluster::start(&lab, datapath)?;
    for name in CONTROLLERS {
        cluster.server(name)?.signal(Signal::SIGKILL)?;
    }
    let wanted = "NONE of its 3 real servers answers: all are kept";
    let status = cluster
        .daemon("c1")?
        .wait_status("it is said", LONG, |s| s["health"].to_string().contains(wanted));
    let status = status.with_context(|| cluster.logs())?;
    assert_eq!(status["health"]["services"][0]["choice"], "all", "{status:#}");
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        // A node that holds it sees the same as the others: the address stays.
        assert!(lab.node("c1")?.holds(vip()), "{}", cluster.logs());
        thread::sleep(Duration::from_millis(50));
    }
    let page = lb_tests::cplb::run(lab.node("c1")?, &["status"])?;
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("PROBLEMS") && page.contains(wanted), "{page}");
    assert!(cluster.daemon("c1")?.log().contains(wanted));
    for name in CONTROLLERS {
        cluster.serve(name)?;
    }
    for name in CONTROLLERS {
        cluster.wait_state(name, "up")?;
    }
    cluster.reaches_all()?;
    assert!(lab.node("c1")?.holds(vip()), "{}", cluster.logs());
    let status = cluster.daemon("c1")?.status()?;
    let server = SocketAddr::new(lab.node("c2")?.ipv4()?, PORT).to_string();
    let seen = &status["health"]["servers"][&server];
    assert_eq!(
        (&seen["check"], &seen["up"]),
        (&"https".into(), &true.into()),
        "{status:#}"
    );
    assert!(
        seen["latencyUs"].as_u64().is_some() && seen["failures"].as_u64() > Some(2),
        "{seen:#}"
    );
    Ok(())
}
