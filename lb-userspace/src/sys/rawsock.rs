//! Raw sockets of IP protocol 112: adverts in and out.
//!
//! A raw socket gets the packets of *every* interface and of every group that anybody on the host has joined, unless it
//! is told otherwise: each one here is bound to its interface and to the one destination that it is for (the VRRP group,
//! or this node's own unicast address), and a filter drops foreign VRIDs in the kernel.
use lb_common::model::Family;
use nix::cmsg_space;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg,
    sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// RFC 9568 §5.1.1.4.
pub const PROTOCOL: u8 = 112;
/// RFC 9568 §5.1.1.2.
pub const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// RFC 9568 §5.1.2.2.
pub const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// RFC 9568 §5.1.1.3 and §5.1.2.3.
const HOP_LIMIT: u8 = 255;
/// Internetwork control, as keepalived marks its adverts.
const TRAFFIC_CLASS: u8 = 0xc0;
/// `TC_PRIO_CONTROL`.
const SKB_PRIORITY: i32 = 7;
/// About 1,600 adverts (the kernel doubles it): a queue that a starved thread finds complete.
const RECEIVE_BUFFER: usize = 1 << 20;

/// What could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} a VRRP socket on {interface}")]
pub struct OpenError {
    /// The verb.
    what: &'static str,
    /// The interface's name.
    interface: String,
    #[source]
    cause: io::Error,
}

/// The packets that a socket takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// To 224.0.0.18 or ff02::12.
    Group(Family),
    /// To this address of this node.
    Own(IpAddr),
}

impl Destination {
    /// The family of the socket.
    pub const fn family(self) -> Family {
        match self {
            Self::Group(f) => f,
            Self::Own(a) => Family::of(a),
        }
    }

    fn addr(self) -> IpAddr {
        match self {
            Self::Group(Family::Ipv4) => GROUP_V4.into(),
            Self::Group(Family::Ipv6) => GROUP_V6.into(),
            Self::Own(a) => a,
        }
    }
}

/// One packet of protocol 112, without its IP header.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// From the IP header.
    pub source: IpAddr,
    /// From the IP header.
    pub destination: IpAddr,
    /// TTL or hop limit on arrival.
    pub hop_limit: u8,
    /// The VRRP message.
    pub payload: &'a [u8],
}

/// What one read gave.
#[derive(Clone, Copy, Debug)]
pub enum Received<'a> {
    /// A packet.
    Packet(Datagram<'a>),
    /// Something whose IP part made no sense: skipped.
    Malformed,
    /// Nothing more is queued.
    Empty,
}

/// One raw socket.
#[derive(Debug)]
pub struct VrrpSocket {
    socket: Socket,
    interface: u32,
    family: Family,
    cmsg: Vec<u8>,
}

impl AsFd for VrrpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl VrrpSocket {
    /// Opens a non-blocking socket on the interface with this index and name.
    pub fn open(interface: u32, name: &str, destination: Destination) -> Result<Self, OpenError> {
        let family = destination.family();
        let fail = |what| {
            move |cause| OpenError {
                what,
                interface: name.to_owned(),
                cause,
            }
        };
        let domain = match family {
            Family::Ipv4 => Domain::IPV4,
            Family::Ipv6 => Domain::IPV6,
        };
        let kind = Type::RAW.nonblocking().cloexec();
        let protocol = Protocol::from(i32::from(PROTOCOL));
        let socket = Socket::new_raw(domain, kind, Some(protocol)).map_err(fail("open"))?;
        let index = NonZeroU32::new(interface).ok_or_else(|| fail("bind")(io::ErrorKind::NotFound.into()))?;
        match family {
            Family::Ipv4 => configure_v4(&socket, index).map_err(fail("configure"))?,
            Family::Ipv6 => configure_v6(&socket, index).map_err(fail("configure"))?,
        }
        set_buffers(&socket).map_err(fail("configure"))?;
        socket
            .bind(&bind_address(destination.addr(), interface))
            .map_err(fail("bind"))?;
        if let Destination::Group(_) = destination {
            join(&socket, family, index).map_err(fail("join the group with"))?;
        }
        Ok(Self {
            socket,
            interface,
            family,
            cmsg: cmsg_space!(libc::in6_pktinfo, libc::c_int),
        })
    }

