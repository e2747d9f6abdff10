//! Frames with timestamps, as they pass an interface of a namespace.
use crate::netns::Netns;
use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvmsg,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use std::collections::BTreeMap;
use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A capture that forgot to end must not eat the machine.
const MOST_FRAMES: usize = 500_000;
/// `PACKET_OUTGOING` of `linux/if_packet.h`.
const OUTGOING: u8 = 4;
const VRRP: u8 = 112;

/// One frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The kernel's timestamp.
    pub at: SystemTime,
    /// Index of the interface.
    pub interface: usize,
    /// Whether it left through that interface rather than came in.
    pub outgoing: bool,
    /// From the Ethernet header on.
    pub bytes: Vec<u8>,
}

/// A capture under way.
pub struct Capture {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Frame>>,
}

impl Capture {
    /// Takes every frame in the namespace, on all interfaces but `lo`, that `wanted` likes.
    pub fn start(netns: &Netns, wanted: impl Fn(&Frame) -> bool + Send + 'static) -> Result<Self> {
        let fd = netns.run(open)?.context("a packet socket (needs root)")?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = thread::spawn(move || receive_loop(&fd, &wanted, &flag));
        Ok(Self { stop, thread })
    }

    /// Ends it and gives the frames in order.
    pub fn finish(self) -> Result<Vec<Frame>> {
        // What is on its way to the socket still counts.
        thread::sleep(Duration::from_millis(30));
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the capture panicked")
    }
}

fn open() -> Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    setsockopt(&fd, sockopt::ReceiveTimestampns, &true)?;
    setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(0, 10_000))?;
    setsockopt(&fd, sockopt::RcvBufForce, &(16 << 20))?;
    Ok(fd)
}

fn receive_loop(fd: &OwnedFd, wanted: &dyn Fn(&Frame) -> bool, stop: &AtomicBool) -> Vec<Frame> {
    let mut frames = Vec::new();
    while frames.len() < MOST_FRAMES {
        match receive(fd) {
            Some(frame) if wanted(&frame) => frames.push(frame),
            Some(_) => {}
            None if stop.load(Ordering::Relaxed) => break,
            None => {}
        }
    }
    frames
}

fn receive(fd: &OwnedFd) -> Option<Frame> {
    let mut buffer = [0; 2048];
    let mut space = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let message =
        recvmsg::<LinkAddr>(fd.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty()).ok()?;
    let (from, length) = (message.address?, message.bytes);
    let stamp = message.cmsgs().ok()?.find_map(|c| match c {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    let at = stamp.map_or_else(SystemTime::now, |since| UNIX_EPOCH + since);
    let bytes = buffer[..length].to_vec();
    Some(Frame {
        at,
        interface: from.ifindex(),
        outgoing: from.pkttype() == OUTGOING,
        bytes,
    })
}

/// The IP packet of a frame, as far as the suites ask for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ip<'a> {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Protocol or next header.
    pub protocol: u8,
    /// IPv4's identification; 0 for IPv6.
    pub id: u16,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl Frame {
    /// Ethernet's type field.
    pub fn ethertype(&self) -> Option<u16> {
        self.bytes.get(12..14).map(|b| u16::from_be_bytes([b[0], b[1]]))
    }

    /// Ethernet's source.
    pub fn source_mac(&self) -> Option<[u8; 6]> {
        self.bytes.get(6..12)?.try_into().ok()
    }

    /// Ethernet's destination.
    pub fn destination_mac(&self) -> Option<[u8; 6]> {
        self.bytes.get(..6)?.try_into().ok()
    }

    /// Its IP packet.
    pub fn ip(&self) -> Option<Ip<'_>> {
        let packet = self.bytes.get(14..)?;
        match self.ethertype()? {
            0x0800 => ipv4(packet),
            0x86dd => ipv6(packet),
            _ => None,
        }
    }

    /// Its IP packet if it is VRRP: the payload starts at VRRP's first byte.
    pub fn vrrp(&self) -> Option<Ip<'_>> {
        self.ip().filter(|ip| ip.protocol == VRRP)
    }

    /// Whether it is ARP.
    pub fn is_arp(&self) -> bool {
        self.ethertype() == Some(0x0806)
    }

    /// Sender and target of an ARP packet: for a gratuitous one they are the same.
    pub fn arp(&self) -> Option<(Ipv4Addr, Ipv4Addr)> {
        let packet = self.bytes.get(14..).filter(|_| self.is_arp())?;
        let at = |from: usize| {
            packet
                .get(from..from + 4)?
                .try_into()
                .ok()
                .map(|b: [u8; 4]| Ipv4Addr::from(b))
        };
        Some((at(14)?, at(24)?))
    }
}

fn ipv4(packet: &[u8]) -> Option<Ip<'_>> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let length = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    let address = |at: usize| {
        packet
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(|b: [u8; 4]| IpAddr::V4(b.into()))
    };
    Some(Ip {
        source: address(12)?,
        destination: address(16)?,
        ttl: *packet.get(8)?,
        protocol: *packet.get(9)?,
        id: u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?),
        payload: packet.get(header..length.min(packet.len()))?,
    })
}

fn ipv6(packet: &[u8]) -> Option<Ip<'_>> {
    let address = |at: usize| {
        packet
            .get(at..at + 16)?
            .try_into()
            .ok()
            .map(|b: [u8; 16]| IpAddr::V6(Ipv6Addr::from(b)))
    };
    let length = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
    Some(Ip {
        source: address(8)?,
        destination: address(24)?,
        ttl: *packet.get(7)?,
        protocol: *packet.get(6)?,
        id: 0,
        payload: packet.get(40..(40 + length).min(packet.len()))?,
    })
}

/// How often each packet came into the switch, for those that came more than once.
///
/// Direct routing passes a packet on with nothing changed but the MAC addresses, so one that is balanced once comes
/// in twice: from the client and from the director. More is a loop. A packet is told by its addresses, its
/// protocol, its identification and its first 20 bytes of payload (ports and sequence numbers).
pub fn crossings(frames: &[Frame]) -> BTreeMap<String, usize> {
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    // Group frames come in once more on the bridge itself, and nobody balances them.
    let single = |frame: &&Frame| !frame.outgoing && frame.bytes.first().is_some_and(|byte| byte & 1 == 0);
    for frame in frames.iter().filter(single) {
        let Some(ip) = frame.ip() else { continue };
        let head = &ip.payload[..ip.payload.len().min(20)];
        let key = format!(
            "{}>{} proto {} id {} {head:02x?}",
            ip.source, ip.destination, ip.protocol, ip.id
        );
        *count.entry(key).or_default() += 1;
    }
    count.retain(|_, times| *times > 1);
    count
}

/// The packets that went round: those that came into the switch more than twice.
pub fn loops(frames: &[Frame]) -> Vec<(String, usize)> {
    crossings(frames)
        .into_iter()
        .filter(|(_, times)| *times > 2)
        .collect()
}
