//! Frames and packets as somebody else on the wire would send them.
use crate::topology::Node;
use anyhow::{Context, Result};
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, sendto, socket};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

/// VRRP's group.
pub const VRRP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// VRRP's group for IPv6.
pub const VRRP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
const VRRP: i32 = 112;

/// Sends whole frames through an interface of a node.
pub struct FrameSender {
    fd: OwnedFd,
    link: LinkAddr,
}

impl FrameSender {
    /// Through this interface.
    pub fn new(node: &Node, interface: &str) -> Result<Self> {
        let open = || -> Result<Self> {
            let mut links = getifaddrs()?.filter(|entry| entry.interface_name == interface);
            let link = links.find_map(|entry| entry.address?.as_link_addr().copied());
            let link = link.with_context(|| format!("no interface {interface}"))?;
            let flags = SockFlag::SOCK_CLOEXEC;
            let fd = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
            Ok(Self { fd, link })
        };
        node.netns().run(open)?
    }

    /// The interface's own address.
    pub fn mac(&self) -> [u8; 6] {
        self.link.addr().unwrap_or_default()
    }

    /// Sends one frame, from its Ethernet header on.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        sendto(self.fd.as_raw_fd(), frame, &self.link, MsgFlags::empty()).context("sending a frame")?;
        Ok(())
    }
}

/// Sends VRRP packets from a node's own address; the kernel makes the IP header.
pub struct VrrpSender {
    socket: Socket,
    group: SocketAddr,
}

impl VrrpSender {
    /// To the group of `source`'s family, with this TTL (255 is what VRRP demands).
    pub fn new(node: &Node, source: IpAddr, ttl: u32) -> Result<Self> {
        let open = || -> Result<Socket> {
            let domain = if source.is_ipv4() {
                Domain::IPV4
            } else {
                Domain::IPV6
            };
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(VRRP)))?;
            let mut bind = SocketAddr::new(source, 0);
            match source {
                IpAddr::V4(address) => {
                    socket.set_multicast_if_v4(&address)?;
                    socket.set_multicast_ttl_v4(ttl)?;
                    socket.set_ttl_v4(ttl)?;
                    socket.set_multicast_loop_v4(false)?;
                }
                IpAddr::V6(address) => {
                    let index = nix::net::if_::if_nametoindex("eth0")?;
                    socket.set_multicast_if_v6(index)?;
                    socket.set_multicast_hops_v6(ttl)?;
                    socket.set_unicast_hops_v6(ttl)?;
                    socket.set_multicast_loop_v6(false)?;
                    // A link-local address is one only together with its link.
                    bind = SocketAddrV6::new(address, 0, 0, index).into();
                }
            }
            socket.bind(&bind.into())?;
            Ok(socket)
        };
        let group = if source.is_ipv4() {
            IpAddr::V4(VRRP_V4)
        } else {
            IpAddr::V6(VRRP_V6)
        };
        let socket = node
            .netns()
            .run(open)?
            .with_context(|| format!("sending VRRP from {source}"))?;
        Ok(Self {
            socket,
            group: SocketAddr::new(group, 0),
        })
    }

    /// To the group.
    pub fn send(&self, packet: &[u8]) -> Result<()> {
        self.socket
            .send_to(packet, &self.group.into())
            .context("sending VRRP")?;
        Ok(())
    }

    /// To one router.
    pub fn send_to(&self, packet: &[u8], to: IpAddr) -> Result<()> {
        self.socket
            .send_to(packet, &SocketAddr::new(to, 0).into())
            .context("sending VRRP")?;
        Ok(())
    }
}
