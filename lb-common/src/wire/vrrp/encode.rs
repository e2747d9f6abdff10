//! From an [`Advertisement`] to its bytes.
use super::{
    ADVERTISEMENT, AUTH_LEN, Addresses, Advertisement, Auth, ChecksumForm, Family, HEADER_LEN, PROTOCOL,
    Version,
};
use crate::wire::checksum::Sum;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Why an advertisement cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Count IP Addr is one byte, and 0 is illegal (erratum 8299).
    #[error("an advert carries 1 to 255 addresses, not {0}")]
    Count(usize),
    /// The version has no way to say this interval.
    #[error("{version} cannot carry an interval of {cs} centiseconds")]
    Interval {
        /// Which VRRP.
        version: Version,
        /// The interval.
        cs: u16,
    },
    /// Source, destination and addresses are not of one family, or version 2 was asked to carry IPv6.
    #[error("the addresses of an advert and of its packet are of different families")]
    Family,
}

impl Advertisement {
    /// Appends the message as it is sent from `source` to `destination`; those two are summed, not written.
    ///
    /// # Errors
    /// The version or the protocol cannot carry it. Nothing is appended then.
    pub fn encode(&self, source: IpAddr, destination: IpAddr, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let family = self.addresses.family();
        if Family::of(source) != family
            || Family::of(destination) != family
            || (self.version == Version::V2 && family == Family::Ipv6)
        {
            return Err(EncodeError::Family);
        }
        let count = match u8::try_from(self.addresses.len()) {
            Ok(0) | Err(_) => return Err(EncodeError::Count(self.addresses.len())),
            Ok(n) => n,
        };
        let [b4, b5] = self.word()?;
        let start = out.len();
        out.reserve(HEADER_LEN + self.addresses.len() * usize::from(family.bits() / 8) + AUTH_LEN);
        out.extend_from_slice(&[
            u8::from(self.version) << 4 | ADVERTISEMENT,
            self.vrid.get(),
            self.priority,
            count,
            b4,
            b5,
            0,
            0,
        ]);
        match &self.addresses {
            Addresses::V4(all) => all.iter().for_each(|a| out.extend_from_slice(&a.octets())),
            Addresses::V6(all) => all.iter().for_each(|a| out.extend_from_slice(&a.octets())),
        }
        if self.version == Version::V2 {
            out.extend_from_slice(&self.auth.unwrap_or(Auth::NONE).data);
        }
        let message = out.get_mut(start..).unwrap_or_default();
        let sum = self.sum(source, destination, message).to_be_bytes();
        if let Some(field) = message.get_mut(6..8) {
            field.copy_from_slice(&sum);
        }
        Ok(())
    }

    /// Bytes 4 and 5, which is where the versions differ.
    fn word(&self) -> Result<[u8; 2], EncodeError> {
        let cs = self.interval_cs;
        let refused = EncodeError::Interval {
            version: self.version,
            cs,
        };
        match self.version {
            Version::V2 => {
                let seconds = u8::try_from(cs / 100).map_err(|_| refused)?;
                if seconds == 0 || !cs.is_multiple_of(100) {
                    return Err(refused);
                }
                Ok([self.auth.unwrap_or(Auth::NONE).kind.number(), seconds])
            }
            Version::V3 => {
                if cs == 0 || cs > 0x0fff {
                    return Err(refused);
                }
                Ok((u16::from(self.reserved & 0x0f) << 12 | cs).to_be_bytes())
            }
        }
    }

    fn sum(&self, source: IpAddr, destination: IpAddr, message: &[u8]) -> u16 {
        let form = Self::fixed_form(self.version, self.addresses.family()).unwrap_or(self.checksum_form);
        let start = match form {
            ChecksumForm::PseudoHeader => {
                Sum::pseudo(source, destination, PROTOCOL, message.len()).unwrap_or_default()
            }
            ChecksumForm::MessageOnly => Sum::new(),
        };
        start.bytes(message).finish()
    }
}
