//! Asks a real server for its answer to a virtual IP, the way a director would send it there: a SYN to the virtual IP
//! in a frame to the real server's MAC address.
//!
//! A socket cannot do that: the virtual IP is local on this node too. So the frame goes out of a packet socket, and the
//! answer is seen by it before the kernel drops it (its source, the virtual IP, is an address of this host: a martian,
//! `fib_validate_source()` in `net/ipv4/fib_frontend.c`). A RST ends the half connection; the server's accept queue
//! never sees it.
#![expect(
    unsafe_code,
    reason = "registering a descriptor with the runtime has no safe form"
)]

use super::packet::link_address;
use lb_common::abi::GUARD_TTL;
use lb_common::model::MacAddr;
use lb_common::wire::tcp::{ACK, RST, SYN, Segment, TCP};
use lb_common::wire::{HeaderError, ethernet, ipv4, ipv6};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::io::unix::AsyncFd;

/// From where to where.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The interface of this node on the real server's link.
    pub interface: u32,
    /// Its MAC address.
    pub own_mac: MacAddr,
    /// This node's own address there.
    pub own_ip: IpAddr,
    /// The real server's MAC address.
    pub server_mac: MacAddr,
    /// The virtual IP.
    pub vip: IpAddr,
    /// The port that should answer.
    pub port: u16,
}

/// What came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// SYN and ACK: it takes connections for the virtual IP.
    Accepts,
    /// RST: it takes the virtual IP's packets, and nobody listens.
    Refuses,
    /// Nothing.
    Silence,
}

/// Sends a SYN, again after half of `limit`, and waits for what comes back. `from_port` and `sequence` should differ
/// each time.
pub async fn ask(path: &Path, from_port: u16, sequence: u32, limit: Duration) -> io::Result<Answer> {
    let socket = open(path, from_port)?;
    for _ in 0..2 {
        send(&socket, path, from_port, sequence, SYN)?;
        let answer = tokio::time::timeout(limit / 2, listen(&socket, path, from_port, sequence)).await;
        match answer {
            Ok(Ok(Answer::Accepts)) => {
                send(&socket, path, from_port, sequence.wrapping_add(1), RST)?;
                return Ok(Answer::Accepts);
            }
            Ok(other) => return other,
            Err(_) => {}
        }
    }
    Ok(Answer::Silence)
}

fn open(path: &Path, from_port: u16) -> io::Result<AsyncFd<Socket>> {
    // Protocol 0 receives nothing: the filter is there before the first packet can be.
    let socket = Socket::new_raw(
        Domain::PACKET,
        Type::RAW.nonblocking().cloexec(),
        Some(Protocol::from(0)),
    )?;
    socket.attach_filter(&filter(path, from_port))?;
    let ethertype = if path.vip.is_ipv4() {
        ethernet::IPV4
    } else {
        ethernet::IPV6
    };
    socket.bind(&link_address(path.interface, ethertype))?;
    // SAFETY: a `Socket` owns its descriptor and gives the same one for as long as it lives; it is moved in here, and
    // nothing takes it out.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

fn send(socket: &AsyncFd<Socket>, path: &Path, from_port: u16, sequence: u32, flags: u8) -> io::Result<()> {
    let segment = Segment {
        source: from_port,
        destination: path.port,
        sequence,
        acknowledgement: 0,
        flags,
        window: 1024,
    };
    let frame = frame(path, &segment).map_err(io::Error::other)?;
    socket.get_ref().send(&frame).map(|_| ())
}

fn frame(path: &Path, segment: &Segment) -> Result<Vec<u8>, HeaderError> {
    let mut payload = Vec::with_capacity(20);
    segment.encode(path.own_ip, path.vip, &mut payload)?;
    let mut out = Vec::with_capacity(74);
    match (path.own_ip, path.vip) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ethernet::Header::new(path.own_mac, path.server_mac, ethernet::IPV4).encode(&mut out);
            packet_v4(source, destination).encode(payload.len(), &mut out)?;
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ethernet::Header::new(path.own_mac, path.server_mac, ethernet::IPV6).encode(&mut out);
            packet_v6(source, destination).encode(payload.len(), &mut out)?;
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            return Err(HeaderError::Protocol("one family"));
        }
    }
    out.extend_from_slice(&payload);
    Ok(out)
}

