//! What a frame says, and why it is none of ours.
use super::super::scene::{Scene, Vip};
use lb_common::abi::hash::{self, Key};
use lb_common::abi::{GUARD_TTL, Reason};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A flow towards a virtual IP, ports as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// The client.
    pub src: IpAddr,
    /// The virtual IP.
    pub dst: IpAddr,
    /// The client's port.
    pub src_port: u16,
    /// The service's port.
    pub dst_port: u16,
    /// 6 or 17.
    pub protocol: u8,
}

/// Of a fragmented packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification as it is in the packet, loaded in native order.
    pub id: u32,
    /// What the header that says so names: the same in all fragments.
    pub protocol: u8,
    /// Not the first one.
    pub later: bool,
}

/// What the ports are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP or UDP; TCP's flags.
    Transport(u8),
    /// An ICMP error about the flow.
    Error,
}

/// A packet for a service, or for what might be one.
#[derive(Debug)]
pub struct Packet<'a> {
    /// Where the IP header begins, behind the tags.
    pub start: usize,
    /// The IP packet, as long as it says it is.
    pub ip: &'a [u8],
    /// Index of the virtual IP.
    pub vip: u16,
    /// The flow that it belongs to. A later fragment has ports 0.
    pub flow: Flow,
    /// What it is beside that.
    pub protocol: Protocol,
    /// If it is a fragment.
    pub fragment: Option<Fragment>,
}

/// TCP's flags.
pub(super) const FIN: u8 = 1;
/// TCP's flags.
pub(super) const SYN: u8 = 2;
/// TCP's flags.
pub(super) const RST: u8 = 4;
/// TCP's flags.
pub(super) const ACK: u8 = 16;

impl Flow {
    /// Its hash.
    pub fn hash(&self, key: &Key) -> u64 {
        self.hashed(key, [self.src_port, self.dst_port], self.protocol.into(), false)
    }

    fn hashed(&self, key: &Key, ports: [u16; 2], protocol: u32, fragment: bool) -> u64 {
        let [a, b] = ports.map(u16::to_be_bytes);
        let ports = u32::from_ne_bytes([a[0], a[1], b[0], b[1]]);
        match (self.src, self.dst, fragment) {
            (IpAddr::V4(s), IpAddr::V4(d), false) => hash::flow4(key, word(s), word(d), ports, protocol),
            (IpAddr::V4(s), IpAddr::V4(d), true) => hash::fragment4(key, word(s), word(d), ports, protocol),
            (IpAddr::V6(s), IpAddr::V6(d), false) => hash::flow6(key, &words(s), &words(d), ports, protocol),
            (IpAddr::V6(s), IpAddr::V6(d), true) => {
                hash::fragment6(key, &words(s), &words(d), ports, protocol)
            }
            (IpAddr::V4(_), IpAddr::V6(_), _) | (IpAddr::V6(_), IpAddr::V4(_), _) => 0,
        }
    }

    /// The hash of a fragmented packet of it; `id` as it is in the packet, loaded in native order.
    pub fn fragment_hash(&self, key: &Key, id: u32, protocol: u8) -> u64 {
        let [a, b, c, d] = id.to_ne_bytes();
        let id = [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])];
        self.hashed(key, id, protocol.into(), true)
    }

    /// The hash of the client alone, of so many bits of its address.
    pub fn client_hash(&self, key: &Key, bits: u8) -> u64 {
        match self.src {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                hash::client4(key, word((u32::from(ip) & mask).into()))
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                hash::client6(key, &words((u128::from(ip) & mask).into()))
            }
        }
    }
}

fn word(ip: Ipv4Addr) -> u32 {
    u32::from_ne_bytes(ip.octets())
}

fn words(ip: Ipv6Addr) -> [u32; 4] {
    let bytes = ip.octets();
    std::array::from_fn(|i| u32::from_ne_bytes(std::array::from_fn(|j| bytes[4 * i + j])))
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn v4(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap_or_default())
}

fn v6(bytes: &[u8], at: usize) -> Ipv6Addr {
    Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap_or_default())
}

