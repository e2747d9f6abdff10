//! The nf_tables expressions that our rules are made of, as `NFTA_RULE_EXPRESSIONS` wants them
//! (`include/uapi/linux/netfilter/nf_tables.h`).
//!
//! A rule is evaluated from left to right over registers; an expression that finds nothing ends the rule.
use crate::sys::rtnl::attr::{self, Body};

/// `NFT_REG_1` to `NFT_REG_3`: sixteen bytes each, an IPv6 address fits.
#[derive(Clone, Copy, Debug)]
pub(super) enum Register {
    /// The packet's destination.
    One = 1,
    /// What it is exchanged for.
    Two = 2,
    /// Whatever else is compared.
    Three = 3,
}

/// What `meta` loads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meta {
    /// `NFT_META_IIFTYPE`: the hardware type of the input device, two bytes in host order.
    InputType = 8,
    /// `NFT_META_NFPROTO`: the family, one byte.
    Family = 15,
    /// `NFT_META_L4PROTO`: the transport, one byte.
    Transport = 16,
}

/// Where in the packet.
#[derive(Clone, Copy, Debug)]
pub(super) enum Base {
    /// `NFT_PAYLOAD_LL_HEADER`.
    Link = 0,
    /// `NFT_PAYLOAD_NETWORK_HEADER`.
    Network = 1,
    /// `NFT_PAYLOAD_TRANSPORT_HEADER`.
    Transport = 2,
}

/// `length` bytes of the packet at `offset`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) base: Base,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// A rule's expressions under construction.
#[derive(Clone, Debug, Default)]
pub(super) struct Expressions(Body);

const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const NF_ACCEPT: u32 = 1;
const LOOKUP_INVERTED: u32 = 1;

impl Expressions {
    /// Loads a property of the packet.
    pub(super) fn meta(self, key: Meta, into: Register) -> Self {
        self.push("meta", Body::default().be32(1, into as u32).be32(2, key as u32))
    }

    /// Goes on only where the register holds `value`.
    pub(super) fn equals(self, register: Register, value: &[u8]) -> Self {
        let data = Body::default().bytes(DATA_VALUE, value);
        // NFTA_CMP_OP 0 is NFT_CMP_EQ.
        self.push(
            "cmp",
            Body::default().be32(1, register as u32).be32(2, 0).nest(3, data),
        )
    }

    /// Loads bytes of the packet.
    pub(super) fn load(self, field: Field, into: Register) -> Self {
        let place = Body::default().be32(1, into as u32);
        self.push("payload", at(place, field))
    }

    /// Writes a register into the packet, and no checksum: `NFT_PAYLOAD_CSUM_NONE`.
    pub(super) fn store(self, from: Register, field: Field) -> Self {
        let body = at(Body::default(), field)
            .be32(5, from as u32)
            .be32(6, 0)
            .be32(7, 0);
        self.push("payload", body)
    }

    /// Goes on only where the register's value is in the set.
    pub(super) fn within(self, set: &str, register: Register) -> Self {
        self.push("lookup", Body::default().text(1, set).be32(2, register as u32))
    }

    /// Goes on only where it is not.
    pub(super) fn without(self, set: &str, register: Register) -> Self {
        let body = Body::default().text(1, set).be32(2, register as u32);
        self.push("lookup", body.be32(5, LOOKUP_INVERTED))
    }

    /// Goes on only where the map has the register's value, with what it maps to.
    pub(super) fn mapped(self, map: &str, register: Register, into: Register) -> Self {
        let body = Body::default().text(1, map).be32(2, register as u32);
        self.push("lookup", body.be32(3, into as u32))
    }

    /// Loads a value.
    pub(super) fn immediate(self, into: Register, value: &[u8]) -> Self {
        let data = Body::default().bytes(DATA_VALUE, value);
        self.push("immediate", Body::default().be32(1, into as u32).nest(2, data))
    }

    /// Gives the connection another destination (`NFT_NAT_DNAT`): an address and a port from registers.
    pub(super) fn translate_to(self, family: u8, address: Register, port: Register) -> Self {
        let body = Body::default().be32(1, 1).be32(2, family.into());
        self.push("nat", body.be32(3, address as u32).be32(5, port as u32))
    }

    /// Counts.
    pub(super) fn counter(self) -> Self {
        self.push("counter", Body::default().be64(1, 0).be64(2, 0))
    }

    /// Ends this chain; those with a later priority still see the packet.
    pub(super) fn accept(self) -> Self {
        let verdict = Body::default().nest(DATA_VERDICT, Body::default().be32(VERDICT_CODE, NF_ACCEPT));
        // NFTA_IMMEDIATE_DREG 0 is NFT_REG_VERDICT.
        self.push("immediate", Body::default().be32(1, 0).nest(2, verdict))
    }

    pub(super) fn into_body(self) -> Body {
        self.0
    }

    fn push(self, name: &str, data: Body) -> Self {
        let expression = Body::default().text(EXPR_NAME, name).nest(EXPR_DATA, data);
        Self(self.0.nest(LIST_ELEM, expression))
    }
}

fn at(body: Body, field: Field) -> Body {
    body.be32(2, field.base as u32)
        .be32(3, field.offset)
        .be32(4, field.length)
}

/// Packets and bytes of the first counter in a rule's expressions.
pub(super) fn counted(expressions: &[u8]) -> Option<(u64, u64)> {
    attr::attributes(expressions).find_map(|(_, expression)| {
        if attr::find(expression, EXPR_NAME) != Some(b"counter\0") {
            return None;
        }
        let data = attr::find(expression, EXPR_DATA)?;
        let number = |kind| Some(u64::from_be_bytes(attr::find(data, kind)?.try_into().ok()?));
        Some((number(2)?, number(1)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_a_name_and_its_data_in_a_list() {
        let rule = Expressions::default()
            .meta(Meta::Family, Register::Three)
            .into_body()
            .finish();
        #[rustfmt::skip]
        let expected = [
            36, 0, 1, 0x80,
            9, 0, 1, 0, b'm', b'e', b't', b'a', 0, 0, 0, 0,
            20, 0, 2, 0x80, 8, 0, 1, 0, 0, 0, 0, 3, 8, 0, 2, 0, 0, 0, 0, 15,
        ];
        assert_eq!(rule, expected);
    }

    #[test]
    fn the_counter_is_found_among_the_others() {
        let rule = Expressions::default().accept().counter().into_body().finish();
        assert_eq!(counted(&rule), Some((0, 0)));
        assert_eq!(
            counted(&Expressions::default().accept().into_body().finish()),
            None
        );
    }
}
