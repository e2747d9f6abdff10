//! ARP over Ethernet for IPv4 (RFC 826): what we announce with, what we probe with, what we hear.
use super::ethernet::{self, Header};
use super::{HeaderError, take};
use crate::model::MacAddr;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

/// `ar_op` of a request.
pub const REQUEST: u16 = 1;
/// `ar_op` of a reply.
pub const REPLY: u16 = 2;
/// Ethernet, IPv4, 6-byte and 4-byte addresses: the only ARP there is here.
const PREFIX: [u8; 6] = [0, 1, 0x08, 0, 6, 4];
const FRAME_LEN: usize = 42;

/// One ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// [`REQUEST`] or [`REPLY`].
    pub operation: u16,
    /// The sender's hardware address.
    pub sender_mac: MacAddr,
    /// The address that the sender says it has; 0.0.0.0 in a probe.
    pub sender_ip: Ipv4Addr,
    /// Meant for this card.
    pub target_mac: MacAddr,
    /// The address that is asked for.
    pub target_ip: Ipv4Addr,
}

impl Packet {
    /// The packet at the start of an Ethernet payload. Bytes behind it are the card's padding and are ignored.
    ///
    /// # Errors
    /// It is cut off, or is not ARP for IPv4 over Ethernet.
    pub fn parse(payload: &[u8]) -> Result<Self, HeaderError> {
        let (prefix, rest) = take::<6>(payload)?;
        if prefix != PREFIX {
            return Err(HeaderError::Protocol("ARP for IPv4 over Ethernet"));
        }
        let (operation, rest) = take::<2>(rest)?;
        let (sender_mac, rest) = take::<6>(rest)?;
        let (sender_ip, rest) = take::<4>(rest)?;
        let (target_mac, rest) = take::<6>(rest)?;
        let (target_ip, _) = take::<4>(rest)?;
        Ok(Self {
            operation: u16::from_be_bytes(operation),
            sender_mac: MacAddr(sender_mac),
            sender_ip: sender_ip.into(),
            target_mac: MacAddr(target_mac),
            target_ip: target_ip.into(),
        })
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&PREFIX);
        out.extend_from_slice(&self.operation.to_be_bytes());
        out.extend_from_slice(&self.sender_mac.0);
        out.extend_from_slice(&self.sender_ip.octets());
        out.extend_from_slice(&self.target_mac.0);
        out.extend_from_slice(&self.target_ip.octets());
    }

    /// Whether the sender says of itself that it has the address it asks for.
    pub fn is_gratuitous(&self) -> bool {
        self.sender_ip == self.target_ip && !self.sender_ip.is_unspecified()
    }

    fn broadcast_frame(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(FRAME_LEN);
        Header::new(self.sender_mac, MacAddr::BROADCAST, ethernet::ARP).encode(&mut out);
        self.encode(&mut out);
        out
    }
}

/// A whole frame that tells everybody that `mac` has `vip`: a request with the broadcast address as the target card,
/// as keepalived sends it. (Some hosts learn from requests only, hardly any from replies only.)
pub fn gratuitous(mac: MacAddr, vip: Ipv4Addr) -> Vec<u8> {
    Packet {
        operation: REQUEST,
        sender_mac: mac,
        sender_ip: vip,
        target_mac: MacAddr::BROADCAST,
        target_ip: vip,
    }
    .broadcast_frame()
}

/// A whole frame that asks who has `ip` without saying that we do (RFC 5227 §2.1.1), so that no cache learns from it.
pub fn probe(mac: MacAddr, ip: Ipv4Addr) -> Vec<u8> {
    Packet {
        operation: REQUEST,
        sender_mac: mac,
        sender_ip: Ipv4Addr::UNSPECIFIED,
        target_mac: MacAddr([0; 6]),
        target_ip: ip,
    }
    .broadcast_frame()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x37]);
    const VIP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 100);

    #[test]
    fn the_gratuitous_frame_is_byte_for_byte_keepalived_s() {
        let expected = [
            &[0xff; 6][..],
            &[2, 0, 0, 0, 0, 0x37],
            &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1],
            &[2, 0, 0, 0, 0, 0x37, 10, 9, 0, 100],
            &[0xff; 6],
            &[10, 9, 0, 100],
        ]
        .concat();
        assert_eq!(gratuitous(MAC, VIP), expected);
    }

    #[test]
    fn a_probe_claims_nothing_and_an_announcement_is_recognised() {
        let frame = probe(MAC, VIP);
        let (h, payload) = Header::parse(&frame).unwrap();
        assert_eq!((h.ethertype, h.destination), (ethernet::ARP, MacAddr::BROADCAST));
        let p = Packet::parse(payload).unwrap();
        assert!(p.sender_ip.is_unspecified() && !p.is_gratuitous());
        let frame = gratuitous(MAC, VIP);
        assert!(
            Packet::parse(Header::parse(&frame).unwrap().1)
                .unwrap()
                .is_gratuitous()
        );
    }

    proptest! {
        #[test]
        fn what_was_parsed_is_written_back_as_it_was(mut bytes in prop::collection::vec(any::<u8>(), 0..40), arp: bool) {
            if arp && let Some(p) = bytes.get_mut(..6) {
                p.copy_from_slice(&PREFIX);
            }
            if let Ok(p) = Packet::parse(&bytes) {
                let mut out = Vec::new();
                p.encode(&mut out);
                prop_assert_eq!(&out[..], &bytes[..28]);
            }
        }
    }
}