/// Reads a frame, or says why it goes no further.
pub(super) fn packet<'a>(scene: &Scene, frame: &'a [u8]) -> Result<Packet<'a>, Reason> {
    let (start, is6, vlans) = ethernet(frame)?;
    let rest = &frame[start..];
    if rest.len() < if is6 { 40 } else { 20 } {
        return Err(Reason::NotIp);
    }
    let (src, dst, ttl) = if is6 {
        (IpAddr::V6(v6(rest, 8)), IpAddr::V6(v6(rest, 24)), rest[7])
    } else {
        (IpAddr::V4(v4(rest, 12)), IpAddr::V4(v4(rest, 16)), rest[8])
    };
    let vip = scene.vips.iter().find(|vip| vip.address == dst);
    let vip = vip.ok_or(Reason::NotVip)?;
    admitted(scene, vip, frame, &vlans)?;
    if ttl <= GUARD_TTL {
        return Err(Reason::Guarded);
    }
    if src == dst || cannot_be(src) {
        return Err(Reason::BadSource);
    }
    let flow = Flow {
        src,
        dst,
        src_port: 0,
        dst_port: 0,
        protocol: 0,
    };
    let inside = if is6 { inside6(rest)? } else { inside4(rest)? };
    transport(start, vip.index, flow, inside)
}

/// RFC 1122 section 3.2.1.3, RFC 4291 sections 2.5.2, 2.5.3 and 2.7: "this network", loopback, multicast, class E.
fn cannot_be(src: IpAddr) -> bool {
    match src {
        IpAddr::V4(ip) => matches!(ip.octets()[0], 0 | 127 | 224..),
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_loopback() || ip.is_multicast(),
    }
}

fn admitted(scene: &Scene, vip: &Vip, frame: &[u8], vlans: &[u16]) -> Result<(), Reason> {
    if !scene.lease {
        return Err(Reason::LeaseEnded);
    }
    // A tag with identifier 0 says a priority and no VLAN.
    let tags = |ids: &[u16]| ids.iter().fold(0, |all, id| all << 16 | u32::from(*id));
    if tags(vlans) != tags(&vip.vlans) || frame[..6] != vip.mac {
        return Err(Reason::NotForUs);
    }
    Ok(())
}

/// Where IP begins, whether it is IPv6, and the VLANs.
fn ethernet(frame: &[u8]) -> Result<(usize, bool, Vec<u16>), Reason> {
    let mut vlans = Vec::new();
    let mut at = 12;
    loop {
        let kind = frame.get(at..at + 2).ok_or(Reason::NotIp)?;
        match be16(kind, 0) {
            0x0800 => return Ok((at + 2, false, vlans)),
            0x86dd => return Ok((at + 2, true, vlans)),
            0x8100 | 0x88a8 if vlans.len() < 2 => {
                let tag = frame.get(at + 2..at + 4).ok_or(Reason::NotIp)?;
                vlans.push(be16(tag, 0) & 0xfff);
                at += 4;
            }
            _ => return Err(Reason::NotIp),
        }
    }
}

/// What is in an IP packet.
struct Inside<'a> {
    ip: &'a [u8],
    protocol: u8,
    fragment: Option<Fragment>,
    /// What is behind the headers.
    payload: &'a [u8],
    /// The number of ICMP here.
    icmp: u8,
}

fn inside4(rest: &[u8]) -> Result<Inside<'_>, Reason> {
    let (header, total) = (usize::from(rest[0] & 15) * 4, usize::from(be16(rest, 2)));
    if rest[0] >> 4 != 4 || header < 20 || total < header || total > rest.len() {
        return Err(Reason::BadIp);
    }
    let place = be16(rest, 6) & 0x3fff;
    let id = u32::from(u16::from_ne_bytes([rest[4], rest[5]]));
    Ok(Inside {
        ip: &rest[..total],
        protocol: rest[9],
        fragment: (place != 0).then_some(Fragment {
            id,
            protocol: rest[9],
            later: place & 0x1fff != 0,
        }),
        payload: &rest[header..total],
        icmp: 1,
    })
}

fn inside6(rest: &[u8]) -> Result<Inside<'_>, Reason> {
    let total = 40 + usize::from(be16(rest, 4));
    if rest[0] >> 4 != 6 || total > rest.len() {
        return Err(Reason::BadIp);
    }
    let ip = &rest[..total];
    let (protocol, fragment, at) = extensions(ip, rest[6], Reason::BadIp)?;
    Ok(Inside {
        ip,
        protocol,
        fragment,
        payload: &ip[at..],
        icmp: 58,
    })
}

