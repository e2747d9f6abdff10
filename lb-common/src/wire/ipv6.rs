//! IPv6 headers (RFC 8200 §3). Extension headers are not walked: neither VRRP nor neighbour discovery uses one.
use super::{HeaderError, take};
use alloc::vec::Vec;
use core::net::Ipv6Addr;

/// The length of the header.
pub const LEN: usize = 40;

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN; 0xc0 (CS6) on our adverts.
    pub traffic_class: u8,
    /// 20 bits.
    pub flow_label: u32,
    /// What the payload is.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// From whom.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
}

impl Header {
    /// The header and the payload, trimmed to the length that the header states (T25).
    ///
    /// # Errors
    /// The packet is cut off or is not IPv6.
    pub fn parse(packet: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let (word, rest) = take::<4>(packet)?;
        let (len, rest) = take::<2>(rest)?;
        let ([next_header, hop_limit], rest) = take::<2>(rest)?;
        let (source, rest) = take::<16>(rest)?;
        let (destination, rest) = take::<16>(rest)?;
        let word = u32::from_be_bytes(word);
        if word >> 28 != 6 {
            return Err(HeaderError::Protocol("IPv6"));
        }
        let len = usize::from(u16::from_be_bytes(len));
        let payload = rest.get(..len).ok_or(HeaderError::Short {
            have: packet.len(),
            need: LEN + len,
        })?;
        let [_, _, _, traffic_class] = (word << 4 >> 24).to_be_bytes();
        let header = Self {
            traffic_class,
            flow_label: word & 0x000f_ffff,
            next_header,
            hop_limit,
            source: source.into(),
            destination: destination.into(),
        };
        Ok((header, payload))
    }

    /// Appends the header for a payload of `len` bytes.
    ///
    /// # Errors
    /// The payload is longer than 65535 bytes.
    pub fn encode(&self, len: usize, out: &mut Vec<u8>) -> Result<(), HeaderError> {
        let len = u16::try_from(len).map_err(|_| HeaderError::Length(len))?;
        let word = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label & 0x000f_ffff;
        out.extend_from_slice(&word.to_be_bytes());
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&[self.next_header, self.hop_limit]);
        out.extend_from_slice(&self.source.octets());
        out.extend_from_slice(&self.destination.octets());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_parsed_is_written_back_as_it_was(mut bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Header::parse(&bytes);
            if let Some(rest) = bytes.len().checked_sub(LEN) {
                bytes[0] = 0x60 | bytes[0] & 0x0f;
                bytes[4] = 0;
                bytes[5] = u8::try_from(rest).unwrap();
                let (h, payload) = Header::parse(&bytes).unwrap();
                let mut out = Vec::new();
                h.encode(payload.len(), &mut out).unwrap();
                out.extend_from_slice(payload);
                prop_assert_eq!(out, bytes);
            }
        }
    }

    #[test]
    fn t25_padding_is_cut_off_and_a_cut_packet_is_refused() {
        let h = Header {
            traffic_class: 0xc0,
            flow_label: 0x12345,
            next_header: 112,
            hop_limit: 255,
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::LOCALHOST,
        };
        let mut p = Vec::new();
        h.encode(4, &mut p).unwrap();
        p.extend_from_slice(b"vrrp padding");
        assert_eq!(Header::parse(&p), Ok((h, &b"vrrp"[..])));
        assert_eq!(
            Header::parse(&p[..43]),
            Err(HeaderError::Short { have: 43, need: 44 })
        );
    }
}
