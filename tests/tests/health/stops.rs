//! An API server is told to stop, is killed, vanishes, hangs.
use crate::cluster::{CONTROLLERS, Cluster, GRACE, LONG, PORT, datapath, lab, sources, vip};
use crate::requests::{Requests, during};
use anyhow::{Context, Result};
use lb_tests::client::Session;
use lb_tests::crowd::{Broken, Crowd};
use lb_tests::topology::Cut;
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// `/readyz` fails as soon as an API server gets SIGTERM, and so one after the other can be replaced.
#[test]
fn a_rolling_upgrade_loses_no_request_and_cuts_no_connection_before_its_time() -> Result<()> {
    let datapath = datapath!();
    let lab = lab(datapath)?;
    let mut cluster = Cluster::start(&lab, datapath)?;
    let (told, requests) = during(&mut cluster, |cluster| {
        let mut told = Vec::new();
        for name in CONTROLLERS {
            told.push((name, upgrade(cluster, name)?));
            cluster.serve(name)?;
            cluster.wait_state(name, "up")?;
            cluster.reaches_all()?;
        }
        Ok(told)
    })?;
    for (name, (told, ended)) in &told {
        let meanwhile = requests.between(*told, *ended);
        eprintln!(
            "{datapath}: SIGTERM to {name}: the last new connection that met it was begun after {:.2?}; {} of {} requests \
             failed",
            meanwhile.last_meeting(name, *told),
            meanwhile.failed().len(),
            meanwhile.0.len()
        );
    }
    let failed = requests.failed();
    assert!(
        failed.is_empty(),
        "{} of {} requests failed, such as {:?}\n{}",
        failed.len(),
        requests.0.len(),
        failed.first(),
        cluster.logs()
    );
    Ok(())
}

/// When it was told, and when it had ended. Whoever it serves is served to its end.
fn upgrade(cluster: &mut Cluster<'_>, name: &str) -> Result<(Instant, Instant)> {
    let crowd = cluster.crowd(30)?;
    let told = Instant::now();
    cluster.server(name)?.signal(Signal::SIGTERM)?;
    cluster.wait_state(name, "unready")?;
    // It keeps what it has while it serves.
    while told.elapsed() < GRACE - Duration::from_secs(2) {
        thread::sleep(Duration::from_millis(100));
    }
    crowd
        .intact()
        .with_context(|| format!("{name} is stopping, and still serves"))?;
    cluster.server(name)?.wait_all(LONG)?;
    let ended = Instant::now();
    cluster.wait_state(name, "down")?;
    only_its_own_broke(&crowd, name)?;
    Ok((told, ended))
}

/// Those that `name` did not serve go on.
fn only_its_own_broke(crowd: &Crowd, name: &str) -> Result<()> {
    let others: Vec<_> = (crowd.broken().into_iter())
        .filter(|m| m.node.as_deref() != Some(name))
        .collect();
    anyhow::ensure!(
        others.is_empty(),
        "{} whose server lives broke: {:?}",
        others.len(),
        others.first()
    );
    Ok(())
}

#[test]
fn a_killed_server_leaves_the_datapath_and_comes_back() -> Result<()> {
    fault(&Fault {
        what: "kill -9",
        happens: |cluster| cluster.server("c2")?.signal(Signal::SIGKILL),
        ends: |cluster| cluster.serve("c2"),
        told: true,
    })
}

#[test]
fn a_black_holes_connections_are_reset_and_it_comes_back() -> Result<()> {
    fault(&Fault {
        what: "black hole",
        happens: |cluster| cluster.lab.cut("c2", Cut::Silent),
        ends: |cluster| cluster.lab.mend("c2"),
        told: true,
    })
}

/// The kernel goes on accepting: only a check that waits for an answer notices.
#[test]
fn a_server_that_hangs_after_accept_leaves_the_datapath_and_comes_back() -> Result<()> {
    fault(&Fault {
        what: "hang after accept",
        happens: |cluster| cluster.server("c2")?.signal(Signal::SIGSTOP),
        ends: |cluster| cluster.server("c2")?.signal(Signal::SIGCONT),
        // Its kernel has acknowledged what was asked, so a client that waits says nothing more.
        told: false,
    })
}

