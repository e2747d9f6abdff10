//! Ethernet, with up to two VLAN tags.
use super::{Frame, Header};

pub(crate) const IPV4: u16 = 0x0800_u16.to_be();
pub(crate) const IPV6: u16 = 0x86dd_u16.to_be();
const VLAN: u16 = 0x8100_u16.to_be();
const SERVICE_VLAN: u16 = 0x88a8_u16.to_be();
const VLAN_ID: u16 = 0x0fff;

#[repr(C, packed)]
pub(crate) struct Ethernet {
    pub(crate) dst: [u8; 6],
    pub(crate) src: [u8; 6],
    pub(crate) ethertype: u16,
}

#[repr(C, packed)]
struct Tag {
    tci: u16,
    ethertype: u16,
}

// SAFETY: bytes and packed integers.
#[expect(unsafe_code, reason = "see Header")]
unsafe impl Header for Ethernet {}
// SAFETY: as above.
#[expect(unsafe_code, reason = "see Header")]
unsafe impl Header for Tag {}

/// What is known when the network layer begins.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// Where it begins.
    pub(crate) l3: usize,
    /// As in the frame.
    pub(crate) ethertype: u16,
    /// As in `abi::Vip::vlan`.
    pub(crate) vlan: u32,
}

/// Looks through the tags. `None`: it ends within them, or there are more than two.
#[inline(always)]
pub(crate) fn parse(frame: Frame) -> Option<Link> {
    let ethernet: &Ethernet = frame.at(0)?;
    let mut link = Link {
        l3: size_of::<Ethernet>(),
        ethertype: ethernet.ethertype,
        vlan: 0,
    };
    if link.ethertype == IPV4 || link.ethertype == IPV6 {
        return Some(link);
    }
    for _ in 0..2 {
        if link.ethertype != VLAN && link.ethertype != SERVICE_VLAN {
            break;
        }
        let tag: &Tag = frame.at(link.l3)?;
        link.vlan = link.vlan << 16 | u32::from(u16::from_be(tag.tci) & VLAN_ID);
        link.ethertype = tag.ethertype;
        link.l3 += size_of::<Tag>();
    }
    Some(link)
}
