//! Ethernet II headers, with at most one 802.1Q tag (a packet socket shows the tag where the card did not strip it).
use super::{HeaderError, take};
use crate::model::MacAddr;
use alloc::vec::Vec;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;

/// What stands before the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// To whom.
    pub destination: MacAddr,
    /// From whom.
    pub source: MacAddr,
    /// Priority, DEI and VLAN of an 802.1Q tag.
    pub tag: Option<u16>,
    /// What the payload is.
    pub ethertype: u16,
}

impl Header {
    /// An untagged frame's header.
    pub const fn new(source: MacAddr, destination: MacAddr, ethertype: u16) -> Self {
        Self {
            destination,
            source,
            tag: None,
            ethertype,
        }
    }

    /// The header and what follows it. The payload may end in padding: the card fills a frame up to 60 bytes, so the
    /// caller trims it to the length that the IP header states.
    ///
    /// # Errors
    /// The frame is cut off.
    pub fn parse(frame: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let (destination, rest) = take::<6>(frame)?;
        let (source, rest) = take::<6>(rest)?;
        let (ethertype, rest) = take::<2>(rest)?;
        let mut header = Self::new(
            MacAddr(source),
            MacAddr(destination),
            u16::from_be_bytes(ethertype),
        );
        if header.ethertype != VLAN {
            return Ok((header, rest));
        }
        let (tag, rest) = take::<2>(rest)?;
        let (ethertype, rest) = take::<2>(rest)?;
        header.tag = Some(u16::from_be_bytes(tag));
        header.ethertype = u16::from_be_bytes(ethertype);
        Ok((header, rest))
    }

    /// Appends the header.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.destination.0);
        out.extend_from_slice(&self.source.0);
        if let Some(tag) = self.tag {
            out.extend_from_slice(&VLAN.to_be_bytes());
            out.extend_from_slice(&tag.to_be_bytes());
        }
        out.extend_from_slice(&self.ethertype.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tagged_frame_shows_its_tag_and_the_type_behind_it() {
        let frame = [
            &[0xff; 6][..],
            &[2, 0, 0, 0, 0, 1],
            &[0x81, 0, 0x20, 0x64, 0x08, 0],
            b"payload",
        ]
        .concat();
        let (h, payload) = Header::parse(&frame).unwrap();
        assert_eq!(
            (h.destination, h.tag, h.ethertype),
            (MacAddr::BROADCAST, Some(0x2064), IPV4)
        );
        assert_eq!(payload, b"payload");
    }

    proptest! {
        #[test]
        fn what_was_parsed_is_written_back_as_it_was(mut frame in prop::collection::vec(any::<u8>(), 0..40), tagged: bool) {
            if tagged && let Some(t) = frame.get_mut(12..14) {
                t.copy_from_slice(&[0x81, 0]);
            }
            if let Ok((h, payload)) = Header::parse(&frame) {
                let mut out = Vec::new();
                h.encode(&mut out);
                out.extend_from_slice(payload);
                prop_assert_eq!(out, frame);
            }
        }
    }
}
