//! The guard's table: its sets, its two chains and the rules in them.
//!
//! ```text
//! LOCAL_IN   97  hide:    to a VIP, and from a peer, out of a tunnel, or not ours to direct: destination -> its cover
//!            98  ip_vs_out, 99 ip_vs_in: know no service of that address, let it pass
//!           100  restore: to a cover: destination -> the VIP
//! LOCAL_OUT -99  keep:    to a VIP, where that is wanted: destination -> its cover
//!           -98  ip_vs_in
//!           -97  return:  to a cover: destination -> the VIP; by the loopback device it comes to `hide` once more
//! ```
//! A cover is an address that no packet can arrive with, so that the two chains need no mark between them: the
//! destination 0.0.0.0/8 is martian (`ip_route_input_slow`), a multicast group of scope 0 is dropped (`ip6_rcv_core`).
//! No checksum is touched, the bytes are as before when the transport looks at them.
use super::expr::{Base, Expressions, Field, Meta, Register};
use super::nft::{Hook, Keys, Nft, SetKind};
use crate::sys::rtnl::channel::Request;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Changes with everything below that a table of an older version would lack.
const FORMAT: u32 = 1;
const HIDE: Chain = Chain::new("hide", Hook::LocalIn, 97);
const RESTORE: Chain = Chain::new("restore", Hook::LocalIn, 100);
const KEEP: Chain = Chain::new("keep", Hook::LocalOut, -99);
const RETURN: Chain = Chain::new("return", Hook::LocalOut, -97);
pub(super) const CHAINS: [Chain; 4] = [HIDE, RESTORE, KEEP, RETURN];
pub(super) const PEERS: &str = "peers";
pub(super) const TUNNELS: &str = "tunnels";
/// `ARPHRD_ETHER`.
const ETHER: u16 = 1;
/// `ARPHRD_LOOPBACK`.
const LOOPBACK: u16 = 772;
/// `ARPHRD_TUNNEL`, `TUNNEL6`, `SIT`, `IPGRE`, `IP6GRE`: what a packet comes out of that a director has wrapped.
pub(super) const TUNNEL_TYPES: [u16; 5] = [768, 769, 776, 778, 823];
const SOURCE_MAC: Field = Field {
    base: Base::Link,
    offset: 6,
    length: 6,
};

/// A chain and where it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Hook,
    pub(super) priority: i32,
}

impl Chain {
    const fn new(name: &'static str, hook: Hook, priority: i32) -> Self {
        Self { name, hook, priority }
    }
}

/// What differs between the families.
pub(super) struct Version {
    number: u8,
    destination: Field,
    keys: Keys,
    pub(super) covers: &'static str,
    pub(super) covered: &'static str,
    /// As `covers`, for what this node sends itself.
    pub(super) own: &'static str,
    pub(super) directing: &'static str,
}

pub(super) const VERSIONS: [Version; 2] = [
    Version {
        number: libc::AF_INET as u8,
        destination: Field {
            base: Base::Network,
            offset: 16,
            length: 4,
        },
        keys: Keys { kind: 7, length: 4 },
        covers: "covers4",
        covered: "covered4",
        own: "own4",
        directing: "directing4",
    },
    Version {
        number: libc::AF_INET6 as u8,
        destination: Field {
            base: Base::Network,
            offset: 24,
            length: 16,
        },
        keys: Keys { kind: 8, length: 16 },
        covers: "covers6",
        covered: "covered6",
        own: "own6",
        directing: "directing6",
    },
];

impl Version {
    pub(super) fn holds(&self, address: IpAddr) -> bool {
        address.is_ipv4() == (self.number == libc::AF_INET as u8)
    }
}

/// What a rule is for: why a packet is hidden, or that it was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    Peer,
    Tunnel,
    NotDirecting,
    OwnArrived,
    Restored,
    OwnClient,
    Returned,
}

impl Reason {
    const ALL: [Self; 7] = [
        Self::Peer,
        Self::Tunnel,
        Self::NotDirecting,
        Self::OwnArrived,
        Self::Restored,
        Self::OwnClient,
        Self::Returned,
    ];

    fn comment(self) -> String {
        let text = match self {
            Self::Peer => "balanced by a peer already",
            Self::Tunnel => "balanced already, came by a tunnel",
            Self::NotDirecting => "not ours to direct",
            Self::OwnArrived => "served here, by the loopback device",
            Self::Restored => "as it was",
            Self::OwnClient => "served here",
            Self::Returned => "as it was sent",
        };
        format!("cplb {FORMAT}: {text}")
    }

    fn chain(self) -> Chain {
        match self {
            Self::Peer | Self::Tunnel | Self::NotDirecting | Self::OwnArrived => HIDE,
            Self::Restored => RESTORE,
            Self::OwnClient => KEEP,
            Self::Returned => RETURN,
        }
    }

