//! First bytes of a connection to the addresses in its header.
use super::{Addresses, LONGEST, SIGNATURE};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str;

/// The longest line of version 1 with its end (§2.1).
const LONGEST_LINE: usize = 107;
const START_OF_LINE: &[u8] = b"PROXY ";

/// What a connection's first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The beginning of a header: more is needed.
    Partial,
    /// A header of `length` bytes. No addresses: the proxy speaks for itself (a health check of its own), or for a
    /// transport that has none.
    Header {
        /// Bytes that belong to it.
        length: usize,
        /// Whom it is for.
        addresses: Option<Addresses>,
    },
}

/// Why first bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// They begin like neither version.
    #[error("the connection does not begin with a PROXY protocol header")]
    Signature,
    /// A line without an end.
    #[error("the PROXY protocol line is longer than 107 bytes")]
    LongLine,
    /// A line that says something else.
    #[error("the PROXY protocol line is malformed")]
    Line,
    /// A binary header of a version or command that there is not.
    #[error("the PROXY protocol header is of an unknown version or command")]
    Version,
    /// A binary header whose length does not fit what it says it holds, or is beyond [`LONGEST`].
    #[error("the PROXY protocol header has an impossible length")]
    Length,
}

/// Reads a header from a connection's first bytes, which may go on behind it.
///
/// # Errors
/// What is wrong with them, as early as it shows.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Refusal> {
    if begins(bytes, SIGNATURE) {
        return binary(bytes);
    }
    if begins(bytes, START_OF_LINE) {
        return line(bytes);
    }
    Err(Refusal::Signature)
}

/// Whether one is the beginning of the other.
fn begins(bytes: &[u8], with: &[u8]) -> bool {
    bytes.iter().zip(with).all(|(a, b)| a == b)
}

fn line(bytes: &[u8]) -> Result<Decoded, Refusal> {
    let seen = bytes.get(..LONGEST_LINE.min(bytes.len())).unwrap_or(bytes);
    let Some(end) = seen.windows(2).position(|w| w == b"\r\n") else {
        return if bytes.len() < LONGEST_LINE {
            Ok(Decoded::Partial)
        } else {
            Err(Refusal::LongLine)
        };
    };
    let text = seen
        .get(START_OF_LINE.len()..end)
        .and_then(|t| str::from_utf8(t).ok())
        .ok_or(Refusal::Line)?;
    Ok(Decoded::Header {
        length: end + 2,
        addresses: words(text)?,
    })
}

fn words(text: &str) -> Result<Option<Addresses>, Refusal> {
    let mut words = text.split(' ');
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored (§2.1).
        return Ok(None);
    }
    let mut next = || words.next().ok_or(Refusal::Line);
    let (from, to, from_port, to_port) = (next()?, next()?, next()?, next()?);
    if words.next().is_some() {
        return Err(Refusal::Line);
    }
    let address = |text: &str| match family {
        "TCP4" => text.parse().map(IpAddr::V4).map_err(|_| Refusal::Line),
        "TCP6" => text.parse().map(IpAddr::V6).map_err(|_| Refusal::Line),
        _ => Err(Refusal::Line),
    };
    Ok(Some(Addresses::new(
        SocketAddr::new(address(from)?, port(from_port)?),
        SocketAddr::new(address(to)?, port(to_port)?),
    )))
}

/// Digits only: no sign, no zeros in front.
fn port(text: &str) -> Result<u16, Refusal> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or(Refusal::Line)
}

fn binary(bytes: &[u8]) -> Result<Decoded, Refusal> {
    if let Some(first) = bytes.get(12)
        && !matches!(first, 0x20 | 0x21)
    {
        return Err(Refusal::Version);
    }
    let Some(&[version_and_command, family, high, low]) = bytes.get(12..).and_then(<[u8]>::first_chunk)
    else {
        return Ok(Decoded::Partial);
    };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    let length = 16 + rest;
    if length > LONGEST {
        return Err(Refusal::Length);
    }
    let Some(body) = bytes.get(16..length) else {
        return Ok(Decoded::Partial);
    };
    let local = version_and_command == 0x20;
    let addresses = match family {
        _ if local => None,
        0x11 => Some(pair::<4>(body)?),
        0x21 => Some(pair::<16>(body)?),
        // Others are to be taken as they are, without addresses (§2.2).
        _ => None,
    };
    Ok(Decoded::Header { length, addresses })
}

/// Two addresses of `N` bytes, then their ports.
fn pair<const N: usize>(body: &[u8]) -> Result<Addresses, Refusal> {
    let take = |at: usize, len: usize| body.get(at..at + len).ok_or(Refusal::Length);
    let port = |at: usize| -> Result<u16, Refusal> {
        let bytes = take(at, 2)?;
        Ok(bytes.iter().fold(0, |n, b| n << 8 | u16::from(*b)))
    };
    Ok(Addresses::new(
        SocketAddr::new(ip(take(0, N)?)?, port(2 * N)?),
        SocketAddr::new(ip(take(N, N)?)?, port(2 * N + 2)?),
    ))
}

fn ip(bytes: &[u8]) -> Result<IpAddr, Refusal> {
    let four = <[u8; 4]>::try_from(bytes).map(|b| IpAddr::V4(Ipv4Addr::from(b)));
    let sixteen = || <[u8; 16]>::try_from(bytes).map(|b| IpAddr::V6(Ipv6Addr::from(b)));
    four.or_else(|_| sixteen()).map_err(|_| Refusal::Length)
}
