//! Frames that somebody else would send: TCP segments of no connection, a router's word that a packet was too long, and
//! floods of the first.
use crate::inject::FrameSender;
use crate::topology::Node;
use anyhow::{Result, bail};
use lb_common::model::MacAddr;
use lb_common::wire::checksum::{self, Sum};
use lb_common::wire::tcp::{ACK, SYN, Segment, TCP};
use lb_common::wire::{ethernet, ipv4, ipv6};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const TTL: u8 = 64;

/// From and to which MAC address.
#[derive(Debug, Clone, Copy)]
pub struct Hop {
    /// Sender.
    pub from: [u8; 6],
    /// Receiver.
    pub to: [u8; 6],
}

/// A frame with this IP payload.
pub fn packet(hop: Hop, from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::with_capacity(54 + payload.len());
    let ethernet = |kind| ethernet::Header::new(MacAddr(hop.from), MacAddr(hop.to), kind);
    match (from, to) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet(0x0800).encode(&mut frame);
            ipv4_header(source, destination, protocol).encode(payload.len(), &mut frame)?;
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet(0x86dd).encode(&mut frame);
            let header = ipv6::Header {
                traffic_class: 0,
                flow_label: 0,
                next_header: protocol,
                hop_limit: TTL,
                source,
                destination,
            };
            header.encode(payload.len(), &mut frame)?;
        }
        _ => bail!("{from} and {to} are of two families"),
    }
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(60), 0);
    Ok(frame)
}

fn ipv4_header(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> ipv4::Header<'static> {
    ipv4::Header {
        tos: 0,
        id: 0,
        fragment: ipv4::DONT_FRAGMENT,
        ttl: TTL,
        protocol,
        source,
        destination,
        options: &[],
    }
}

/// A TCP segment without data.
pub fn segment(hop: Hop, from: SocketAddr, to: SocketAddr, sequence: u32, flags: u8) -> Result<Vec<u8>> {
    let segment = Segment {
        source: from.port(),
        destination: to.port(),
        sequence,
        acknowledgement: 0,
        flags,
        window: 1024,
    };
    let mut payload = Vec::with_capacity(20);
    segment.encode(from.ip(), to.ip(), &mut payload)?;
    packet(hop, from.ip(), to.ip(), TCP, &payload)
}

/// What a router says to the sender of `lost` (an IP packet) when it was longer than `mtu`: ICMP 3/4 or ICMPv6 2.
pub fn too_big(hop: Hop, router: IpAddr, lost: &[u8], mtu: u16) -> Result<Vec<u8>> {
    let [high, low] = mtu.to_be_bytes();
    let quoted = &lost[..lost.len().min(128)];
    let source: IpAddr = match lost.first().map(|first| first >> 4) {
        Some(4) => <[u8; 4]>::try_from(&lost[12..16])?.into(),
        _ => <[u8; 16]>::try_from(&lost[8..24])?.into(),
    };
    let (kind, code, protocol) = if source.is_ipv4() {
        (3, 4, ICMP)
    } else {
        (2, 0, ICMPV6)
    };
    let mut message = vec![kind, code, 0, 0, 0, 0, high, low];
    message.extend_from_slice(quoted);
    let sum = match protocol {
        ICMP => checksum::of(&message),
        _ => Sum::pseudo(router, source, ICMPV6, message.len())
            .unwrap_or_default()
            .bytes(&message)
            .finish(),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    packet(hop, router, source, protocol, &message)
}

/// TCP from made-up sources: every second packet a SYN, the others ACKs of connections that never were.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    /// Where it goes.
    pub to: SocketAddr,
    /// MAC address of whoever has that.
    pub mac: [u8; 6],
    /// Packets.
    pub packets: usize,
    /// At most for so long.
    pub limit: Duration,
}

impl Flood {
    /// Sends it through a node's `eth0` and gives how many packets left.
    pub fn send(&self, node: &Node) -> Result<usize> {
        let sender = FrameSender::new(node, "eth0")?;
        let hop = Hop {
            from: sender.mac(),
            to: self.mac,
        };
        let started = Instant::now();
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut left = 0;
        for number in 0..self.packets {
            if number % 256 == 0 && started.elapsed() > self.limit {
                break;
            }
            let [a, b, c, p, q, ..] = random.next().to_be_bytes();
            // 10.0.0.0/8, to which no node of a lab has a route: what they are answered stays where it is.
            let from = SocketAddr::new([10, a, b, c].into(), u16::from_be_bytes([p, q]));
            let flags = if number % 2 == 0 { SYN } else { ACK };
            let frame = segment(hop, from, self.to, 7, flags)?;
            // A full queue is a packet that did not leave, which in a flood is nobody's loss.
            left += usize::from(sender.send(&frame).is_ok());
        }
        Ok(left)
    }
}

/// Marsaglia's xorshift: the same packets in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}
