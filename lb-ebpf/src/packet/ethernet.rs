//! Ethernet, with up to two VLAN tags (IEEE 802.1Q).
#![expect(unsafe_code, reason = "see Header")]
use super::{Frame, Header};
use crate::maps;
use lb_common::abi::Side;

pub(crate) const IPV4: u16 = 0x0800_u16.to_be();
pub(crate) const IPV6: u16 = 0x86dd_u16.to_be();
const VLAN: u16 = 0x8100_u16.to_be();
const SERVICE_VLAN: u16 = 0x88a8_u16.to_be();
const VLAN_ID: u16 = 0x0fff;

/// Destination and source, in this order, as two words: what is copied as bytes is copied by a call.
#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(crate) struct Macs {
    pub(crate) first: u64,
    pub(crate) last: u32,
}

impl Macs {
    /// Source and destination.
    #[inline(always)]
    pub(crate) fn reversed(self) -> Self {
        const { assert!(cfg!(target_endian = "little"), "the first byte is the lowest") };
        let Self { first, last } = self;
        Self {
            first: first >> 48 | u64::from(last) << 16 | first << 48,
            last: (first >> 16) as u32,
        }
    }
}

#[repr(C, packed)]
pub(crate) struct Ethernet {
    macs: Macs,
    pub(crate) ethertype: u16,
}

impl Ethernet {
    /// Whether its destination is the one in the first bytes of this word.
    #[inline(always)]
    pub(crate) fn is_to(&self, mac: u64) -> bool {
        const {
            assert!(
                cfg!(target_endian = "little"),
                "the other two bytes are the highest"
            )
        };
        (self.macs.first ^ mac) << 16 == 0
    }

    #[inline(always)]
    pub(crate) fn macs(&self) -> Macs {
        Macs {
            first: self.macs.first,
            last: self.macs.last,
        }
    }

    #[inline(always)]
    pub(crate) fn set_macs(&mut self, Macs { first, last }: Macs) {
        self.macs.first = first;
        self.macs.last = last;
    }
}

#[repr(C, packed)]
#[derive(Clone, Copy)]
pub(crate) struct Tag {
    tci: u16,
    ethertype: u16,
}

// SAFETY: bytes and packed integers.
unsafe impl Header for Ethernet {}
// SAFETY: as above.
unsafe impl Header for Tag {}

/// What is known when the network layer begins.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    /// Where it begins: after 0, 1 or 2 tags.
    pub(crate) l3: usize,
    /// As in the frame.
    pub(crate) ethertype: u16,
    /// As in `abi::Vip::vlan`.
    pub(crate) vlan: u32,
}

impl Link {
    /// Without tags.
    #[inline(always)]
    pub(crate) fn untagged(ethertype: u16) -> Self {
        Self {
            l3: size_of::<Ethernet>(),
            ethertype,
            vlan: 0,
        }
    }

    /// See [`maps::plain`].
    #[inline(always)]
    pub(crate) fn plain(self, side: &'static Side) -> Self {
        Self {
            l3: maps::plain::<32>(side, self.l3 as u32) as usize,
            ..self
        }
    }
}

/// The type that the header itself names. `None`: it is cut short.
#[inline(always)]
pub(crate) fn first(frame: Frame<'_>) -> Option<u16> {
    Some(frame.at::<Ethernet>(0)?.ethertype)
}

/// Looks through the tags. `None`: the frame ends within them.
#[inline(always)]
pub(crate) fn parse(frame: Frame<'_>) -> Option<Link> {
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

/// After room for `room` bytes was made before the frame, which began with `link`: the same tags at its new beginning,
/// with these addresses and this type.
#[inline(always)]
pub(crate) fn lead(frame: Frame<'_>, link: Link, room: usize, macs: Macs, ethertype: u16) -> Option<()> {
    let ethernet: &mut Ethernet = frame.at_mut(0)?;
    ethernet.set_macs(macs);
    let mut at = size_of::<Ethernet>();
    // A tag here is what stands between two types: its identifier, and the type that follows.
    ethernet.ethertype = ethertype;
    if link.l3 > at {
        let came: &Ethernet = frame.at(room)?;
        ethernet.ethertype = came.ethertype;
        for _ in 0..2 {
            let tag: Tag = *frame.at(room + at)?;
            let last = at + size_of::<Tag>() == link.l3;
            let ethertype = if last { ethertype } else { tag.ethertype };
            *frame.at_mut(at)? = Tag { ethertype, ..tag };
            at += size_of::<Tag>();
            if last {
                break;
            }
        }
    }
    Some(())
}
