//! IPv6 (RFC 8200) and its extension headers.
#![expect(unsafe_code, reason = "see Header")]
use super::{Frame, Header};
use crate::maps::plain;
use crate::traits::Traits;
use lb_common::abi::{Reason, Side};

#[repr(C, packed)]
pub(crate) struct Ipv6 {
    /// Version, traffic class, flow label.
    pub(crate) version_class_label: u32,
    pub(crate) payload_length: u16,
    pub(crate) next: u8,
    pub(crate) hop_limit: u8,
    pub(crate) src: [u64; 2],
    pub(crate) dst: [u64; 2],
}

// SAFETY: bytes and packed integers.
unsafe impl Header for Ipv6 {}

impl Ipv6 {
    /// The version is right.
    #[inline(always)]
    pub(crate) fn begins_well(&self) -> bool {
        self.version_class_label.to_ne_bytes()[0] >> 4 == 6
    }

    /// Bytes of the packet.
    #[inline(always)]
    pub(crate) fn total(&self) -> usize {
        size_of::<Self>() + usize::from(u16::from_be(self.payload_length))
    }

    #[inline(always)]
    pub(crate) fn traffic_class(&self) -> u8 {
        (u32::from_be(self.version_class_label) >> 20) as u8
    }

    /// Version 6, this traffic class, no label.
    #[inline(always)]
    pub(crate) fn first_word(traffic_class: u8) -> u32 {
        (6 << 28 | u32::from(traffic_class) << 20).to_be()
    }

    /// From a source that cannot be: multicast, `::` or `::1`.
    #[inline(always)]
    pub(crate) fn has_martian_source(&self) -> bool {
        let [hi, lo] = self.src;
        hi.to_ne_bytes()[0] == 0xff || (hi == 0 && u64::from_be(lo) <= 1)
    }
}

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const ESP: u8 = 50;
const AUTHENTICATION: u8 = 51;
const NONE: u8 = 59;
const DESTINATION: u8 = 60;
/// Mobility, HIP, Shim6, and the two for experiments.
const RARE: [u8; 5] = [135, 139, 140, 253, 254];

/// So many are looked through.
const EXTENSIONS: usize = 6;

/// Farther than two chains of that length, of the longest headers, reach.
const REACH: u32 = 1 << 15;

/// The first 8 bytes of any that is looked through, with the fields of a Fragment header.
#[repr(C, packed)]
struct Extension {
    next: u8,
    /// Of a Fragment header: reserved.
    length: u8,
    offset_more: u16,
    id: u32,
}

const FRAGMENT_OFFSET: u16 = 0xfff8_u16.to_be();
const MORE_FRAGMENTS: u16 = 0x0001_u16.to_be();

// SAFETY: bytes and packed integers.
unsafe impl Header for Extension {}

/// What comes after the extension headers.
#[derive(Clone, Copy)]
pub(crate) struct Upper {
    pub(crate) proto: u8,
    pub(crate) at: usize,
    /// [`Traits::FIRST`] or [`Traits::LATER`] where it is a part of a packet.
    pub(crate) part: Traits,
    /// Of a part: its packet's.
    pub(crate) id: u32,
    /// Of a part: what its Fragment header names. The same in all parts, which the last extension header's is not.
    pub(crate) fragment_proto: u8,
}

/// Whether this next header is an extension header that is looked through.
#[inline(always)]
pub(crate) fn is_looked_through(next: u8) -> bool {
    matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION
    )
}

/// Whether it is one at all (IANA's list, and "no next header"); others are upper layers.
#[inline(always)]
pub(crate) fn is_extension(next: u8) -> bool {
    is_looked_through(next) || next == ESP || next == NONE || RARE.contains(&next)
}

/// Looks through the extension headers at `at`, of a packet that ends at `end`. A later fragment's contents are not
/// looked at.
#[inline(always)]
pub(crate) fn walk(
    side: &'static Side,
    frame: Frame<'_>,
    at: usize,
    next: u8,
    end: usize,
) -> Result<Upper, Reason> {
    let mut upper = Upper {
        proto: next,
        at,
        part: Traits::NONE,
        id: 0,
        fragment_proto: 0,
    };
    for _ in 0..EXTENSIONS {
        let kind = upper.proto;
        if !is_looked_through(kind) {
            break;
        }
        let header: &Extension = frame.at(upper.at).ok_or(Reason::BadIp)?;
        let length = match kind {
            FRAGMENT => size_of::<Extension>(),
            AUTHENTICATION => (usize::from(header.length) + 2) * 4,
            _ => (usize::from(header.length) + 1) * 8,
        };
        upper.at = plain::<REACH>(side, (upper.at + length) as u32) as usize;
        upper.proto = header.next;
        if kind == FRAGMENT && header.offset_more & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0 {
            upper.id = header.id;
            upper.fragment_proto = header.next;
            upper.part = Traits::FIRST;
            if header.offset_more & FRAGMENT_OFFSET != 0 {
                upper.part = Traits::LATER;
                break;
            }
        }
    }
    if upper.at > end {
        return Err(Reason::BadIp);
    }
    Ok(upper)
}
