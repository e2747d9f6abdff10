//! The frames of the bench. One is built once; the drivers vary its source (`lb_common::abi::bench::Drive`).
use lb_common::abi::bench::{Drive, HEAD};
use lb_common::wire::checksum::Sum;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The virtual IP.
pub(crate) const VIP4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);
/// The virtual IP for IPv6.
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100);
/// An address of the node's own.
pub(crate) const NODE4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// The same for IPv6.
pub(crate) const NODE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
/// A client, of the network for benchmarks (RFC 2544); flows after the first 65,536 change its last two bytes.
const CLIENT4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// The same for IPv6 (RFC 5180).
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0);
/// Where frames are sent to.
pub(crate) const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xd0];
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc0];
/// Of the first flow.
const CLIENT_PORT: u16 = 40000;
/// A router on the way that needs smaller packets.
const ROUTER4: Ipv4Addr = Ipv4Addr::new(198, 19, 0, 1);

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
/// The shortest frame but for its checksum is 60 bytes long; the drivers want a few more.
const SHORTEST: usize = 64;

/// TCP flags.
pub(crate) const SYN: u8 = 0x02;
/// TCP flags of an established connection's packets.
pub(crate) const ACK: u8 = 0x10;

/// A frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    /// A TCP segment without data to this address and port.
    pub(crate) fn tcp(to: impl Into<IpAddr>, port: u16, flags: u8) -> Self {
        Self::ip(to.into(), TCP, &tcp(CLIENT_PORT, port, flags))
    }

    /// A UDP datagram with four bytes.
    pub(crate) fn udp(to: impl Into<IpAddr>, port: u16) -> Self {
        let mut datagram = [0; 12];
        datagram[..2].copy_from_slice(&CLIENT_PORT.to_be_bytes());
        datagram[2..4].copy_from_slice(&port.to_be_bytes());
        datagram[4..6].copy_from_slice(&12_u16.to_be_bytes());
        Self::ip(to.into(), UDP, &datagram)
    }

    /// A router's word that what the virtual IP's `port` sent to the client was too long: ICMP type 3, code 4.
    pub(crate) fn needs_fragmentation(port: u16) -> Self {
        let mut message = vec![3, 4, 0, 0, 0, 0, 0x05, 0x14];
        message.extend(ipv4(VIP4, CLIENT4, TCP, 1480));
        // All of the header, as RFC 1812 wants it of routers; RFC 792's 8 bytes are too few for Katran.
        message.extend(&tcp(port, CLIENT_PORT, ACK));
        let sum = Sum::new().bytes(&message).finish();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut packet = ipv4(ROUTER4, VIP4, ICMP, message.len());
        packet.extend(message);
        Self::ethernet(0x0800, &packet)
    }

    fn ip(to: IpAddr, protocol: u8, payload: &[u8]) -> Self {
        match to {
            IpAddr::V4(to) => {
                let mut packet = ipv4(CLIENT4, to, protocol, payload.len());
                packet.extend(payload);
                Self::ethernet(0x0800, &packet)
            }
            IpAddr::V6(to) => {
                let mut packet = vec![0x60, 0, 0, 0];
                packet.extend(length(payload.len()));
                packet.extend([protocol, 64]);
                packet.extend(CLIENT6.octets());
                packet.extend(to.octets());
                packet.extend(payload);
                Self::ethernet(0x86dd, &packet)
            }
        }
    }

    fn ethernet(kind: u16, packet: &[u8]) -> Self {
        let mut frame = [NODE_MAC, CLIENT_MAC].concat();
        frame.extend(kind.to_be_bytes());
        frame.extend(packet);
        frame.resize(frame.len().max(SHORTEST), 0);
        Self(frame)
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is one of IPv6.
    pub(crate) fn is_v6(&self) -> bool {
        self.0[12..14] == [0x86, 0xdd]
    }

    /// What a driver needs to vary it. `flows`: as in [`Drive`].
    pub(crate) fn drive(&self, flows: u32, first: u32, ifindex: u32) -> Drive {
        let mut head = [0; HEAD / 8];
        for (word, bytes) in head.iter_mut().zip(self.0.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        Drive {
            head,
            length: u32::try_from(self.0.len()).unwrap_or(u32::MAX),
            flows,
            count: first,
            ifindex,
        }
    }

    /// The same frame to another MAC address.
    pub(crate) fn sent_to(mut self, mac: [u8; 6]) -> Self {
        self.0[..6].copy_from_slice(&mac);
        self
    }
}

fn tcp(from: u16, to: u16, flags: u8) -> [u8; 20] {
    let mut segment = [0; 20];
    segment[..2].copy_from_slice(&from.to_be_bytes());
    segment[2..4].copy_from_slice(&to.to_be_bytes());
    segment[12] = 5 << 4;
    segment[13] = flags;
    segment
}

/// A header without options, don't fragment.
fn ipv4(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(length(payload + 20));
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum = Sum::new().bytes(&header).finish();
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_where_the_drivers_change_them() {
        let frame = Frame::tcp(VIP4, 6443, ACK);
        assert_eq!(frame.0.len(), 64);
        assert_eq!(frame.0[26..30], CLIENT4.octets());
        assert_eq!(frame.0[30..34], VIP4.octets());
        assert_eq!(frame.0[34..38], [0x9c, 0x40, 0x19, 0x2b]);
        assert_eq!(Sum::new().bytes(&frame.0[14..34]).finish(), 0);
        let frame = Frame::tcp(VIP6, 6443, ACK);
        assert!(frame.is_v6());
        assert_eq!(frame.0[22..38], CLIENT6.octets());
        assert_eq!(frame.0[54..58], [0x9c, 0x40, 0x19, 0x2b]);
    }

    #[test]
    fn an_icmp_error_names_the_flow_from_the_other_end() {
        let frame = Frame::needs_fragmentation(6443);
        assert_eq!(frame.0[42 + 12..42 + 16], VIP4.octets());
        assert_eq!(frame.0[42 + 20..42 + 24], [0x19, 0x2b, 0x9c, 0x40]);
        let end = 34 + 8 + 20 + 20;
        assert_eq!(frame.0.len(), end);
        assert_eq!(Sum::new().bytes(&frame.0[34..end]).finish(), 0);
    }
}
