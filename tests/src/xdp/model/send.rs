//! The frame that leaves.
use super::super::build::checksum;
use super::super::scene::{Backend, INGRESS};
use super::{Packet, Protocol, Verdict};
use lb_common::abi::tables::{BACKEND_LOCAL, BACKEND_REACHABLE};
use lb_common::abi::{GUARD_TTL, Reason};
use std::net::IpAddr;

/// So much of a packet is quoted to its sender: what makes an answer of 576 bytes (RFC 1812 section 4.3.2.3).
const QUOTE4: usize = 548;
/// The same over IPv6: 1280 bytes (RFC 4443 section 3.2).
const QUOTE6: usize = 1232;

/// As much of one that is shorter than that; no link is so narrow that less is too big.
const SHORT: usize = 128;

/// Writes what leaves, if it leaves changed.
pub(super) fn send(
    frame: &[u8],
    packet: &Packet<'_>,
    backend: &Backend,
    out: &mut Vec<u8>,
) -> Result<Verdict, Reason> {
    if backend.flags & BACKEND_LOCAL != 0 {
        return Ok(Verdict::Pass);
    }
    if backend.flags & BACKEND_REACHABLE == 0 {
        return Err(Reason::NoNeighbour);
    }
    out.clear();
    out.extend(backend.mac);
    out.extend(backend.src_mac);
    out.extend(&frame[12..packet.start]);
    if let Some((from, to)) = backend.tunnel {
        let room = backend.mtu as usize - if from.is_ipv4() { 20 } else { 40 };
        if packet.ip.len() > room {
            if packet.fragment.is_some() || packet.protocol == Protocol::Error || packet.ip.len() < SHORT {
                return Err(Reason::TooBig);
            }
            answer(frame, packet, room, out);
            return Err(Reason::TooBigTold);
        }
        outer(packet, from, to, out);
    }
    let inner = out.len();
    out.extend(&frame[packet.start..]);
    lower(&mut out[inner..]);
    Ok(if backend.ifindex == INGRESS {
        Verdict::Tx
    } else {
        Verdict::Redirect
    })
}

fn is6(packet: &Packet<'_>) -> bool {
    packet.flow.dst.is_ipv6()
}

/// Sets the TTL or hop limit. A checksum that was wrong stays as wrong as it was: RFC 1624, equation 3.
fn lower(ip: &mut [u8]) {
    if ip[0] >> 4 == 6 {
        ip[7] = GUARD_TTL;
        return;
    }
    let header = usize::from(ip[0] & 15) * 4;
    let right = |ip: &[u8]| checksum(&[&ip[..10], &ip[12..header]]);
    let (old, word) = (
        u16::from_be_bytes([ip[10], ip[11]]),
        u16::from_be_bytes([ip[8], ip[9]]),
    );
    let was_right = old == right(ip);
    ip[8] = GUARD_TTL;
    let new = if was_right {
        right(ip)
    } else {
        checksum(&[&(!old).to_be_bytes(), &(!word).to_be_bytes(), &ip[8..10]])
    };
    ip[10..12].copy_from_slice(&new.to_be_bytes());
}

/// The outer header of a tunnel.
fn outer(packet: &Packet<'_>, from: IpAddr, to: IpAddr, out: &mut Vec<u8>) {
    let protocol = if is6(packet) { 41 } else { 4 };
    let len = packet.ip.len();
    let class = match is6(packet) {
        true => packet.ip[0] << 4 | packet.ip[1] >> 4,
        false => packet.ip[1],
    };
    let kind = out.len() - 2;
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            out[kind..].copy_from_slice(&[8, 0]);
            let [a, b] = u16::try_from(len + 20).unwrap_or(0).to_be_bytes();
            let mut header = vec![0x45, class, a, b, 0, 0, 0x40, 0, 64, protocol, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&[&header]).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            out.extend(header);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            out[kind..].copy_from_slice(&[0x86, 0xdd]);
            let [a, b] = u16::try_from(len).unwrap_or(0).to_be_bytes();
            out.extend([0x60 | class >> 4, class << 4, 0, 0, a, b, protocol, 64]);
            out.extend(from.octets());
            out.extend(to.octets());
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    }
}

/// "Fragmentation needed" (RFC 792, RFC 1191; internetwork control, RFC 1812 section 4.3.2.5) or "packet too big" (RFC 4443), back to where it came from.
fn answer(frame: &[u8], packet: &Packet<'_>, mtu: usize, out: &mut Vec<u8>) {
    let mtu = u32::try_from(mtu).unwrap_or(0).to_be_bytes();
    let (quote, kind) = if is6(packet) {
        (QUOTE6, [2, 0])
    } else {
        (QUOTE4, [3, 4])
    };
    let quote = if packet.ip.len() < quote { SHORT } else { quote };
    let mut icmp = [&kind[..], &[0; 2], &mtu, &packet.ip[..quote]].concat();
    out[..6].copy_from_slice(&frame[6..12]);
    out[6..12].copy_from_slice(&frame[..6]);
    let len = icmp.len();
    match (packet.flow.dst, packet.flow.src) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [a, b] = u16::try_from(len + 20).unwrap_or(0).to_be_bytes();
            let mut header = vec![0x45, 0xc0, a, b, 0, 0, 0x40, 0, 64, 1, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&[&header]).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            out.extend(header);
            let sum = checksum(&[&icmp]).to_be_bytes();
            icmp[2..4].copy_from_slice(&sum);
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [a, b] = u16::try_from(len).unwrap_or(0).to_be_bytes();
            out.extend([0x60, 0, 0, 0, a, b, 58, 64]);
            out.extend(from.octets());
            out.extend(to.octets());
            let pseudo = [0, 0, a, b, 0, 0, 0, 58];
            let sum = checksum(&[&from.octets(), &to.octets(), &pseudo, &icmp]).to_be_bytes();
            icmp[2..4].copy_from_slice(&sum);
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {}
    }
    out.extend(icmp);
}
