//! A router's word that an answer was too long is about a flow, and goes where that flow's answers come from.
use crate::cluster::{CONTROLLERS, Cluster, File, LONG, PLAIN, lab, needs_xdp, sources, vip};
use crate::wire;
use anyhow::{Context, Result};
use lb_common::wire::tcp::{ACK, Segment};
use lb_tests::capture::Frame;
use lb_tests::crowd::{self, Line};
use lb_tests::forge::{self, Hop};
use lb_tests::inject::FrameSender;
use lb_tests::topology::Node;
use lb_tests::wait;
use std::net::{IpAddr, SocketAddr};

const MTU: u16 = 1300;

#[test]
fn a_path_mtu_reaches_the_server_of_the_flow_and_no_other() -> Result<()> {
    needs_xdp!();
    let lab = lab()?;
    let cluster = Cluster::start(&lab, File::default())?;
    for ipv6 in [false, true] {
        // One for each server; a source address of its own for each, since the kernel keeps an MTU for an address.
        for (name, source) in CONTROLLERS.iter().zip(sources(ipv6)) {
            one(&cluster, name, source).with_context(|| format!("{source} and {name}"))?;
        }
    }
    Ok(())
}

fn one(cluster: &Cluster<'_>, name: &str, source: IpAddr) -> Result<()> {
    let client = cluster.client()?;
    let to = SocketAddr::new(vip(source.is_ipv6()), PLAIN);
    let capture = wire::watch(cluster.lab)?;
    let mut line = served_by(client, name, source, to)?;
    let next = {
        line.ask()?;
        last_answer(&capture.finish()?, to, line.local).context("no answer was captured")?
    };
    for node in CONTROLLERS {
        assert_eq!(path_mtu(cluster.lab.node(node)?, source)?, None, "{node} before");
    }
    // What the router threw away: the next segment that the server would have sent.
    let hop = Hop {
        from: wire::mac(client)?,
        to: wire::mac(cluster.lab.node("c1")?)?,
    };
    let lost = forge::segment(hop, to, line.local, next, ACK)?;
    let router = sources(source.is_ipv6())[11];
    FrameSender::new(client, "eth0")?.send(&forge::too_big(hop, router, &lost[14..], MTU)?)?;
    let server = cluster.lab.node(name)?;
    wait::until("the server's path MTU", LONG, || {
        (path_mtu(server, source).ok()? == Some(MTU)).then_some(())
    })
    .with_context(|| {
        format!(
            "{:?}",
            server.output(&["ip", "route", "get", &source.to_string()])
        )
    })?;
    for node in CONTROLLERS.iter().filter(|node| **node != name) {
        assert_eq!(path_mtu(cluster.lab.node(node)?, source)?, None, "{node} after");
    }
    assert!(line.get(200_000).is_ok(), "the flow goes on");
    Ok(())
}

/// A connection that this server got.
fn served_by(client: &Node, name: &str, source: IpAddr, to: SocketAddr) -> Result<Line> {
    for _ in 0..200 {
        let mut line = crowd::line(client, Some(SocketAddr::new(source, 0)), to, LONG)?;
        if line.ask()?.node == name {
            return Ok(line);
        }
    }
    anyhow::bail!("200 connections, and {name} got none")
}

/// The sequence number behind the last segment that was sent from `from` to `to`.
fn last_answer(frames: &[Frame], from: SocketAddr, to: SocketAddr) -> Option<u32> {
    frames.iter().rev().find_map(|frame| {
        let ip = frame.ip()?;
        let segment = Segment::parse(ip.payload).ok()?;
        let ours = (ip.source, segment.source) == (from.ip(), from.port())
            && (ip.destination, segment.destination) == (to.ip(), to.port());
        let header = usize::from(ip.payload.get(12)? >> 4) * 4;
        let length = u32::try_from(ip.payload.len() - header).ok()?;
        ours.then(|| segment.sequence.wrapping_add(length))
    })
}

/// What a node's kernel has learnt of the way to an address.
fn path_mtu(node: &Node, to: IpAddr) -> Result<Option<u16>> {
    let text = node.output(&["ip", "route", "get", &to.to_string()])?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "mtu").skip(1);
    words.next().map(|mtu| mtu.parse().context("an MTU")).transpose()
}
