//! From bytes to an [`Advertisement`], with one error for each counter that RFC 9568's MIB has.
use super::{
    ADVERTISEMENT, AUTH_LEN, Addresses, Advertisement, Auth, AuthType, ChecksumForm, Family, HEADER_LEN,
    PROTOCOL, Version, Vrid,
};
use crate::wire::checksum::Sum;
use core::net::IpAddr;

/// keepalived 2.4's `auth_hmac` appends so many bytes to the message.
const HMAC_TRAILER: usize = 28;

/// Why bytes are no advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There are fewer bytes than the header and its count say.
    #[error("it is cut off: {have} bytes where {need} are needed")]
    Short {
        /// Bytes there are.
        have: usize,
        /// Bytes that are needed.
        need: usize,
    },
    /// There are more bytes than the header and its count say.
    #[error("{extra} bytes follow the message{}", if *.extra == HMAC_TRAILER { " (as keepalived 2.4's auth_hmac adds)" } else { "" })]
    Trailing {
        /// How many too many.
        extra: usize,
    },
    /// Neither version 2 nor 3, or version 2 over IPv6.
    #[error("VRRP version {0} is not spoken here over this IP version")]
    Version(u8),
    /// Not an ADVERTISEMENT.
    #[error("message type {0} is not an advertisement")]
    Type(u8),
    /// Damaged, or summed in a way that is in use nowhere.
    #[error("its checksum is wrong (found {found:#06x})")]
    Checksum {
        /// As it was in the packet.
        found: u16,
    },
    /// Virtual router 0 does not exist.
    #[error("virtual router ID 0 does not exist")]
    Vrid,
    /// Count IP Addr is 0 (erratum 8299).
    #[error("it carries no address")]
    Count,
    /// The interval is 0 (erratum 8301). keepalived takes it and flaps.
    #[error("its advertisement interval is 0")]
    Interval,
    /// Source and destination are not of one IP version.
    #[error("its source and its destination are of different IP versions")]
    Family,
}

impl DecodeError {
    /// One word for counters.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Short { .. } | Self::Trailing { .. } => "length",
            Self::Version(_) => "version",
            Self::Type(_) => "type",
            Self::Checksum { .. } => "checksum",
            Self::Vrid => "vrid",
            Self::Count => "count",
            Self::Interval => "interval",
            Self::Family => "family",
        }
    }
}

/// The virtual router that a message is for, before anything of it is believed: one raw socket hears all of them.
pub fn peek_vrid(message: &[u8]) -> Option<Vrid> {
    message.get(1).copied().and_then(Vrid::new)
}

/// Reads the message (what the IP packet carried, no byte more) that came from `source` to `destination`.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(message: &[u8], source: IpAddr, destination: IpAddr) -> Result<Advertisement, DecodeError> {
    let family = Family::of(source);
    let (header, body) = message
        .split_first_chunk::<HEADER_LEN>()
        .ok_or(DecodeError::Short {
            have: message.len(),
            need: HEADER_LEN,
        })?;
    let [vt, vrid, priority, count, b4, b5, c0, c1] = *header;
    let version = version(vt >> 4, family)?;
    if vt & 0x0f != ADVERTISEMENT {
        return Err(DecodeError::Type(vt & 0x0f));
    }
    let (addresses, auth_data) = split_body(version, family, usize::from(count), message.len(), body)?;
    let checksum_form = check_sum(version, message, source, destination).ok_or(DecodeError::Checksum {
        found: u16::from_be_bytes([c0, c1]),
    })?;
    let vrid = Vrid::new(vrid).ok_or(DecodeError::Vrid)?;
    if count == 0 {
        return Err(DecodeError::Count);
    }
    let (interval_cs, reserved, auth) = match version {
        Version::V2 => {
            let auth = auth_data.map(|data| Auth {
                kind: AuthType::from(b4),
                data,
            });
            (u16::from(b5) * 100, 0, auth)
        }
        Version::V3 => (u16::from_be_bytes([b4 & 0x0f, b5]), b4 >> 4, None),
    };
    if interval_cs == 0 {
        return Err(DecodeError::Interval);
    }
    Ok(Advertisement {
        version,
        vrid,
        priority,
        interval_cs,
        reserved,
        auth,
        addresses,
        checksum_form,
    })
}

fn version(number: u8, family: Family) -> Result<Version, DecodeError> {
    match (Version::try_from(number), family) {
        (Ok(Version::V2), Family::Ipv4) => Ok(Version::V2),
        (Ok(Version::V3), Family::Ipv4 | Family::Ipv6) => Ok(Version::V3),
        // RFC 3768 has no IPv6.
        (Ok(Version::V2), Family::Ipv6) | (Err(_), Family::Ipv4 | Family::Ipv6) => {
            Err(DecodeError::Version(number))
        }
    }
}

/// The addresses and version 2's authentication data, if the length is exactly theirs.
fn split_body(
    version: Version,
    family: Family,
    count: usize,
    have: usize,
    body: &[u8],
) -> Result<(Addresses, Option<[u8; AUTH_LEN]>), DecodeError> {
    let addresses_len = count * usize::from(family.bits() / 8);
    let auth_len = match version {
        Version::V2 => AUTH_LEN,
        Version::V3 => 0,
    };
    let need = HEADER_LEN + addresses_len + auth_len;
    if have > need {
        return Err(DecodeError::Trailing { extra: have - need });
    }
    let short = DecodeError::Short { have, need };
    let (addresses, auth) = body.split_at_checked(addresses_len).ok_or(short)?;
    if auth.len() != auth_len {
        return Err(short);
    }
    let addresses = match family {
        Family::Ipv4 => Addresses::V4(
            addresses
                .as_chunks()
                .0
                .iter()
                .map(|a: &[u8; 4]| (*a).into())
                .collect(),
        ),
        Family::Ipv6 => Addresses::V6(
            addresses
                .as_chunks()
                .0
                .iter()
                .map(|a: &[u8; 16]| (*a).into())
                .collect(),
        ),
    };
    Ok((addresses, auth.try_into().ok()))
}

/// Which of the checksums in use fits.
fn check_sum(version: Version, message: &[u8], source: IpAddr, destination: IpAddr) -> Option<ChecksumForm> {
    let alone = || Sum::new().bytes(message).finish() == 0;
    let pseudo = || {
        Sum::pseudo(source, destination, PROTOCOL, message.len())
            .is_some_and(|s| s.bytes(message).finish() == 0)
    };
    match Advertisement::fixed_form(version, Family::of(source)) {
        Some(ChecksumForm::MessageOnly) => alone().then_some(ChecksumForm::MessageOnly),
        Some(ChecksumForm::PseudoHeader) => pseudo().then_some(ChecksumForm::PseudoHeader),
        // RFC 9568 §5.2.8 says that IPv4 has no pseudo-header; the installed base sums one (T1). Both are taken, since
        // refusing a living Active router makes two of them.
        None if pseudo() => Some(ChecksumForm::PseudoHeader),
        None => alone().then_some(ChecksumForm::MessageOnly),
    }
}
