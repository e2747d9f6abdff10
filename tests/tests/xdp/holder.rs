//! A change of holder: the successor knows nothing of any connection and sends each where it was.
use crate::cluster::{CONTROLLERS, Cluster, File, LONG, TLS, lab, needs_xdp, only_those_of};
use anyhow::{Context, Result};
use lb_tests::crowd::Crowd;
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::time::Duration;

/// Long-lived TLS connections of both families.
const CONNECTIONS: usize = 1000;
const INTERVAL: Duration = Duration::from_millis(400);

/// Every connection is asked again, and none may have broken.
fn all_go_on(crowd: &Crowd, when: &str) -> Result<()> {
    crowd.heard_again(LONG).context(when.to_owned())?;
    crowd.intact().context(when.to_owned())?;
    eprintln!(
        "{when}: {CONNECTIONS} of {CONNECTIONS} go on, the slowest answer took {:?}",
        crowd.take_slowest()
    );
    Ok(())
}

#[test]
fn a_thousand_tls_connections_outlive_every_change_of_holder() -> Result<()> {
    needs_xdp!();
    let lab = lab()?;
    let mut cluster = Cluster::start(&lab, File::default())?;
    let crowd = cluster.crowd(TLS, CONNECTIONS, INTERVAL)?;
    let served = crowd.servers();
    assert!(served.keys().map(String::as_str).eq(CONTROLLERS), "{served:?}");
    all_go_on(&crowd, &format!("at rest, by {served:?}"))?;

    cluster.end("c1", Signal::SIGTERM)?;
    cluster.held_by("c2")?;
    all_go_on(&crowd, "the holder was told to stop")?;

    cluster.run("c1")?;
    cluster.held_by("c1")?;
    all_go_on(&crowd, "it came back and took over")?;

    cluster.end("c1", Signal::SIGKILL)?;
    cluster.held_by("c2")?;
    all_go_on(&crowd, "its daemon was killed")?;

    cluster.run("c1")?;
    cluster.held_by("c1")?;
    all_go_on(&crowd, "it came back again")?;

    cluster.die("c1")?;
    // It is out of reach and believes what it likes; the others have one holder.
    wait::until("c2 holds", LONG, || {
        lab.node("c2")
            .ok()?
            .holds(crate::cluster::vip(false))
            .then_some(())
    })
    .with_context(|| cluster.tables())?;
    let ended = wait::until("the dead server's connections are told", LONG, || {
        let broken = only_those_of(&crowd, "c1");
        match broken {
            Ok(count) if count < served["c1"] => None,
            done => Some(done),
        }
    });
    let ended = ended.with_context(|| cluster.tables())??;
    crowd.heard_again(LONG)?;
    assert_eq!(only_those_of(&crowd, "c1")?, ended);
    eprintln!(
        "its host died: {} of {} go on, the slowest answer took {:?}; {ended} of the dead server ended: {:?}",
        CONNECTIONS - ended,
        CONNECTIONS - served["c1"],
        crowd.take_slowest(),
        crowd
            .broken()
            .first()
            .and_then(|m| m.broken.as_ref().map(|b| b.1.clone())),
    );
    Ok(())
}