// With the TTL of what a director has passed on already: a node that directs by XDP itself would send the question to
// whichever real server its table names, and that one would answer in its place, or nobody if it is the one who asks.
fn packet_v4(source: Ipv4Addr, destination: Ipv4Addr) -> ipv4::Header<'static> {
    ipv4::Header {
        tos: 0,
        id: 0,
        fragment: ipv4::DONT_FRAGMENT,
        ttl: GUARD_TTL,
        protocol: TCP,
        source,
        destination,
        options: &[],
    }
}

fn packet_v6(source: Ipv6Addr, destination: Ipv6Addr) -> ipv6::Header {
    ipv6::Header {
        traffic_class: 0,
        flow_label: 0,
        next_header: TCP,
        hop_limit: GUARD_TTL,
        source,
        destination,
    }
}

async fn listen(socket: &AsyncFd<Socket>, path: &Path, from_port: u16, sequence: u32) -> io::Result<Answer> {
    let mut buffer = [0; 256];
    loop {
        let mut ready = socket.readable().await?;
        match ready.try_io(|s| (&mut s.get_ref()).read(&mut buffer)) {
            Ok(Ok(n)) => {
                let frame = buffer.get(..n).unwrap_or_default();
                if let Some(answer) = answer(frame, path, from_port, sequence) {
                    return Ok(answer);
                }
            }
            Ok(Err(e)) => return Err(e),
            Err(_would_block) => {}
        }
    }
}

fn answer(frame: &[u8], path: &Path, from_port: u16, sequence: u32) -> Option<Answer> {
    let (header, packet) = ethernet::Header::parse(frame).ok()?;
    let (source, destination, payload): (IpAddr, IpAddr, &[u8]) = match header.ethertype {
        ethernet::IPV4 => {
            let (h, p) = ipv4::Header::parse(packet).ok()?;
            (h.source.into(), h.destination.into(), p)
        }
        ethernet::IPV6 => {
            let (h, p) = ipv6::Header::parse(packet).ok()?;
            (h.source.into(), h.destination.into(), p)
        }
        _ => return None,
    };
    let s = Segment::parse(payload).ok()?;
    let ours = (source, destination, s.source, s.destination, s.acknowledgement)
        == (
            path.vip,
            path.own_ip,
            path.port,
            from_port,
            sequence.wrapping_add(1),
        );
    if !ours {
        None
    } else if s.flags & RST != 0 {
        Some(Answer::Refuses)
    } else {
        (s.flags & (SYN | ACK) == SYN | ACK).then_some(Answer::Accepts)
    }
}

/// TCP, from the asked port to ours. IPv4 with options and IPv6 with extension headers are no answer to a bare SYN.
fn filter(path: &Path, from_port: u16) -> Vec<SockFilter> {
    const LD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const LD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JEQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RET: u16 = 0x06; // BPF_RET | BPF_K
    let (protocol_at, ports_at) = if path.vip.is_ipv4() {
        (14 + 9, 14 + 20)
    } else {
        (14 + 6, 14 + 40)
    };
    let ports = u32::from(path.port) << 16 | u32::from(from_port);
    vec![
        SockFilter::new(LD_BYTE, 0, 0, protocol_at),
        SockFilter::new(JEQ, 0, 3, u32::from(TCP)),
        SockFilter::new(LD_WORD, 0, 0, ports_at),
        SockFilter::new(JEQ, 0, 1, ports),
        SockFilter::new(RET, 0, 0, u32::MAX),
        SockFilter::new(RET, 0, 0, 0),
    ]
}
