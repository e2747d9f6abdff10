//! Neighbour Advertisements (RFC 4861 §4.4): the unsolicited one that announces a VIP, and those that we hear.
use super::ethernet;
use super::ipv6::Header;
use super::{HeaderError, checksum::Sum, take};
use crate::model::MacAddr;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv6Addr};

/// ICMPv6's number as a next header.
pub const ICMPV6: u8 = 58;
/// All nodes on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const NEIGHBOUR_ADVERT: u8 = 136;
const TARGET_LINK_LAYER: u8 = 2;
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// What a Neighbour Advertisement says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourAdvert {
    /// R: the sender forwards.
    pub router: bool,
    /// S: it answers a solicitation.
    pub solicited: bool,
    /// O: caches shall replace what they have.
    pub overrides: bool,
    /// The address that the sender says it has.
    pub target: Ipv6Addr,
    /// Target Link-Layer Address option.
    pub mac: Option<MacAddr>,
}

impl NeighbourAdvert {
    /// Reads an ICMPv6 message that came from `source` to `destination` with `hop_limit` (RFC 4861 §7.1.2).
    ///
    /// # Errors
    /// It is cut off, its checksum does not fit, or it is no valid Neighbour Advertisement.
    pub fn parse(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        hop_limit: u8,
        icmp: &[u8],
    ) -> Result<Self, HeaderError> {
        let ([kind, code, _, _], rest) = take::<4>(icmp)?;
        let ([flags, _, _, _], rest) = take::<4>(rest)?;
        let (target, mut options) = take::<16>(rest)?;
        if kind != NEIGHBOUR_ADVERT || code != 0 || hop_limit != 255 {
            return Err(HeaderError::Protocol("a neighbour advertisement from this link"));
        }
        if sum(source, destination, icmp) != 0 {
            return Err(HeaderError::Checksum);
        }
        let mut mac = None;
        while let [option, words, ..] = *options {
            let len = usize::from(words) * 8;
            let (body, rest) = options.split_at_checked(len).ok_or(HeaderError::Length(len))?;
            // A length of 0 would be read for ever (RFC 4861 §4.6: discard).
            let Some(body) = body.get(2..) else {
                return Err(HeaderError::Length(len));
            };
            if option == TARGET_LINK_LAYER
                && let Ok(address) = body.try_into()
            {
                mac = Some(MacAddr(address));
            }
            options = rest;
        }
        let target = Ipv6Addr::from(target);
        if target.is_multicast() {
            return Err(HeaderError::Protocol("a neighbour advertisement for one host"));
        }
        Ok(Self {
            router: flags & ROUTER != 0,
            solicited: flags & SOLICITED != 0,
            overrides: flags & OVERRIDE != 0,
            target,
            mac,
        })
    }

    /// The ICMPv6 message, checksum included.
    pub fn encode(&self, source: Ipv6Addr, destination: Ipv6Addr, out: &mut Vec<u8>) {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let flags =
            flag(self.router, ROUTER) | flag(self.solicited, SOLICITED) | flag(self.overrides, OVERRIDE);
        let mut body = Vec::with_capacity(32);
        body.extend_from_slice(&[NEIGHBOUR_ADVERT, 0, 0, 0, flags, 0, 0, 0]);
        body.extend_from_slice(&self.target.octets());
        if let Some(mac) = self.mac {
            body.extend_from_slice(&[TARGET_LINK_LAYER, 1]);
            body.extend_from_slice(&mac.0);
        }
        let sum = sum(source, destination, &body).to_be_bytes();
        if let Some(field) = body.get_mut(2..4) {
            field.copy_from_slice(&sum);
        }
        out.extend_from_slice(&body);
    }
}

fn sum(source: Ipv6Addr, destination: Ipv6Addr, icmp: &[u8]) -> u16 {
    Sum::pseudo(IpAddr::V6(source), IpAddr::V6(destination), ICMPV6, icmp.len())
        .unwrap_or_default()
        .bytes(icmp)
        .finish()
}

/// A whole frame that tells the link that `mac` has `vip`, sent from the VIP itself as keepalived does. RFC 9568
/// §6.4.1 wants `router` set; keepalived leaves it clear on a host that does not forward, since clients drop their
/// default route when a router's R bit goes away.
pub fn unsolicited(mac: MacAddr, vip: Ipv6Addr, router: bool) -> Vec<u8> {
    let advert = NeighbourAdvert {
        router,
        solicited: false,
        overrides: true,
        target: vip,
        mac: Some(mac),
    };
    let header = Header {
        traffic_class: 0,
        flow_label: 0,
        next_header: ICMPV6,
        hop_limit: 255,
        source: vip,
        destination: ALL_NODES,
    };
    let mut icmp = Vec::with_capacity(32);
    advert.encode(vip, ALL_NODES, &mut icmp);
    let mut out = Vec::with_capacity(14 + 40 + 32);
    ethernet::Header::new(mac, MacAddr::for_ipv6_multicast(ALL_NODES), ethernet::IPV6).encode(&mut out);
    // 32 bytes always fit into a payload length.
    let _ = header.encode(icmp.len(), &mut out);
    out.extend_from_slice(&icmp);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x37]);
    const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x54);

    #[test]
    fn the_announcement_is_what_the_fact_base_says_of_keepalived() {
        let frame = unsolicited(MAC, VIP, false);
        let (eth, packet) = ethernet::Header::parse(&frame).unwrap();
        assert_eq!(eth.destination.0, [0x33, 0x33, 0, 0, 0, 1]);
        let (ip, icmp) = Header::parse(packet).unwrap();
        assert_eq!(
            (ip.source, ip.destination, ip.hop_limit, ip.next_header),
            (VIP, ALL_NODES, 255, 58)
        );
        assert_eq!(icmp[..2], [136, 0]);
        assert_eq!(icmp[4], 0x20, "O only");
        assert_eq!(icmp[24..], [2, 1, 2, 0, 0, 0, 0, 0x37]);
        let na = NeighbourAdvert::parse(ip.source, ip.destination, 255, icmp).unwrap();
        assert_eq!((na.target, na.mac, na.overrides), (VIP, Some(MAC), true));
        assert_eq!(unsolicited(MAC, VIP, true)[14 + 40 + 4], 0xa0, "R and O");
    }

    #[test]
    fn a_neighbour_advertisement_from_off_the_link_is_refused() {
        let mut icmp = Vec::new();
        let na = NeighbourAdvert {
            router: false,
            solicited: true,
            overrides: false,
            target: VIP,
            mac: None,
        };
        na.encode(VIP, ALL_NODES, &mut icmp);
        assert_eq!(NeighbourAdvert::parse(VIP, ALL_NODES, 255, &icmp), Ok(na));
        assert!(NeighbourAdvert::parse(VIP, ALL_NODES, 254, &icmp).is_err());
        icmp[5] ^= 1;
        assert_eq!(
            NeighbourAdvert::parse(VIP, ALL_NODES, 255, &icmp),
            Err(HeaderError::Checksum)
        );
    }

    proptest! {
        #[test]
        fn no_option_list_hangs_or_panics(options in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut icmp = std::vec![136, 0, 0, 0, 0, 0, 0, 0];
            icmp.extend_from_slice(&VIP.octets());
            icmp.extend_from_slice(&options);
            let c = sum(VIP, ALL_NODES, &icmp).to_be_bytes();
            icmp[2..4].copy_from_slice(&c);
            let _ = NeighbourAdvert::parse(VIP, ALL_NODES, 255, &icmp);
        }
    }
}
