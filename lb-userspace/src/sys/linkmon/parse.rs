//! From netlink's bytes to values: headers and the few attributes that are used.
use lb_common::model::IpPrefix;
use netlink_packet_core::{NlaBuffer, NlasIterator};
use netlink_packet_route::address::{AddressFlags, AddressHeader};
use std::net::IpAddr;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;

pub(super) fn parse_address(body: &[u8]) -> Option<(u32, IpPrefix, AddressFlags)> {
    let header = AddressHeader::parse(body).ok()?;
    let (mut local, mut addr) = (None, None);
    let mut flags = AddressFlags::from_bits_retain(u32::from(header.flags.bits()));
    for nla in attributes(body, 8) {
        match nla.kind() {
            IFA_LOCAL => local = ip(nla.value()),
            IFA_ADDRESS => addr = ip(nla.value()),
            IFA_FLAGS => flags = AddressFlags::from_bits_retain(word(nla.value())?),
            _ => {}
        }
    }
    // On a point-to-point link IFA_ADDRESS is the peer's.
    let prefix = IpPrefix::new(local.or(addr)?, header.prefix_len)?;
    Some((header.index, prefix, flags))
}

pub(super) fn attributes(body: &[u8], header: usize) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(body.get(header..).unwrap_or_default()).map_while(Result::ok)
}

pub(super) fn word(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

pub(super) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(b"\0").unwrap_or(bytes)).into_owned()
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// `struct nlmsghdr`.
pub(super) struct Header {
    pub(super) len: usize,
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) seq: u32,
}

impl Header {
    pub(super) const LEN: usize = 16;

    pub(super) fn parse(b: &[u8]) -> Option<Self> {
        let h: &[u8; Self::LEN] = b.first_chunk()?;
        let len = u32::from_ne_bytes([h[0], h[1], h[2], h[3]]) as usize;
        (len >= Self::LEN).then_some(Self {
            len,
            kind: u16::from_ne_bytes([h[4], h[5]]),
            flags: u16::from_ne_bytes([h[6], h[7]]),
            seq: u32::from_ne_bytes([h[8], h[9], h[10], h[11]]),
        })
    }
}
