//! What passes the switch: who directs, who answers, and whether anything goes round.
use crate::cluster::{sources, vips};
use anyhow::{Result, ensure};
use lb_common::abi::GUARD_TTL;
use lb_tests::capture::{Capture, Frame, Ip};
use lb_tests::inject::FrameSender;
use lb_tests::topology::{Lab, Node};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

/// A client's address that nobody has, so that nobody's kernel answers what the servers say to it.
pub(crate) const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 122, 77));
const TCP: u8 = 6;
const UDP: u8 = 17;

/// The MAC address of a node's `eth0`.
pub(crate) fn mac(node: &Node) -> Result<[u8; 6]> {
    Ok(FrameSender::new(node, "eth0")?.mac())
}

/// Takes TCP and UDP from and to the virtual IPs on the switch, each frame once as it comes in from a node.
pub(crate) fn watch(lab: &Lab) -> Result<Capture> {
    let vips = vips();
    Capture::start(lab.switch(), move |frame| {
        let Some(ip) = frame.ip() else { return false };
        let ours = vips.contains(&ip.destination) || vips.contains(&ip.source);
        !frame.outgoing && ours && [TCP, UDP].contains(&ip.protocol)
    })
}

/// What was seen of packets to and from the virtual IPs.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Frames that each of these MAC addresses sent to a virtual IP although another node had begun the packet.
    pub(crate) directed: BTreeMap<[u8; 6], usize>,
    /// Of those, the ones that did not leave with the guard's TTL.
    pub(crate) unguarded: usize,
    /// Packets that were directed more often than their client sent them.
    pub(crate) circled: Vec<String>,
    /// Who sent what comes from a virtual IP.
    pub(crate) answered: BTreeSet<[u8; 6]>,
}

/// Reads a capture of [`watch`]; `client` is the MAC address of whoever began every packet.
pub(crate) fn seen(frames: &[Frame], client: [u8; 6]) -> Seen {
    let mut seen = Seen {
        directed: BTreeMap::new(),
        unguarded: 0,
        circled: Vec::new(),
        answered: BTreeSet::new(),
    };
    let mut sent: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for frame in frames {
        let (Some(ip), Some(source)) = (frame.ip(), frame.source_mac()) else {
            continue;
        };
        if !vips().contains(&ip.destination) {
            // What answers the controllers' own health checks says nothing.
            if is_client(ip.destination) {
                seen.answered.insert(source);
            }
            continue;
        }
        if !is_client(ip.source) {
            continue;
        }
        let (by_client, by_others) = sent.entry(key(&ip)).or_default();
        if source == client {
            *by_client += 1;
        } else {
            *by_others += 1;
            *seen.directed.entry(source).or_default() += 1;
            seen.unguarded += usize::from(ip.ttl != GUARD_TTL);
        }
    }
    let more = sent.into_iter().filter(|(_, (client, others))| others > client);
    seen.circled = more.map(|(key, times)| format!("{key}: {times:?}")).collect();
    seen
}

/// The controllers ask the virtual IPs too: whether a server takes packets for them.
fn is_client(address: IpAddr) -> bool {
    sources(address.is_ipv6()).contains(&address) || address == STRANGER
}

/// Tells a packet from every other one by what no director changes.
fn key(ip: &Ip<'_>) -> String {
    let head = &ip.payload[..ip.payload.len().min(20)];
    format!("{} > {} id {} {head:02x?}", ip.source, ip.destination, ip.id)
}

/// Nothing was directed twice, and all of it with the guard's TTL.
pub(crate) fn nothing_circled(seen: &Seen, at_least: usize) -> Result<()> {
    let frames: usize = seen.directed.values().sum();
    ensure!(
        frames >= at_least,
        "too little traffic to tell: {frames} frames were directed"
    );
    ensure!(
        seen.circled.is_empty(),
        "{} packets went round: {:#?}",
        seen.circled.len(),
        seen.circled.first()
    );
    ensure!(
        seen.unguarded == 0,
        "{} frames were directed without the guard's TTL",
        seen.unguarded
    );
    Ok(())
}
