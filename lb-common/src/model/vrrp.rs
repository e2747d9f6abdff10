//! VRRP's numbers (RFC 9568 §5.2), each in its legal range.
use core::fmt;
use core::num::NonZeroU8;
use core::time::Duration;

/// A number outside what the protocol or the kernel can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out of range")]
pub struct OutOfRange;

/// Which VRRP is spoken. One instance speaks exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(into = "u8", try_from = "u8")
)]
pub enum Version {
    /// RFC 3768: IPv4 only, whole seconds, simple-text authentication.
    V2,
    /// RFC 9568 (and RFC 5798): both families, centiseconds, no authentication.
    V3,
}

impl From<Version> for u8 {
    fn from(v: Version) -> Self {
        match v {
            Version::V2 => 2,
            Version::V3 => 3,
        }
    }
}

impl TryFrom<u8> for Version {
    type Error = OutOfRange;
    fn try_from(v: u8) -> Result<Self, OutOfRange> {
        match v {
            2 => Ok(Self::V2),
            3 => Ok(Self::V3),
            _ => Err(OutOfRange),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VRRPv{}", u8::from(*self))
    }
}

/// Virtual Router Identifier, 1-255 (RFC 9568 §5.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(transparent)
)]
pub struct Vrid(NonZeroU8);

impl Vrid {
    /// `None` for 0.
    pub const fn new(id: u8) -> Option<Self> {
        match NonZeroU8::new(id) {
            Some(id) => Some(Self(id)),
            None => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u8 {
        self.0.get()
    }
}

impl fmt::Display for Vrid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Priority of a virtual router, 1-255 (RFC 9568 §5.2.4); 255 is the address owner. 0 exists on the wire only, where
/// it says that the sender leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(transparent)
)]
pub struct Priority(NonZeroU8);

impl Priority {
    /// The address owner's.
    pub const OWNER: Self = Self(NonZeroU8::MAX);

    /// `None` for 0.
    pub const fn new(p: u8) -> Option<Self> {
        match NonZeroU8::new(p) {
            Some(p) => Some(Self(p)),
            None => None,
        }
    }

    /// The number on the wire.
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// Whether this is the address owner's.
    pub const fn is_owner(self) -> bool {
        self.get() == 255
    }

    /// This priority moved by what tracking weighs, kept within 1-254; an owner's never moves.
    pub fn weighted(self, weight: i32) -> Self {
        if self.is_owner() {
            return self;
        }
        let p = i32::from(self.get()).saturating_add(weight).clamp(1, 254);
        u8::try_from(p).ok().and_then(Self::new).unwrap_or(self)
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Time between two advertisements in centiseconds: 1-4095 in VRRPv3 (10 ms to 40.95 s), whole seconds to 255 s in
/// VRRPv2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(transparent)
)]
pub struct AdvertInterval(u16);

impl AdvertInterval {
    /// One second: the default of the RFCs, keepalived and k0s.
    pub const SECOND: Self = Self(100);

    /// `cs` centiseconds, if `version` can carry it.
    pub const fn new(version: Version, cs: u16) -> Option<Self> {
        let legal = match version {
            Version::V2 => cs >= 100 && cs <= 25_500 && cs.is_multiple_of(100),
            Version::V3 => cs >= 1 && cs <= 4095,
        };
        if legal { Some(Self(cs)) } else { None }
    }

    /// In centiseconds.
    pub const fn centiseconds(self) -> u16 {
        self.0
    }

    /// As a duration.
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64 * 10)
    }
}

/// The eight bytes of VRRPv2's simple text password (RFC 2338 §5.3.10), zero-padded. `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthPass([u8; 8]);

impl AuthPass {
    /// `None` for an empty text or one of more than eight bytes.
    pub fn new(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.is_empty() || bytes.len() > 8 {
            return None;
        }
        let mut out = [0; 8];
        out.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self(out))
    }

    /// As it is on the wire.
    pub const fn bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Debug for AuthPass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuthPass(…)")
    }
}

#[cfg(feature = "serde")]
mod auth_serde {
    use super::AuthPass;
    use alloc::string::String;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    impl Serialize for AuthPass {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            let end = self.0.iter().position(|b| *b == 0).unwrap_or(8);
            let text = self
                .0
                .get(..end)
                .and_then(|b| core::str::from_utf8(b).ok())
                .unwrap_or_default();
            s.serialize_str(text)
        }
    }

    impl<'de> Deserialize<'de> for AuthPass {
        fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
            let text = String::deserialize(d)?;
            Self::new(&text).ok_or_else(|| de::Error::custom("a password of 1 to 8 bytes is needed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_moves_a_priority_within_its_range_and_never_an_owner() {
        let p = |n| Priority::new(n).unwrap();
        assert_eq!(p(200).weighted(-20), p(180));
        assert_eq!(p(200).weighted(100), p(254));
        assert_eq!(p(10).weighted(-253), p(1));
        assert_eq!(Priority::OWNER.weighted(-253), Priority::OWNER);
    }

    #[test]
    fn an_interval_is_what_its_version_can_carry() {
        assert!(AdvertInterval::new(Version::V2, 100).is_some());
        assert!(AdvertInterval::new(Version::V2, 50).is_none());
        assert!(AdvertInterval::new(Version::V2, 25_600).is_none());
        assert!(AdvertInterval::new(Version::V3, 0).is_none());
        assert!(AdvertInterval::new(Version::V3, 1).is_some());
        assert!(AdvertInterval::new(Version::V3, 4096).is_none());
    }
}
