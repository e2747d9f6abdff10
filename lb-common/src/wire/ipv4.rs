//! IPv4 headers (RFC 791): read from a raw socket, which hands the header over, and built for a packet socket.
use super::{HeaderError, checksum, take};
use alloc::vec::Vec;
use core::net::Ipv4Addr;

const FIXED: usize = 20;
/// Don't Fragment. keepalived leaves it clear, and so do we.
pub const DONT_FRAGMENT: u16 = 0x4000;

/// A header with its options as they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// DSCP and ECN; 0xc0 (CS6) on our adverts.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Flags and fragment offset.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// What the payload is.
    pub protocol: u8,
    /// From whom.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
    /// Between the fixed part and the payload; a multiple of four bytes, at most forty.
    pub options: &'a [u8],
}

impl<'a> Header<'a> {
    /// The header and the payload, trimmed to the packet's total length: Ethernet pads short frames (T25).
    /// The header's own checksum is not looked at; the kernel did that before a socket saw the packet.
    ///
    /// # Errors
    /// The packet is cut off, not IPv4, or its lengths contradict each other.
    pub fn parse(packet: &'a [u8]) -> Result<(Self, &'a [u8]), HeaderError> {
        let (fixed, _) = take::<FIXED>(packet)?;
        let [
            vihl,
            tos,
            l0,
            l1,
            i0,
            i1,
            f0,
            f1,
            ttl,
            protocol,
            _,
            _,
            addresses @ ..,
        ] = fixed;
        let [s0, s1, s2, s3, d0, d1, d2, d3] = addresses;
        if vihl >> 4 != 4 {
            return Err(HeaderError::Protocol("IPv4"));
        }
        let header_len = usize::from(vihl & 0x0f) * 4;
        let total_len = usize::from(u16::from_be_bytes([l0, l1]));
        let options = packet
            .get(FIXED..header_len)
            .ok_or(HeaderError::Length(header_len))?;
        if total_len < header_len {
            return Err(HeaderError::Length(total_len));
        }
        let payload = packet.get(header_len..total_len).ok_or(HeaderError::Short {
            have: packet.len(),
            need: total_len,
        })?;
        let header = Self {
            tos,
            id: u16::from_be_bytes([i0, i1]),
            fragment: u16::from_be_bytes([f0, f1]),
            ttl,
            protocol,
            source: Ipv4Addr::new(s0, s1, s2, s3),
            destination: Ipv4Addr::new(d0, d1, d2, d3),
            options,
        };
        Ok((header, payload))
    }

    /// Appends the header for a payload of `len` bytes, checksum included.
    ///
    /// # Errors
    /// The options are not whole words of at most forty bytes, or the packet would be longer than 65535 bytes.
    pub fn encode(&self, len: usize, out: &mut Vec<u8>) -> Result<(), HeaderError> {
        let header_len = FIXED + self.options.len();
        let total = u16::try_from(header_len + len).map_err(|_| HeaderError::Length(len))?;
        let words = u8::try_from(header_len / 4).unwrap_or(u8::MAX);
        if words > 15 || !self.options.len().is_multiple_of(4) {
            return Err(HeaderError::Length(header_len));
        }
        let [l0, l1] = total.to_be_bytes();
        let [i0, i1] = self.id.to_be_bytes();
        let [f0, f1] = self.fragment.to_be_bytes();
        let head = [
            0x40 | words,
            self.tos,
            l0,
            l1,
            i0,
            i1,
            f0,
            f1,
            self.ttl,
            self.protocol,
        ];
        let sum = checksum::Sum::new()
            .bytes(&head)
            .bytes(&self.source.octets())
            .bytes(&self.destination.octets())
            .bytes(self.options)
            .finish();
        out.extend_from_slice(&head);
        out.extend_from_slice(&sum.to_be_bytes());
        out.extend_from_slice(&self.source.octets());
        out.extend_from_slice(&self.destination.octets());
        out.extend_from_slice(self.options);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(options: &[u8], payload: &[u8]) -> Vec<u8> {
        let h = Header {
            tos: 0xc0,
            id: 7,
            fragment: 0,
            ttl: 255,
            protocol: 112,
            source: Ipv4Addr::new(10, 9, 0, 1),
            destination: Ipv4Addr::new(224, 0, 0, 18),
            options,
        };
        let mut out = Vec::new();
        h.encode(payload.len(), &mut out).unwrap();
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn t11_the_payload_starts_behind_the_options() {
        let p = packet(&[0x94, 4, 0, 0], b"vrrp");
        let (h, payload) = Header::parse(&p).unwrap();
        assert_eq!((h.ttl, h.options.len(), payload), (255, 4, &b"vrrp"[..]));
        assert_eq!(checksum::of(&p[..24]), 0);
    }

    #[test]
    fn t25_ethernet_padding_is_cut_off() {
        let mut p = packet(&[], b"vrrp");
        p.extend_from_slice(&[0; 22]);
        assert_eq!(Header::parse(&p).unwrap().1, b"vrrp");
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        let good = packet(&[], b"vrrp");
        let with = |i: usize, b: u8| {
            let mut p = good.clone();
            p[i] = b;
            p
        };
        assert_eq!(Header::parse(&with(0, 0x65)), Err(HeaderError::Protocol("IPv4")));
        assert_eq!(Header::parse(&with(0, 0x44)), Err(HeaderError::Length(16)));
        assert_eq!(Header::parse(&with(0, 0x4f)), Err(HeaderError::Length(60)));
        assert_eq!(Header::parse(&with(3, 19)), Err(HeaderError::Length(19)));
        assert_eq!(
            Header::parse(&with(3, 25)),
            Err(HeaderError::Short { have: 24, need: 25 })
        );
    }

    proptest! {
        #[test]
        fn what_was_parsed_is_written_back_as_it_was(
            options in prop::collection::vec(any::<[u8; 4]>(), 0..=10),
            payload in prop::collection::vec(any::<u8>(), 0..64),
            noise in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let _ = Header::parse(&noise);
            let bytes = packet(&options.concat(), &payload);
            let (h, body) = Header::parse(&bytes).unwrap();
            let mut out = Vec::new();
            h.encode(body.len(), &mut out).unwrap();
            out.extend_from_slice(body);
            prop_assert_eq!(out, bytes);
        }
    }
}
