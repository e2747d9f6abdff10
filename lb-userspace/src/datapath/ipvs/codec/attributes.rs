//! A list of netlink attributes: `neli`'s, with readers that name the attribute in their error.
use super::{DecodeError, EncodeError};
use crate::datapath::ipvs::uapi::{CmdAttr, DaemonAttr, DestAttr, InfoAttr, StatsAttr, SvcAttr};
use lb_common::model::Family;
use neli::consts::genl::CtrlAttr;
use neli::genl::{AttrTypeBuilder, Nlattr, NlattrBuilder};
use neli::types::{Buffer, GenlBuffer};
use neli::{FromBytesWithInput, Size, ToBytes};
use std::fmt::Debug;
use std::io::Cursor;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An enumeration of attributes, and the word for the object that they describe.
pub(in crate::datapath::ipvs) trait Kind: Copy + Debug + Into<u16> {
    const OBJECT: &'static str;

    fn label(self) -> String {
        format!("{} {self:?}", Self::OBJECT)
    }
}

macro_rules! kinds {
    ($($kind:ty => $object:literal),+ $(,)?) => { $(impl Kind for $kind { const OBJECT: &'static str = $object; })+ };
}

kinds! {
    CmdAttr => "command",
    SvcAttr => "service",
    DestAttr => "destination",
    DaemonAttr => "daemon",
    StatsAttr => "statistics",
    InfoAttr => "info",
    CtrlAttr => "family",
}

/// The attributes of one message, or those nested in one of them.
#[derive(Clone, Debug)]
pub struct Attributes(GenlBuffer<u16, Buffer>);

impl Default for Attributes {
    fn default() -> Self {
        Self::new()
    }
}

impl Attributes {
    /// None.
    pub fn new() -> Self {
        Self(GenlBuffer::new())
    }

    /// Takes apart one level.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        GenlBuffer::from_bytes_with_input(&mut Cursor::new(bytes), bytes.len())
            .map(Self)
            .map_err(|e| DecodeError::Malformed(e.to_string()))
    }

    /// As they travel.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EncodeError> {
        let mut cursor = Cursor::new(Vec::new());
        self.0
            .to_bytes(&mut cursor)
            .map_err(|e| EncodeError::Attribute(e.to_string()))?;
        Ok(cursor.into_inner())
    }

    /// These and then those.
    #[must_use]
    pub fn and(mut self, others: &Self) -> Self {
        for attribute in others.0.as_ref() {
            self.0.push(attribute.clone());
        }
        self
    }

    pub(in crate::datapath::ipvs) fn from_neli(attributes: &GenlBuffer<u16, Buffer>) -> Self {
        Self(attributes.clone())
    }

    pub(in crate::datapath::ipvs) fn to_neli(&self) -> GenlBuffer<u16, Buffer> {
        self.0.clone()
    }

    pub(in crate::datapath::ipvs) fn put<K: Kind>(
        mut self,
        kind: K,
        payload: impl Size + ToBytes,
    ) -> Result<Self, EncodeError> {
        self.0.push(attribute(kind, false, payload)?);
        Ok(self)
    }

    pub(super) fn nest<K: Kind>(mut self, kind: K, inner: &Self) -> Result<Self, EncodeError> {
        self.0.push(attribute(kind, true, inner.to_bytes()?.as_slice())?);
        Ok(self)
    }

    fn find(&self, kind: u16) -> Option<&[u8]> {
        self.0
            .as_ref()
            .iter()
            .find(|a| *a.nla_type().nla_type() == kind)
            .map(|a| a.nla_payload().as_ref())
    }

    /// The payload of one that may be left out.
    pub(super) fn optional<K: Kind, const N: usize>(&self, kind: K) -> Result<Option<[u8; N]>, DecodeError> {
        // A longer one is not an error: netlink attributes may grow, and the old part keeps its place.
        self.find(kind.into())
            .map(|payload| {
                payload.first_chunk().copied().ok_or_else(|| DecodeError::Length {
                    attribute: kind.label(),
                    expected: N,
                    got: payload.len(),
                })
            })
            .transpose()
    }

    fn fixed<K: Kind, const N: usize>(&self, kind: K) -> Result<[u8; N], DecodeError> {
        self.optional(kind)?
            .ok_or_else(|| DecodeError::Missing(kind.label()))
    }

    pub(in crate::datapath::ipvs) fn u16<K: Kind>(&self, kind: K) -> Result<u16, DecodeError> {
        self.fixed(kind).map(u16::from_ne_bytes)
    }

    pub(super) fn be16<K: Kind>(&self, kind: K) -> Result<u16, DecodeError> {
        self.fixed(kind).map(u16::from_be_bytes)
    }

    pub(super) fn u32<K: Kind>(&self, kind: K) -> Result<u32, DecodeError> {
        self.fixed(kind).map(u32::from_ne_bytes)
    }

    /// Text up to its NUL.
    pub(super) fn text<K: Kind>(&self, kind: K) -> Option<String> {
        let payload = self.find(kind.into())?;
        let end = payload.iter().position(|b| *b == 0).unwrap_or(payload.len());
        Some(String::from_utf8_lossy(&payload[..end]).into_owned())
    }

    pub(super) fn address<K: Kind>(&self, kind: K, family: Family) -> Result<IpAddr, DecodeError> {
        Ok(match family {
            Family::Ipv4 => IpAddr::V4(Ipv4Addr::from(self.fixed::<K, 4>(kind)?)),
            Family::Ipv6 => IpAddr::V6(Ipv6Addr::from(self.fixed::<K, 16>(kind)?)),
        })
    }

    pub(super) fn nested<K: Kind>(&self, kind: K) -> Result<Option<Self>, DecodeError> {
        self.find(kind.into()).map(Self::from_bytes).transpose()
    }

    pub(super) fn required<K: Kind>(&self, kind: K) -> Result<Self, DecodeError> {
        self.nested(kind)?
            .ok_or_else(|| DecodeError::Missing(kind.label()))
    }
}

fn attribute<K: Kind>(
    kind: K,
    nested: bool,
    payload: impl Size + ToBytes,
) -> Result<Nlattr<u16, Buffer>, EncodeError> {
    let failed = |e: &dyn std::fmt::Display| EncodeError::Attribute(format!("{}: {e}", kind.label()));
    let kind = AttrTypeBuilder::default()
        .nla_type(kind.into())
        .nla_nested(nested)
        .build()
        .map_err(|e| failed(&e))?;
    NlattrBuilder::default()
        .nla_type(kind)
        .nla_payload(payload)
        .build()
        .map_err(|e| failed(&e))
}