    fn map(self, version: &Version) -> &'static str {
        match self {
            Self::Peer | Self::Tunnel | Self::NotDirecting => version.covers,
            Self::Restored | Self::Returned => version.covered,
            Self::OwnClient | Self::OwnArrived => version.own,
        }
    }

    /// The reason of a rule with that comment; none where it is not a rule of this version's.
    pub(super) fn of(comment: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.comment() == comment)
    }

    /// Every rule of the table, once for each family.
    pub(super) fn expected() -> impl Iterator<Item = Self> {
        VERSIONS.iter().flat_map(|_| Self::ALL)
    }
}

/// The whole table, empty of addresses.
pub(super) fn table(nft: &Nft) -> Vec<Request> {
    // Adding makes sure that there is one to delete: the old one goes and the new one comes in one transaction.
    let mut out = vec![nft.new_table(), nft.delete_table(), nft.new_table()];
    let mac = Keys { kind: 9, length: 6 };
    let hardware = Keys { kind: 21, length: 2 };
    out.push(nft.new_set(PEERS, 1, mac, SetKind::Plain));
    out.push(nft.new_set(TUNNELS, 2, hardware, SetKind::Plain));
    for (version, id) in VERSIONS.iter().zip([3, 7]) {
        out.push(nft.new_set(version.covers, id, version.keys, SetKind::Map));
        out.push(nft.new_set(version.covered, id + 1, version.keys, SetKind::Map));
        out.push(nft.new_set(version.own, id + 2, version.keys, SetKind::Map));
        out.push(nft.new_set(version.directing, id + 3, version.keys, SetKind::Expiring));
    }
    out.extend(CHAINS.iter().map(|chain| nft.new_chain(chain)));
    for version in &VERSIONS {
        for reason in Reason::ALL {
            let rule = rule(version, reason);
            out.push(nft.new_rule(reason.chain().name, &reason.comment(), rule));
        }
    }
    out
}

fn rule(version: &Version, reason: Reason) -> Expressions {
    // The address first: of all that a node receives, little is for a VIP.
    let to_vip = Expressions::default()
        .meta(Meta::Family, Register::Three)
        .equals(Register::Three, &[version.number])
        .load(version.destination, Register::One)
        .mapped(reason.map(version), Register::One, Register::Two);
    let matched = match reason {
        Reason::Peer => to_vip
            .meta(Meta::InputType, Register::Three)
            .equals(Register::Three, &ETHER.to_ne_bytes())
            .load(SOURCE_MAC, Register::Three)
            .within(PEERS, Register::Three),
        Reason::Tunnel => to_vip
            .meta(Meta::InputType, Register::Three)
            .within(TUNNELS, Register::Three),
        Reason::NotDirecting => to_vip.without(version.directing, Register::One),
        Reason::OwnArrived => to_vip
            .meta(Meta::InputType, Register::Three)
            .equals(Register::Three, &LOOPBACK.to_ne_bytes()),
        Reason::Restored | Reason::OwnClient | Reason::Returned => to_vip,
    };
    matched
        .counter()
        .store(Register::Two, version.destination)
        .accept()
}

/// An address for each VIP that stands for it between the two chains. It depends on the VIP alone as far as possible,
/// so that a packet between the chains at the moment of a change is still restored to its own.
pub(super) fn covers(vips: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, IpAddr> {
    let mut out = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for vip in vips {
        let mut salt = 0;
        let mut cover = cover(*vip, salt);
        // Two VIPs that differ in their first bytes only.
        while !taken.insert(cover) {
            salt += 1;
            cover = self::cover(*vip, salt);
        }
        out.insert(*vip, cover);
    }
    out
}

fn cover(vip: IpAddr, salt: u32) -> IpAddr {
    match vip {
        IpAddr::V4(a) => {
            let low = a.to_bits().wrapping_add(salt) & 0x00ff_ffff;
            // 0.0.0.0 itself is what DHCP sends to.
            IpAddr::V4(Ipv4Addr::from_bits(low.max(1)))
        }
        IpAddr::V6(a) => {
            let low = a.to_bits().wrapping_add(u128::from(salt)) & (u128::MAX >> 16);
            IpAddr::V6(Ipv6Addr::from_bits(low | 0xff00 << 112))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vip_has_a_cover_of_its_own_that_no_packet_arrives_with() {
        let vips: BTreeSet<IpAddr> = [
            "192.0.2.1",
            "10.0.2.1",
            "0.0.0.1",
            "10.0.0.0",
            "2001:db8::1",
            "2002:db8::1",
        ]
        .iter()
        .map(|a| a.parse().unwrap())
        .collect();
        let covers = covers(&vips);
        assert_eq!(covers.len(), vips.len());
        assert_eq!(covers.values().collect::<BTreeSet<_>>().len(), vips.len());
        for cover in covers.values() {
            match cover {
                IpAddr::V4(a) => assert!(a.octets()[0] == 0 && !a.is_unspecified()),
                IpAddr::V6(a) => assert_eq!(a.segments()[0], 0xff00),
            }
        }
    }

    #[test]
    fn a_rule_is_known_by_its_comment() {
        for reason in Reason::ALL {
            assert_eq!(Reason::of(&reason.comment()), Some(reason));
            assert!(reason.comment().len() < 128);
        }
        assert_eq!(Reason::of("cplb 0: as it was"), None);
    }
}
