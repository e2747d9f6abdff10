//! Bytes on the wire, both ways.
//!
//! Rules of every codec here:
//! * a decoder takes any bytes whatever and answers with a typed value or with a reason; it never panics;
//! * `encode(decode(x)) == x` for every `x` that is accepted: what the protocol tells a receiver to ignore (reserved
//!   bits, the password field of an advert without authentication) is kept, not forgotten. The one exception is a
//!   ones' complement checksum of zero, which has two spellings, and the header of [`proxy`], which has many;
//! * nothing in here knows configuration or state. Whether a well-formed packet is *welcome* is `vrrp::receive`'s
//!   question.
pub mod arp;
pub mod checksum;
pub mod ethernet;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod proxy;
pub mod tcp;
pub mod vrrp;

/// A header is cut off or contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// There are fewer bytes than the header says or needs.
    #[error("the packet is cut off: {have} bytes where {need} are needed")]
    Short {
        /// Bytes there are.
        have: usize,
        /// Bytes that are needed.
        need: usize,
    },
    /// The version nibble or a type that the header repeats is another protocol's.
    #[error("not {0}")]
    Protocol(&'static str),
    /// A length field that cannot be.
    #[error("its length field says {0}, which cannot be")]
    Length(usize),
    /// The checksum does not fit.
    #[error("wrong checksum")]
    Checksum,
}

/// The next `N` bytes, or how many are missing.
fn take<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), HeaderError> {
    bytes
        .split_first_chunk::<N>()
        .map(|(head, rest)| (*head, rest))
        .ok_or(HeaderError::Short {
            have: bytes.len(),
            need: N,
        })
}
