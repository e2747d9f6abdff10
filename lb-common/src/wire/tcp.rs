//! TCP segments without data (RFC 9293 §3.1): what a health check needs to ask a port for its answer.
use super::{HeaderError, checksum, take};
use alloc::vec::Vec;
use core::net::IpAddr;

/// The protocol number.
pub const TCP: u8 = 6;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// The acknowledgement field counts.
pub const ACK: u8 = 0x10;
const LEN: usize = 20;

/// A segment's header; options and data are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// From which port.
    pub source: u16,
    /// To which port.
    pub destination: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledgement: u32,
    /// The flags' low eight bits.
    pub flags: u8,
    /// Receive window.
    pub window: u16,
}

impl Segment {
    /// The header at the beginning of an IP packet's payload. The checksum is not looked at: a network card may leave
    /// it to be filled in later, and what is asked of an answer is that it names our numbers.
    ///
    /// # Errors
    /// It is cut off, or its data offset cannot be.
    pub fn parse(payload: &[u8]) -> Result<Self, HeaderError> {
        let (ports, rest) = take::<4>(payload)?;
        let (sequence, rest) = take::<4>(rest)?;
        let (acknowledgement, rest) = take::<4>(rest)?;
        let ([offset, flags, w0, w1], rest) = take::<4>(rest)?;
        take::<4>(rest)?;
        let header = usize::from(offset >> 4) * 4;
        if header < LEN || header > payload.len() {
            return Err(HeaderError::Length(header));
        }
        let [s0, s1, d0, d1] = ports;
        Ok(Self {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_be_bytes([d0, d1]),
            sequence: u32::from_be_bytes(sequence),
            acknowledgement: u32::from_be_bytes(acknowledgement),
            flags,
            window: u16::from_be_bytes([w0, w1]),
        })
    }

    /// Appends the segment, with its checksum for these addresses.
    ///
    /// # Errors
    /// The addresses are of two families.
    pub fn encode(&self, from: IpAddr, to: IpAddr, out: &mut Vec<u8>) -> Result<(), HeaderError> {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(&self.source.to_be_bytes());
        bytes.extend_from_slice(&self.destination.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.acknowledgement.to_be_bytes());
        bytes.extend_from_slice(&[5 << 4, self.flags]);
        bytes.extend_from_slice(&self.window.to_be_bytes());
        let pseudo = checksum::Sum::pseudo(from, to, TCP, LEN).ok_or(HeaderError::Protocol("one family"))?;
        let sum = pseudo.bytes(&bytes).finish();
        bytes.extend_from_slice(&sum.to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_segment_is_what_the_rfc_draws_and_its_checksum_fits() {
        let segment = Segment {
            source: 40_000,
            destination: 6443,
            sequence: 7,
            acknowledgement: 0,
            flags: SYN,
            window: 1024,
        };
        let (from, to) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 100]));
        let mut bytes = Vec::new();
        segment.encode(from, to, &mut bytes).unwrap();
        assert_eq!(bytes.len(), 20);
        assert_eq!(
            checksum::Sum::pseudo(from, to, TCP, 20)
                .unwrap()
                .bytes(&bytes)
                .finish(),
            0
        );
        assert_eq!(Segment::parse(&bytes), Ok(segment));
        assert!(segment.encode(from, IpAddr::from([0u16; 8]), &mut bytes).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Segment::parse(&bytes);
        }
    }
}
