//! Which server a flow gets: UDP, policies of single ports, clients that stay, and the same answer from every node.
use crate::cluster::{CONTROLLERS, Cluster, File, LONG, PLAIN, TLS, lab, needs_xdp, services, sources};
use anyhow::{Context, Result};
use lb_tests::crowd;
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// Who gets each of many flows, of UDP and of TCP, over both families: the flow, and the server.
fn owners(cluster: &Cluster<'_>) -> Result<BTreeMap<String, String>> {
    let client = cluster.client()?;
    let mut owners = BTreeMap::new();
    for to in services(PLAIN) {
        let own = sources(to.is_ipv6());
        for (number, source) in (0..40_u16).zip(own.iter().cycle()) {
            let from = SocketAddr::new(*source, 30_000 + number * 7);
            let word = crowd::datagram(client, from, to, Duration::from_secs(5))?;
            let word = word.with_context(|| format!("no answer to UDP from {from}"))?;
            assert_eq!(word.client, from);
            owners.insert(format!("UDP {from}"), word.node);
            let mut line = crowd::line(client, Some(from), to, Duration::from_secs(5))?;
            let word = line.ask()?;
            assert_eq!(word.client, from);
            owners.insert(format!("TCP {from}"), word.node);
            // With a reset, so that the next one of these ports is a new connection.
            line.abort()?;
        }
    }
    Ok(owners)
}

#[test]
fn every_node_sends_the_same_flow_to_the_same_server() -> Result<()> {
    needs_xdp!();
    let lab = lab()?;
    let mut cluster = Cluster::start(&lab, File::default())?;
    let by_first = owners(&cluster)?;
    for kind in ["UDP", "TCP"] {
        let servers: BTreeSet<&String> = by_first
            .iter()
            .filter(|f| f.0.starts_with(kind))
            .map(|f| f.1)
            .collect();
        assert!(servers.into_iter().eq(CONTROLLERS), "{kind}: {by_first:?}");
    }
    for (gone, holder) in [("c1", "c2"), ("c2", "c3")] {
        cluster.end(gone, Signal::SIGTERM)?;
        cluster.held_by(holder)?;
        assert_eq!(owners(&cluster)?, by_first, "{holder} directs");
    }
    Ok(())
}

#[test]
fn clients_stay_where_they_were_unless_the_port_says_otherwise() -> Result<()> {
    needs_xdp!();
    let lab = lab()?;
    let file = File {
        persistence: 360,
        ports: format!("[{TLS}, {{port: {PLAIN}, persistenceTimeoutSeconds: 0}}]"),
        ..File::default()
    };
    let mut cluster = Cluster::start(&lab, file)?;
    // By client: who served its connections, a dozen of each.
    let by_client = |cluster: &Cluster<'_>, port| -> Result<BTreeMap<_, BTreeSet<String>>> {
        let crowd = cluster.crowd(port, 24 * 12, LONG)?;
        let mut servers: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
        for member in crowd.members() {
            servers.entry(member.ends.0.ip()).or_default().extend(member.node);
        }
        Ok(servers)
    };
    let sticky = by_client(&cluster, TLS)?;
    assert_eq!(sticky.len(), 24);
    assert!(
        sticky.values().all(|servers| servers.len() == 1),
        "a client was moved: {sticky:?}"
    );
    let all: BTreeSet<&String> = sticky.values().flatten().collect();
    assert!(all.into_iter().eq(CONTROLLERS), "{sticky:?}");
    let loose = by_client(&cluster, PLAIN)?;
    // That all twelve of some client go to one server by chance happens once in ten thousand times.
    assert!(
        loose.values().all(|servers| servers.len() > 1),
        "a port without persistence: {loose:?}"
    );

    cluster.end("c1", Signal::SIGTERM)?;
    cluster.held_by("c2")?;
    assert_eq!(
        by_client(&cluster, TLS)?,
        sticky,
        "the next holder keeps them too"
    );
    Ok(())
}