/// Looks through up to six extension headers: the protocol, the fragment, and where what is behind them begins.
fn extensions(ip: &[u8], mut next: u8, cut: Reason) -> Result<(u8, Option<Fragment>, usize), Reason> {
    let (mut at, mut fragment) = (40, None);
    for _ in 0..6 {
        if !matches!(next, 0 | 43 | 44 | 51 | 60) {
            break;
        }
        let header = ip.get(at..at + 8).ok_or(cut)?;
        let size = match next {
            44 => 8,
            51 => (usize::from(header[1]) + 2) * 4,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        let place = be16(header, 2);
        if next == 44 && place & 0xfff9 != 0 {
            fragment = Some(Fragment {
                id: u32::from_ne_bytes([header[4], header[5], header[6], header[7]]),
                protocol: header[0],
                later: place >> 3 != 0,
            });
        }
        next = header[0];
        at += size;
        if at > ip.len() {
            return Err(cut);
        }
        if fragment.is_some_and(|f| f.later) {
            return Ok((next, fragment, at));
        }
    }
    if is_extension(next) {
        return Err(Reason::Extension);
    }
    Ok((next, fragment, at))
}

/// IANA's list of IPv6 extension headers, and "no next header".
fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        0 | 43 | 44 | 50 | 51 | 59 | 60 | 135 | 139 | 140 | 253 | 254
    )
}

fn transport<'a>(start: usize, vip: u16, mut flow: Flow, inside: Inside<'a>) -> Result<Packet<'a>, Reason> {
    let Inside {
        ip,
        protocol,
        fragment,
        payload,
        icmp,
    } = inside;
    flow.protocol = protocol;
    let later = fragment.is_some_and(|f| f.later);
    let kind = match protocol {
        6 | 17 if later => Protocol::Transport(0),
        // What follows may be another extension header, and what follows that is in the first fragment.
        0 | 43 | 44 | 51 | 60 if later && icmp == 58 => Protocol::Transport(0),
        6 => Protocol::Transport(tcp(payload)?),
        17 => {
            udp(payload, fragment.is_some())?;
            Protocol::Transport(0)
        }
        _ if protocol == icmp && fragment.is_some() => return Err(Reason::IcmpOther),
        _ if protocol == icmp => {
            flow = error(flow, payload, icmp == 58).ok_or(Reason::IcmpOther)?;
            Protocol::Error
        }
        _ if icmp == 58 && is_extension(protocol) => return Err(Reason::Extension),
        _ => return Err(Reason::NotService),
    };
    if kind != Protocol::Error && !later {
        (flow.src_port, flow.dst_port) = (be16(payload, 0), be16(payload, 2));
    }
    Ok(Packet {
        start,
        ip,
        vip,
        flow,
        protocol: kind,
        fragment,
    })
}

fn tcp(payload: &[u8]) -> Result<u8, Reason> {
    let header = payload.get(..20).ok_or(Reason::BadTransport)?;
    let size = usize::from(header[12] >> 4) * 4;
    if size < 20 || size > payload.len() {
        return Err(Reason::BadTransport);
    }
    Ok(header[13])
}

/// The length of a fragmented datagram is that of all its fragments.
fn udp(payload: &[u8], fragment: bool) -> Result<(), Reason> {
    let header = payload.get(..8).ok_or(Reason::BadTransport)?;
    let len = usize::from(be16(header, 4));
    if len < 8 || (len > payload.len() && !fragment) {
        return Err(Reason::BadTransport);
    }
    Ok(())
}

/// The flow that an ICMP error is about, the way that its packets come to us.
fn error(outer: Flow, payload: &[u8], is6: bool) -> Option<Flow> {
    let header = payload.get(..8)?;
    let errors: &[u8] = if is6 { &[1, 2, 3, 4] } else { &[3, 4, 11, 12] };
    if !errors.contains(&header[0]) {
        return None;
    }
    let inner = &payload[8..];
    let (src, dst, protocol, ports) = if is6 { inner6(inner)? } else { inner4(inner)? };
    let ports = ports.get(..4)?;
    let about_us = src == outer.dst && matches!(protocol, 6 | 17);
    about_us.then_some(Flow {
        src: dst,
        dst: src,
        src_port: be16(ports, 2),
        dst_port: be16(ports, 0),
        protocol,
    })
}

type Inner<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn inner4(inner: &[u8]) -> Option<Inner<'_>> {
    let header = inner.get(..20)?;
    let size = usize::from(header[0] & 15) * 4;
    let right = header[0] >> 4 == 4 && size >= 20 && be16(header, 6) & 0x1fff == 0;
    let ends = (IpAddr::V4(v4(header, 12)), IpAddr::V4(v4(header, 16)));
    (right && size <= inner.len()).then(|| (ends.0, ends.1, header[9], &inner[size..]))
}

fn inner6(inner: &[u8]) -> Option<Inner<'_>> {
    let header = inner.get(..40)?;
    let (protocol, fragment, at) = extensions(inner, header[6], Reason::IcmpOther).ok()?;
    let right = header[0] >> 4 == 6 && !fragment.is_some_and(|f| f.later);
    let ends = (IpAddr::V6(v6(header, 8)), IpAddr::V6(v6(header, 24)));
    right.then(|| (ends.0, ends.1, protocol, &inner[at..]))
}