    /// Lets only these VRIDs through. On an error the socket goes on taking all of them.
    pub fn only_vrids(&self, vrids: impl Iterator<Item = u8>) -> io::Result<()> {
        self.socket.attach_filter(&vrid_filter(self.family, vrids))
    }

    /// Sends one VRRP message from `source`, which must be an address of this node.
    pub fn send(&self, source: IpAddr, destination: IpAddr, message: &[u8]) -> io::Result<()> {
        let data = [IoSlice::new(message)];
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_DONTWAIT;
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(to)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: i32::try_from(self.interface).unwrap_or(0),
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from_ne_bytes(source.octets()),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                sendmsg(
                    fd,
                    &data,
                    &[ControlMessage::Ipv4PacketInfo(&info)],
                    flags,
                    Some(&to),
                )?;
            }
            (IpAddr::V6(source), IpAddr::V6(to)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr {
                        s6_addr: source.octets(),
                    },
                    ipi6_ifindex: self.interface,
                };
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, scope(to, self.interface)));
                sendmsg(
                    fd,
                    &data,
                    &[ControlMessage::Ipv6PacketInfo(&info)],
                    flags,
                    Some(&to),
                )?;
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        Ok(())
    }

    /// Takes the next packet, without waiting.
    pub fn receive<'b>(&mut self, buffer: &'b mut [u8]) -> io::Result<Received<'b>> {
        let (len, from, hop_limit, to) = match self.receive_raw(buffer) {
            Ok(parts) => parts,
            Err(nix::errno::Errno::EAGAIN) => return Ok(Received::Empty),
            Err(e) => return Err(e.into()),
        };
        let bytes = buffer.get(..len).unwrap_or_default();
        let datagram = match self.family {
            Family::Ipv4 => strip_ipv4(bytes),
            Family::Ipv6 => strip_ipv6(bytes, from, hop_limit, to),
        };
        Ok(datagram.map_or(Received::Malformed, Received::Packet))
    }

    #[expect(clippy::type_complexity, reason = "the parts of one recvmsg, used once")]
    fn receive_raw(
        &mut self,
        buffer: &mut [u8],
    ) -> nix::Result<(usize, Option<SockaddrStorage>, Option<u8>, Option<Ipv6Addr>)> {
        let mut data = [IoSliceMut::new(buffer)];
        let m = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut data,
            Some(&mut self.cmsg),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let (mut hop_limit, mut to) = (None, None);
        for c in m.cmsgs()? {
            match c {
                ControlMessageOwned::Ipv6HopLimit(h) => hop_limit = u8::try_from(h).ok(),
                ControlMessageOwned::Ipv6PacketInfo(i) => to = Some(Ipv6Addr::from(i.ipi6_addr.s6_addr)),
                _ => {}
            }
        }
        Ok((m.bytes, m.address, hop_limit, to))
    }
}

fn configure_v4(s: &Socket, index: NonZeroU32) -> io::Result<()> {
    s.bind_device_by_index_v4(Some(index))?;
    s.set_ttl_v4(u32::from(HOP_LIMIT))?;
    s.set_multicast_ttl_v4(u32::from(HOP_LIMIT))?;
    s.set_multicast_loop_v4(false)?;
    s.set_multicast_all_v4(false)?;
    s.set_tos_v4(u32::from(TRAFFIC_CLASS))
}

fn configure_v6(s: &Socket, index: NonZeroU32) -> io::Result<()> {
    s.bind_device_by_index_v6(Some(index))?;
    s.set_unicast_hops_v6(u32::from(HOP_LIMIT))?;
    s.set_multicast_hops_v6(u32::from(HOP_LIMIT))?;
    s.set_multicast_if_v6(index.get())?;
    s.set_multicast_loop_v6(false)?;
    // Linux 4.20; the binding to the group's address does the same for what arrives.
    let _ = s.set_multicast_all_v6(false);
    s.set_recv_hoplimit_v6(true)?;
    setsockopt(s, sockopt::Ipv6RecvPacketInfo, &true)?;
    s.set_tclass_v6(u32::from(TRAFFIC_CLASS))
}

fn set_buffers(s: &Socket) -> io::Result<()> {
    setsockopt(s, sockopt::Priority, &SKB_PRIORITY)?;
    // Beyond net.core.rmem_max only with CAP_NET_ADMIN, which the daemon has and a test may not.
    match setsockopt(s, sockopt::RcvBufForce, &RECEIVE_BUFFER) {
        Ok(()) => Ok(()),
        Err(_) => s.set_recv_buffer_size(RECEIVE_BUFFER),
    }
}

