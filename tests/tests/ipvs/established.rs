//! Connections that outlive their director.
use crate::cluster::{Cluster, LONG, PORT, lab, native, sources, vip};
use crate::kernel::{self, needs_ipvs};
use anyhow::{Context, Result};
use lb_tests::client::Session;
use lb_tests::topology::Node;
use lb_tests::wait;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

/// As many as make it sure that every server has some.
const SESSIONS: usize = 18;

/// Open sessions, with who serves each.
pub(crate) fn open(cluster: &Cluster<'_>) -> Result<Vec<(Session, String)>> {
    let (client, to) = (cluster.client()?, SocketAddr::new(vip(), PORT));
    let sources = sources(false);
    let one = |n: usize| -> Result<(Session, String)> {
        let mut session = client.connect_from(sources.get(n % sources.len()).copied(), to)?;
        let node = session.get("/first")?.node;
        Ok((session, node))
    };
    (0..SESSIONS).map(one).collect()
}

/// Those sessions that answer no more, or from another server. A node in `gone` cannot answer.
pub(crate) fn broken(sessions: &mut [(Session, String)]) -> Vec<String> {
    let mut broken = Vec::new();
    for (session, node) in sessions {
        match session.get("/again") {
            Ok(answer) if answer.node == *node => {}
            Ok(answer) => broken.push(format!("{} of {node}: {answer:?}", session.local())),
            Err(error) => broken.push(format!("{} of {node}: {error:#}", session.local())),
        }
    }
    broken
}

fn moves<'lab>(cluster: &Cluster<'lab>, old: &Node) -> Result<&'lab Node> {
    let to = SocketAddr::new(vip(), PORT);
    let found = wait::until("another holder that directs to all", LONG, || {
        let [holder] = cluster.lab.holders(vip())[..] else {
            return None;
        };
        let there = kernel::real_servers(holder, to).ok()?.len() == 3;
        (holder.name() != old.name() && there).then_some(holder)
    });
    found.with_context(|| cluster.tables())
}

#[test]
fn hashed_connections_outlive_a_director_that_stops_and_one_that_is_killed() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let server = format!(
        "  virtualServers: [{{ipAddress: {}, lbAlgo: mh, schedulerFlags: [mh-port], persistenceTimeoutSeconds: 0}}]\n",
        vip()
    );
    let mut cluster = Cluster::same(&lab, &[vip()], &native(&server))?;
    let first = cluster.settled(vip(), 3)?;
    let mut sessions = open(&cluster)?;
    let by_first = sessions.iter().filter(|(_, n)| n == first.name()).count();
    assert!(by_first > 0 && by_first < SESSIONS, "{by_first}");
    assert_eq!(
        broken(&mut sessions),
        Vec::<String>::new(),
        "before anything happened"
    );

    cluster.stop(first.name())?;
    let second = moves(&cluster, first)?;
    assert_eq!(
        broken(&mut sessions),
        Vec::<String>::new(),
        "after {} was told to stop",
        first.name()
    );

    cluster.run(first.name())?;
    cluster.settled(vip(), 3)?;
    cluster.daemon(second.name())?.signal_all(Signal::SIGKILL)?;
    cluster.daemon_mut(second.name())?.wait_all(LONG)?;
    moves(&cluster, second)?;
    assert_eq!(
        broken(&mut sessions),
        Vec::<String>::new(),
        "after everything on {} was killed",
        second.name()
    );
    Ok(())
}

#[test]
fn synchronised_connections_outlive_their_director() -> Result<()> {
    needs_ipvs!();
    let lab = lab()?;
    let rest = format!(
        "  virtualServers: [{{ipAddress: {}}}]\n  connectionSync: {{syncID: 51}}\n",
        vip()
    );
    let mut cluster = Cluster::same(&lab, &[vip()], &native(&rest))?;
    let first = cluster.settled(vip(), 3)?;
    one_role_each(&cluster, first)?;
    let mut sessions = open(&cluster)?;
    // The kernel tells of a connection at its 3rd packet and of each template, within two seconds.
    let all_known = || {
        let known = |n: &Node| {
            n.output(&["ipvsadm", "-L", "-c", "-n"])
                .is_ok_and(|t| t.matches("ESTABLISHED").count() >= SESSIONS)
        };
        let backups = lab.controllers().filter(|n| n.name() != first.name());
        backups.into_iter().all(known).then_some(())
    };
    wait::until("the backups know every connection", LONG, all_known)?;
    assert_eq!(
        broken(&mut sessions),
        Vec::<String>::new(),
        "before anything happened"
    );
    cluster.stop(first.name())?;
    let second = moves(&cluster, first)?;
    assert_eq!(
        broken(&mut sessions),
        Vec::<String>::new(),
        "after {} was told to stop",
        first.name()
    );
    thread::sleep(Duration::from_secs(1));
    cluster.run(first.name())?;
    cluster.settled(vip(), 3)?;
    one_role_each(&cluster, second)
}

/// The holder sends, the others receive, and nobody does both.
fn one_role_each(cluster: &Cluster<'_>, holder: &Node) -> Result<()> {
    for node in cluster.lab.controllers() {
        let wanted = if node.name() == holder.name() {
            "master"
        } else {
            "backup"
        };
        let seen = wait::until(&format!("{} as {wanted}", node.name()), LONG, || {
            let text = node.output(&["ipvsadm", "-L", "--daemon"]).ok()?;
            let lines: Vec<&str> = text.lines().filter(|l| l.contains("sync daemon")).collect();
            (lines.len() == 1 && lines[0].starts_with(wanted)).then_some(text.clone())
        });
        let text = seen.with_context(|| format!("{:?}", node.output(&["ipvsadm", "-L", "--daemon"])))?;
        assert!(
            text.contains("mcast=eth0") && text.contains("syncid=51"),
            "{text}"
        );
    }
    Ok(())
}