struct Fault {
    what: &'static str,
    happens: fn(&mut Cluster<'_>) -> Result<()>,
    ends: fn(&mut Cluster<'_>) -> Result<()>,
    /// Clients that wait for an answer are told, because they repeat what they said.
    told: bool,
}

fn fault(fault: &Fault) -> Result<()> {
    let datapath = datapath!();
    let lab = lab(datapath)?;
    let mut cluster = Cluster::start(&lab, datapath)?;
    let crowd = fault.told.then(|| cluster.crowd(60)).transpose()?;
    let mut idle = idle_sessions(&cluster)?;
    let ((at, quiet), requests) = during(&mut cluster, |cluster| {
        let at = Instant::now();
        (fault.happens)(cluster)?;
        cluster.wait_state("c2", "down")?;
        // What is on its way to the datapath arrives.
        thread::sleep(Duration::from_secs(1));
        let quiet = Instant::now();
        thread::sleep(Duration::from_secs(3));
        Ok((at, (quiet, Instant::now())))
    })?;
    report(datapath, fault.what, &requests, at);
    let after = requests.between(quiet.0, quiet.1);
    assert!(after.0.len() > 10, "{}", after.0.len());
    assert!(
        after.failed().is_empty(),
        "{:?}\n{}",
        after.failed().first(),
        cluster.logs()
    );
    assert!(after.0.iter().all(|r| r.answer.as_deref() != Ok("c2")));
    // Kubelets would otherwise wait for a quarter of an hour (kubernetes #48638).
    for (session, node) in &mut idle {
        let asked = Instant::now();
        let answer = session.request("/who");
        if node == "c2" {
            let error = answer.err().context("a dead server answers")?;
            let reset = error
                .chain()
                .any(|e| e.downcast_ref::<io::Error>().is_some_and(is_the_end));
            assert!(
                reset,
                "after {:?}: {error:?}\n{}",
                asked.elapsed(),
                cluster.logs()
            );
        } else {
            assert_eq!(answer?, (200, node.clone()));
        }
    }
    if let Some(crowd) = crowd {
        everybody_was_told(&cluster, &crowd, datapath, fault.what, at)?;
    }
    (fault.ends)(&mut cluster)?;
    cluster.wait_state("c2", "up")?;
    cluster.held_by("c1")?;
    cluster.reaches_all()
}

/// Kept connections that nothing is asked on, some of which `c2` serves.
fn idle_sessions<'lab>(cluster: &Cluster<'lab>) -> Result<Vec<(Session, String)>> {
    let client = cluster.client()?;
    let mut list = Vec::new();
    for source in sources().into_iter().cycle().take(24) {
        let mut session = client.connect_from(Some(source), SocketAddr::new(vip(), PORT))?;
        let (_, node) = session.request("/who")?;
        list.push((session, node));
    }
    let own = list.iter().filter(|(_, n)| n == "c2").count();
    anyhow::ensure!(own > 0 && own < list.len(), "{own} of {} with c2", list.len());
    Ok(list)
}

/// Said by the other end, and not found out by waiting.
fn is_the_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionAborted
    )
}

fn everybody_was_told(
    cluster: &Cluster<'_>,
    crowd: &Crowd,
    datapath: &str,
    what: &str,
    at: Instant,
) -> Result<()> {
    let own = crowd.servers().get("c2").copied().unwrap_or_default();
    assert_ne!(own, 0, "{:?}", crowd.servers());
    wait::until("each of its connections is told", LONG, || {
        (crowd.broken().len() >= own).then_some(())
    })
    .with_context(|| cluster.logs())?;
    only_its_own_broke(crowd, "c2")?;
    let mut times: Vec<Duration> = Vec::new();
    for member in crowd.broken() {
        let (when, why) = member.broken.clone().context("broken")?;
        assert!(matches!(why, Broken::Reset | Broken::Closed), "{member}: {why}");
        times.push(when.saturating_duration_since(at));
    }
    times.sort();
    eprintln!(
        "{datapath}: {what}: its {own} connections were told after {:.2?} (median), {:.2?} at last",
        times.get(times.len() / 2).copied().unwrap_or_default(),
        times.last().copied().unwrap_or_default()
    );
    Ok(())
}

fn report(datapath: &str, what: &str, requests: &Requests, at: Instant) {
    let since = requests.between(at, Instant::now());
    let slowest = since.0.iter().map(|r| r.took).max().unwrap_or_default();
    eprintln!(
        "{datapath}: {what}: the last new connection that met it was begun after {:.2?}; {} of {} requests failed, the \
         slowest took {slowest:.2?}",
        since.last_meeting("c2", at),
        since.failed().len(),
        since.0.len(),
    );
}
