//! What passes the switch: who answers ARP, who answers clients, and whether anything goes round.
use crate::cluster::sources;
use crate::kernel;
use anyhow::Result;
use lb_tests::capture::{Capture, Frame, Ip};
use lb_tests::inject::FrameSender;
use lb_tests::topology::Lab;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

const TCP: u8 = 6;
/// What clients send with, and Linux's default.
const TTL: u8 = 64;

/// Takes the TCP packets from and to these addresses on the switch.
pub(crate) fn tcp_of(lab: &Lab, vips: &[IpAddr]) -> Result<Capture> {
    let vips = vips.to_vec();
    Capture::start(lab.switch(), move |frame| {
        let Some(ip) = frame.ip() else { return false };
        ip.protocol == TCP && (vips.contains(&ip.destination) || vips.contains(&ip.source))
    })
}

/// What a capture says of loops.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rounds {
    /// Frames from clients to a virtual IP that came into the switch, each time counted.
    pub(crate) packets: usize,
    /// Packets that directors sent more often than the client did, and how often either did: each time that a client
    /// sends one, one director may pass it on. (A client sends one again with all its bytes the same.)
    pub(crate) looped: Vec<(String, usize, usize)>,
    /// Frames of packets that more than one director has passed on, by their TTL: each takes one off.
    pub(crate) passed_twice: usize,
}

/// The controllers' own health checks go to virtual IPs too.
fn is_client(address: IpAddr) -> bool {
    sources(address.is_ipv6()).contains(&address)
}

/// Counts what went round of the clients' packets; `client` is the MAC address of whoever began it.
pub(crate) fn rounds(frames: &[Frame], vips: &[IpAddr], client: [u8; 6]) -> Rounds {
    let mut sent: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let mut seen = Rounds {
        packets: 0,
        looped: vec![],
        passed_twice: 0,
    };
    for frame in frames.iter().filter(|f| !f.outgoing) {
        let of_client = |ip: &Ip<'_>| vips.contains(&ip.destination) && is_client(ip.source);
        let Some(ip) = frame.ip().filter(of_client) else {
            continue;
        };
        seen.packets += 1;
        seen.passed_twice += usize::from(ip.ttl < TTL - 1);
        let head = &ip.payload[..ip.payload.len().min(20)];
        let key = format!("{} > {} id {} {head:02x?}", ip.source, ip.destination, ip.id);
        let (by_client, by_others) = sent.entry(key).or_default();
        *(if frame.source_mac() == Some(client) {
            by_client
        } else {
            by_others
        }) += 1;
    }
    let more = sent.into_iter().filter(|(_, (client, others))| others > client);
    seen.looped = more
        .map(|(key, (client, others))| (key, client, others))
        .collect();
    seen
}

/// Says that there was traffic and nothing of it went round.
pub(crate) fn assert_nothing_circled(lab: &Lab, frames: &[Frame], vips: &[IpAddr], when: &str) -> Result<()> {
    let seen = rounds(frames, vips, kernel::mac(lab.node("client")?)?);
    assert!(seen.packets > 20, "{when}: too little traffic to tell: {seen:?}");
    assert!(
        seen.looped.is_empty() && seen.passed_twice == 0,
        "{when}: packets went round: {seen:#?}"
    );
    Ok(())
}

/// The MAC addresses that answers from `vip` came from.
pub(crate) fn answering(frames: &[Frame], vip: IpAddr) -> BTreeSet<[u8; 6]> {
    let from_vip = |frame: &&Frame| !frame.outgoing && frame.ip().is_some_and(|ip| ip.source == vip);
    frames
        .iter()
        .filter(from_vip)
        .filter_map(Frame::source_mac)
        .collect()
}

/// Asks for `vip` by ARP from the client, and gives the MAC addresses of those who answered.
pub(crate) fn who_has(lab: &Lab, vip: Ipv4Addr) -> Result<BTreeSet<[u8; 6]>> {
    let client = lab.node("client")?;
    let IpAddr::V4(own) = client.ipv4()? else {
        anyhow::bail!("no IPv4 address")
    };
    let mac = kernel::mac(client)?;
    let capture = Capture::start(lab.switch(), move |f| {
        let reply = f.bytes.get(20..22) == Some(&[0, 2]);
        !f.outgoing && reply && f.arp().is_some_and(|(sender, _)| sender == vip)
    })?;
    let sender = FrameSender::new(client, "eth0")?;
    let mut request = vec![0xff; 6];
    request.extend(mac);
    request.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    request.extend(mac);
    request.extend(own.octets());
    request.extend([0; 6]);
    request.extend(vip.octets());
    request.resize(60, 0);
    for _ in 0..3 {
        sender.send(&request)?;
        thread::sleep(Duration::from_millis(200));
    }
    let frames = capture.finish()?;
    Ok(frames
        .iter()
        .filter_map(|f| f.bytes.get(22..28)?.try_into().ok())
        .collect())
}
