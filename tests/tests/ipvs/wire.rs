//! What passes the switch: who answers ARP, who answers clients, and whether anything goes round.
use crate::kernel;
use anyhow::Result;
use lb_tests::capture::{self, Capture, Frame};
use lb_tests::inject::FrameSender;
use lb_tests::topology::Lab;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::thread;
use std::time::Duration;

const TCP: u8 = 6;
/// What clients send with, and Linux's default.
const TTL: u8 = 64;

/// Takes the TCP packets from and to these addresses on the switch.
pub fn tcp_of(lab: &Lab, vips: &[IpAddr]) -> Result<Capture> {
    let vips = vips.to_vec();
    Capture::start(lab.switch(), move |frame| {
        let Some(ip) = frame.ip() else { return false };
        ip.protocol == TCP && (vips.contains(&ip.destination) || vips.contains(&ip.source))
    })
}

/// What a capture says of loops.
#[derive(Debug, PartialEq, Eq)]
pub struct Rounds {
    /// Packets to a virtual IP that came into the switch, each time counted.
    pub packets: usize,
    /// Packets that came in more than twice: from the client, from a director, and again.
    pub looped: Vec<(String, usize)>,
    /// Packets that more than one director has passed on, by their TTL: each takes one off.
    pub passed_twice: usize,
}

/// Counts what went round.
pub fn rounds(frames: &[Frame], vips: &[IpAddr]) -> Rounds {
    let inbound =
        |frame: &&Frame| !frame.outgoing && frame.ip().is_some_and(|ip| vips.contains(&ip.destination));
    let worn = |frame: &&Frame| frame.ip().is_some_and(|ip| ip.ttl < TTL - 1);
    Rounds {
        packets: frames.iter().filter(inbound).count(),
        looped: capture::loops(frames),
        passed_twice: frames.iter().filter(inbound).filter(worn).count(),
    }
}

/// Says that there was traffic and nothing of it went round.
pub fn assert_nothing_circled(frames: &[Frame], vips: &[IpAddr], when: &str) {
    let seen = rounds(frames, vips);
    assert!(seen.packets > 20, "{when}: too little traffic to tell: {seen:?}");
    assert!(
        seen.looped.is_empty() && seen.passed_twice == 0,
        "{when}: packets went round: {seen:#?}"
    );
}

/// The MAC addresses that answers from `vip` came from.
pub fn answering(frames: &[Frame], vip: IpAddr) -> BTreeSet<[u8; 6]> {
    let from_vip = |frame: &&Frame| !frame.outgoing && frame.ip().is_some_and(|ip| ip.source == vip);
    frames
        .iter()
        .filter(from_vip)
        .filter_map(Frame::source_mac)
        .collect()
}

/// Asks for `vip` by ARP from the client, and gives the MAC addresses of those who answered.
pub fn who_has(lab: &Lab, vip: Ipv4Addr) -> Result<BTreeSet<[u8; 6]>> {
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
