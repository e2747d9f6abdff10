//! Packet sockets: gratuitous ARP and unsolicited NA out, other nodes' ARP and NA in.
//!
//! One socket for each interface and protocol. It asks for exactly ARP or exactly IPv6, not for everything, so that the
//! interface's other traffic does not pass through it; a filter then leaves only what names one of our addresses.
//! Frames that this host sends are not seen by such a socket.
#![expect(unsafe_code, reason = "sockaddr_ll has no safe constructor")]

use lb_common::model::Family;
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{Domain, Protocol, SockAddr, SockFilter, Socket, Type};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;

/// Past so many addresses the filter lets every ARP or NA through; they are compared again above.
const MAX_FILTERED: usize = 1000;

/// The packet socket could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open a packet socket on {interface}")]
pub struct OpenError {
    interface: String,
    #[source]
    cause: io::Error,
}

/// One packet socket, bound to an interface.
#[derive(Debug)]
pub struct PacketSocket {
    socket: Socket,
    family: Family,
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl PacketSocket {
    /// ARP for IPv4, neighbour advertisements for IPv6. Takes nothing until [`Self::watch`] says what.
    pub fn open(interface: u32, name: &str, family: Family) -> Result<Self, OpenError> {
        let fail = |cause| OpenError {
            interface: name.to_owned(),
            cause,
        };
        // Protocol 0 receives nothing: the filter is there before the first packet can be.
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new_raw(Domain::PACKET, kind, Some(Protocol::from(0))).map_err(fail)?;
        let this = Self { socket, family };
        this.watch(&[]).map_err(fail)?;
        let ethertype = match family {
            Family::Ipv4 => ETH_P_ARP,
            Family::Ipv6 => ETH_P_IPV6,
        };
        this.socket
            .bind(&link_address(interface, ethertype))
            .map_err(fail)?;
        Ok(this)
    }

    /// Lets through only what claims one of these addresses: an ARP whose sender it is, an NA whose target it is.
    pub fn watch(&self, addresses: &[IpAddr]) -> io::Result<()> {
        let filter = match self.family {
            Family::Ipv4 => arp_filter(addresses),
            Family::Ipv6 => na_filter(addresses),
        };
        self.socket.attach_filter(&filter)
    }

    /// Sends one whole frame, without waiting.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT)?;
        Ok(())
    }

    /// The next frame, without waiting. `None`: nothing is queued.
    pub fn receive<'b>(&self, buffer: &'b mut [u8]) -> io::Result<Option<&'b [u8]>> {
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(n) => Ok(buffer.get(..n)),
            Err(nix::errno::Errno::EAGAIN) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }
}

pub(crate) fn link_address(interface: u32, ethertype: u16) -> SockAddr {
    // SAFETY: `storage` is larger than `sockaddr_ll` and aligned for any address; every field that the kernel reads is
    // written, the rest stays zero as `SockAddrStorage` was made; the length is that of `sockaddr_ll`.
    unsafe {
        let mut storage = socket2::SockAddrStorage::zeroed();
        let ll = storage.view_as::<libc::sockaddr_ll>();
        ll.sll_family = libc::AF_PACKET as u16;
        ll.sll_protocol = ethertype.to_be();
        ll.sll_ifindex = i32::try_from(interface).unwrap_or(0);
        SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    }
}

const LD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const LD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const JEQ: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RET: u16 = 0x06; // BPF_RET | BPF_K
/// `SKF_AD_OFF + SKF_AD_PKTTYPE`.
const PACKET_TYPE: u32 = 0xffff_f004;
/// `PACKET_OTHERHOST`: to another MAC, or of a VLAN that is not this interface's.
const OTHER_HOST: u32 = 3;

const fn op(code: u16, k: u32) -> SockFilter {
    SockFilter::new(code, 0, 0, k)
}

/// `if A == k { return the packet }`.
fn accept_if(f: &mut Vec<SockFilter>, k: u32) {
    f.push(SockFilter::new(JEQ, 0, 1, k));
    f.push(op(RET, u32::MAX));
}

/// `if A != k { drop }`.
fn require(f: &mut Vec<SockFilter>, k: u32) {
    f.push(SockFilter::new(JEQ, 1, 0, k));
    f.push(op(RET, 0));
}

fn for_us() -> Vec<SockFilter> {
    vec![
        op(LD_BYTE, PACKET_TYPE),
        SockFilter::new(JEQ, 0, 1, OTHER_HOST),
        op(RET, 0),
    ]
}

/// Offset 28: sender protocol address (RFC 826) after Ethernet's 14 bytes.
fn arp_filter(addresses: &[IpAddr]) -> Vec<SockFilter> {
    let keys = addresses.iter().filter_map(|a| match a {
        IpAddr::V4(a) => Some(u32::from(*a)),
        IpAddr::V6(_) => None,
    });
    let mut f = for_us();
    finish(&mut f, 28, keys);
    f
}

/// Next header 58 directly after the IPv6 header, type 136; the target's last word is at 14 + 40 + 8 + 12.
fn na_filter(addresses: &[IpAddr]) -> Vec<SockFilter> {
    let keys = addresses.iter().filter_map(|a| match a {
        IpAddr::V6(a) => a.octets().last_chunk().map(|w| u32::from_be_bytes(*w)),
        IpAddr::V4(_) => None,
    });
    let mut f = for_us();
    f.push(op(LD_HALF, 12));
    require(&mut f, u32::from(ETH_P_IPV6));
    f.push(op(LD_BYTE, 20));
    require(&mut f, 58);
    f.push(op(LD_BYTE, 54));
    require(&mut f, 136);
    finish(&mut f, 74, keys);
    f
}

fn finish(f: &mut Vec<SockFilter>, offset: u32, keys: impl Iterator<Item = u32>) {
    let mut n = 0;
    let body_from = f.len();
    f.push(op(LD_WORD, offset));
    for key in keys {
        accept_if(f, key);
        n += 1;
    }
    if n > MAX_FILTERED {
        f.truncate(body_from);
        f.push(op(RET, u32::MAX));
    } else {
        f.push(op(RET, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn too_many_addresses_are_not_compared_in_the_kernel() {
        let many: Vec<IpAddr> = (0..2000u32).map(|n| Ipv4Addr::from(n).into()).collect();
        assert_eq!(arp_filter(&many).len(), 4);
        assert_eq!(arp_filter(&many[..2]).len(), 3 + 1 + 4 + 1);
        assert_eq!(arp_filter(&[]).len(), 3 + 1 + 1);
    }
}