fn join(s: &Socket, family: Family, index: NonZeroU32) -> io::Result<()> {
    match family {
        Family::Ipv4 => {
            s.join_multicast_v4_n(&GROUP_V4, &socket2::InterfaceIndexOrAddress::Index(index.get()))
        }
        Family::Ipv6 => s.join_multicast_v6(&GROUP_V6, index.get()),
    }
}

fn scope(addr: Ipv6Addr, interface: u32) -> u32 {
    if addr.is_unicast_link_local() || addr.is_multicast() {
        interface
    } else {
        0
    }
}

fn bind_address(addr: IpAddr, interface: u32) -> SockAddr {
    match addr {
        IpAddr::V4(a) => SockAddr::from(SocketAddr::from((a, 0))),
        IpAddr::V6(a) => SockAddr::from(SocketAddrV6::new(a, 0, 0, scope(a, interface))),
    }
}

/// A raw IPv4 socket gives the whole packet. The kernel has checked the header's own checksum and length; options may
/// be there, so the length comes from IHL, and what follows Total Length is Ethernet's padding.
fn strip_ipv4(packet: &[u8]) -> Option<Datagram<'_>> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if header[0] >> 4 != 4 || header_len < header.len() {
        return None;
    }
    Some(Datagram {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
        hop_limit: header[8],
        payload: packet.get(header_len..total)?,
    })
}

/// A raw IPv6 socket gives what follows the headers; the rest comes beside it.
fn strip_ipv6(
    payload: &[u8],
    from: Option<SockaddrStorage>,
    hop_limit: Option<u8>,
    to: Option<Ipv6Addr>,
) -> Option<Datagram<'_>> {
    Some(Datagram {
        source: from?.as_sockaddr_in6()?.ip().into(),
        destination: to?.into(),
        hop_limit: hop_limit?,
        payload,
    })
}

/// Classic BPF: `[IHL] load VRID; one comparison for each VRID; else drop`. The offset of the VRRP message is the IP
/// header's length in IPv4 and 0 in IPv6, where the kernel has taken the headers off.
fn vrid_filter(family: Family, vrids: impl Iterator<Item = u8>) -> Vec<SockFilter> {
    const LDX_IHL: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH
    const LD_BYTE_X: u16 = 0x50; // BPF_LD | BPF_B | BPF_IND
    const LD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JEQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RET: u16 = 0x06; // BPF_RET | BPF_K
    let mut f = match family {
        Family::Ipv4 => vec![
            SockFilter::new(LDX_IHL, 0, 0, 0),
            SockFilter::new(LD_BYTE_X, 0, 0, 1),
        ],
        Family::Ipv6 => vec![SockFilter::new(LD_BYTE, 0, 0, 1)],
    };
    for vrid in vrids {
        f.push(SockFilter::new(JEQ, 0, 1, u32::from(vrid)));
        f.push(SockFilter::new(RET, 0, 0, u32::MAX));
    }
    f.push(SockFilter::new(RET, 0, 0, 0));
    f
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_packet_loses_its_options_and_its_padding() {
        let mut p = vec![
            0x46, 0xc0, 0, 26, 0, 0, 0, 0, 255, 112, 0, 0, 10, 0, 0, 1, 224, 0, 0, 18,
        ];
        p.extend([1, 1, 1, 1, 0x21, 0x33, 0, 0]);
        let d = strip_ipv4(&p).unwrap();
        assert_eq!(d.payload, [0x21, 0x33]);
        assert_eq!((d.hop_limit, d.source), (255, Ipv4Addr::new(10, 0, 0, 1).into()));
        assert!(strip_ipv4(&p[..25]).is_none(), "shorter than it says");
        assert!(strip_ipv4(&[0x44; 20]).is_none(), "a header of 16 bytes");
    }

    #[test]
    fn a_filter_has_two_instructions_for_each_vrid() {
        assert_eq!(vrid_filter(Family::Ipv6, [51, 52].into_iter()).len(), 1 + 4 + 1);
        assert_eq!(vrid_filter(Family::Ipv4, 1..=255).len(), 2 + 510 + 1);
    }
}
