//! The bytes of layers, innermost first.
use super::frame::Layer;
use super::names::{Mac, Names};
use anyhow::{Context, Result, bail, ensure};
use std::cell::RefCell;
use std::net::IpAddr;

/// The fields of one layer, each of which must be asked for.
struct Fields<'a> {
    layer: &'a Layer,
    names: &'a Names,
    asked: RefCell<Vec<&'a str>>,
}

impl<'a> Fields<'a> {
    fn new(layer: &'a Layer, names: &'a Names) -> Self {
        Self {
            layer,
            names,
            asked: RefCell::default(),
        }
    }

    fn text(&self, name: &'a str) -> Option<&'a str> {
        self.asked.borrow_mut().push(name);
        let found = self.layer.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &'a str, default: u64) -> Result<u64> {
        self.text(name).map_or(Ok(default), number)
    }

    fn u8(&self, name: &'a str, default: u8) -> Result<u8> {
        Ok(self.number(name, default.into())?.try_into()?)
    }

    fn u16(&self, name: &'a str, default: u16) -> Result<u16> {
        Ok(self.number(name, default.into())?.try_into()?)
    }

    fn ip(&self, name: &'a str, default: &str) -> Result<IpAddr> {
        self.names.ip(self.text(name).unwrap_or(default))
    }

    fn mac(&self, name: &'a str, default: &str) -> Result<Mac> {
        self.names.mac(self.text(name).unwrap_or(default))
    }

    fn hex(&self, name: &'a str) -> Result<Vec<u8>> {
        hex(self.text(name).unwrap_or_default())
    }

    /// Fails if something was said that nobody asked for.
    fn done(&self) -> Result<()> {
        let asked = self.asked.borrow();
        let unknown = self
            .layer
            .fields
            .iter()
            .find(|(name, _)| !asked.contains(&&**name));
        ensure!(unknown.is_none(), "{} has no field {unknown:?}", self.layer.kind);
        Ok(())
    }
}

fn number(text: &str) -> Result<u64> {
    let parsed = text
        .strip_prefix("0x")
        .map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16));
    parsed.with_context(|| format!("{text} is no number"))
}

fn hex(text: &str) -> Result<Vec<u8>> {
    ensure!(text.len().is_multiple_of(2), "{text}: an odd number of digits");
    let byte = |at| u8::from_str_radix(text.get(at..at + 2).unwrap_or("?"), 16);
    let bytes: Result<_, _> = (0..text.len()).step_by(2).map(byte).collect();
    bytes.with_context(|| format!("{text} is not hexadecimal"))
}

/// The whole frame.
pub(super) fn frame(layers: &[Layer], names: &Names) -> Result<Vec<u8>> {
    let tail = layers
        .iter()
        .position(|l| matches!(&*l.kind, "pad" | "cut"))
        .unwrap_or(layers.len());
    let (body, tail) = layers.split_at(tail);
    let mut bytes = Vec::new();
    for i in (0..body.len()).rev() {
        bytes = one(body, i, bytes, names).with_context(|| body[i].kind.clone())?;
    }
    for layer in tail {
        let fields = Fields::new(layer, names);
        let n = usize::try_from(fields.number("", 0)?)?;
        match &*layer.kind {
            "pad" => bytes.resize(bytes.len() + n, 0),
            "cut" => bytes.truncate(n),
            other => bail!("{other} behind pad or cut"),
        }
        fields.done()?;
    }
    Ok(bytes)
}

fn one(layers: &[Layer], i: usize, payload: Vec<u8>, names: &Names) -> Result<Vec<u8>> {
    let fields = Fields::new(&layers[i], names);
    let next = layers.get(i + 1).map_or("", |l| &l.kind);
    let bytes = match &*layers[i].kind {
        "ether" => ether(&fields, next, &payload),
        "vlan" => vlan(&fields, next, &payload),
        "ip" => ip(&fields, next, &payload),
        "ip6" => ip6(&fields, next, &payload),
        "hop" | "dest" | "route" => extension(&fields, next, &payload),
        "fragment" => fragment(&fields, next, &payload),
        "auth" => auth(&fields, next, &payload),
        "tcp" => tcp(&fields, &ends(layers, i, names)?, &payload),
        "udp" => udp(&fields, &ends(layers, i, names)?, &payload),
        "icmp" => icmp(&fields, None, payload),
        "icmp6" => icmp(&fields, Some(&ends(layers, i, names)?), payload),
        "data" => {
            let n = fields.number("", 0)?;
            Ok((0..n).map(|i| i.to_le_bytes()[0]).chain(payload).collect())
        }
        "hex" => Ok([fields.hex("")?, payload].concat()),
        other => bail!("no layer is called {other}"),
    }?;
    fields.done()?;
    Ok(bytes)
}

fn ether_type(kind: &str) -> u16 {
    match kind {
        "ip" => 0x0800,
        "ip6" => 0x86dd,
        "vlan" => 0x8100,
        _ => 0,
    }
}

fn protocol(kind: &str) -> u8 {
    match kind {
        "hop" => 0,
        "icmp" => 1,
        "ip" => 4,
        "tcp" => 6,
        "udp" => 17,
        "ip6" => 41,
        "route" => 43,
        "fragment" => 44,
        "auth" => 51,
        "icmp6" => 58,
        "dest" => 60,
        // No next header: RFC 8200 section 4.7.
        _ => 59,
    }
}

fn ether(f: &Fields<'_>, next: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let kind = f.u16("type", ether_type(next))?.to_be_bytes();
    Ok([&f.mac("dst", "us")?[..], &f.mac("src", "gw")?, &kind, payload].concat())
}

fn vlan(f: &Fields<'_>, next: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let tag = f.u16("pcp", 0)? << 13 | f.u16("id", 1)?;
    let kind = f.u16("type", ether_type(next))?;
    Ok([&tag.to_be_bytes()[..], &kind.to_be_bytes(), payload].concat())
}

fn ip(f: &Fields<'_>, next: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let options = f.hex("options")?;
    let size = 20 + options.len();
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (f.ip("src", "c1")?, f.ip("dst", "vip")?) else {
        bail!("addresses of IPv4, please");
    };
    let (version, ihl) = (f.u8("version", 4)?, f.u8("ihl", u8::try_from(size / 4)?)?);
    let flags = f.u16("df", 0)? << 14 | f.u16("mf", 0)? << 13 | f.u16("frag", 0)?;
    let mut bytes = vec![version << 4 | ihl, f.u8("tos", 0)?];
    bytes.extend(f.u16("len", u16::try_from(size + payload.len())?)?.to_be_bytes());
    bytes.extend(f.u16("id", 0x1234)?.to_be_bytes());
    bytes.extend(flags.to_be_bytes());
    bytes.extend([f.u8("ttl", 64)?, f.u8("proto", protocol(next))?, 0, 0]);
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    bytes.extend(options);
    let sum = f.u16("cksum", checksum(&[&bytes]))?;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend(payload);
    Ok(bytes)
}

fn ip6(f: &Fields<'_>, next: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (f.ip("src", "c1v6")?, f.ip("dst", "vip6")?) else {
        bail!("addresses of IPv6, please");
    };
    let flow = u32::try_from(f.number("flow", 0)?)?;
    let first = u32::from(f.u8("version", 6)?) << 28 | u32::from(f.u8("tos", 0)?) << 20 | flow;
    let mut bytes = first.to_be_bytes().to_vec();
    bytes.extend(f.u16("len", u16::try_from(payload.len())?)?.to_be_bytes());
    bytes.extend([f.u8("next", protocol(next))?, f.u8("ttl", 64)?]);
    bytes.extend(src.octets());
    bytes.extend(dst.octets());
    bytes.extend(payload);
    Ok(bytes)
}

/// Hop-by-hop, destination options, routing: RFC 8200 sections 4.3, 4.4 and 4.6. Filled with a PadN option, which a
/// routing header reads as a type that nobody knows and no segments left.
fn extension(f: &Fields<'_>, next: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let len = f.u8("len", 0)?;
    let size = usize::from(f.u8("size", len)?) * 8 + 8;
    let mut bytes = vec![0; size];
    (bytes[0], bytes[1]) = (f.u8("next", protocol(next))?, len);
    (bytes[2], bytes[3]) = if f.layer.kind == "route" {
        (253, 0)
    } else {
        (1, u8::try_from((size - 4).min(255))?)
    };
    bytes.extend(payload);
    Ok(bytes)
}

fn fragment(f: &Fields<'_>, next: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let place = f.u16("frag", 0)? << 3 | f.u16("mf", 0)?;
    let mut bytes = vec![f.u8("next", protocol(next))?, 0];
    bytes.extend(place.to_be_bytes());
    bytes.extend(u32::try_from(f.number("id", 7)?)?.to_be_bytes());
    bytes.extend(payload);
    Ok(bytes)
}

fn auth(f: &Fields<'_>, next: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let len = f.u8("len", 4)?;
    let mut bytes = vec![0; (usize::from(len) + 2) * 4];
    (bytes[0], bytes[1]) = (f.u8("next", protocol(next))?, len);
    bytes.extend(payload);
    Ok(bytes)
}

fn tcp(f: &Fields<'_>, ends: &[u8], payload: &[u8]) -> Result<Vec<u8>> {
    let options = f.hex("options")?;
    let mut bytes = f.u16("sport", 40000)?.to_be_bytes().to_vec();
    bytes.extend(f.u16("dport", 443)?.to_be_bytes());
    bytes.extend(u32::try_from(f.number("seq", 1000)?)?.to_be_bytes());
    bytes.extend(u32::try_from(f.number("ack", 0)?)?.to_be_bytes());
    let off = f.u8("off", u8::try_from(5 + options.len() / 4)?)?;
    bytes.extend([off << 4, tcp_flags(f.text("flags").unwrap_or("A"))?]);
    bytes.extend(f.u16("win", 0xfaf0)?.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(options);
    bytes.extend(payload);
    let sum = f.u16("cksum", checksum(&[ends, &pseudo(bytes.len(), 6)?, &bytes]))?;
    bytes[16..18].copy_from_slice(&sum.to_be_bytes());
    Ok(bytes)
}

fn tcp_flags(text: &str) -> Result<u8> {
    if text == "0" {
        return Ok(0);
    }
    text.chars().try_fold(0, |flags, c| {
        let bit = "FSRPAUEC"
            .find(c)
            .with_context(|| format!("no TCP flag is called {c}"))?;
        Ok(flags | 1 << bit)
    })
}

fn udp(f: &Fields<'_>, ends: &[u8], payload: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = f.u16("sport", 40000)?.to_be_bytes().to_vec();
    bytes.extend(f.u16("dport", 53)?.to_be_bytes());
    bytes.extend(f.u16("len", u16::try_from(8 + payload.len())?)?.to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(payload);
    let sum = match checksum(&[ends, &pseudo(bytes.len(), 17)?, &bytes]) {
        // RFC 768: 0 says that there is none.
        0 => 0xffff,
        sum => sum,
    };
    bytes[6..8].copy_from_slice(&f.u16("cksum", sum)?.to_be_bytes());
    Ok(bytes)
}

fn icmp(f: &Fields<'_>, ends: Option<&[u8]>, mut payload: Vec<u8>) -> Result<Vec<u8>> {
    payload.truncate(usize::try_from(f.number("quote", 0xffff)?)?);
    let echo = if ends.is_some() { 128 } else { 8 };
    let rest = f.number("rest", 0)? | f.number("mtu", 0)?;
    let mut bytes = vec![f.u8("type", echo)?, f.u8("code", 0)?, 0, 0];
    bytes.extend(u32::try_from(rest)?.to_be_bytes());
    bytes.extend(payload);
    let sum = match ends {
        Some(ends) => checksum(&[ends, &pseudo(bytes.len(), 58)?, &bytes]),
        None => checksum(&[&bytes]),
    };
    bytes[2..4].copy_from_slice(&f.u16("cksum", sum)?.to_be_bytes());
    Ok(bytes)
}

/// The addresses of the IP header around a layer, for its checksum.
fn ends(layers: &[Layer], i: usize, names: &Names) -> Result<Vec<u8>> {
    let around = layers[..i]
        .iter()
        .rev()
        .find(|l| matches!(&*l.kind, "ip" | "ip6"));
    let layer = around.context("no IP header around it")?;
    let f = Fields::new(layer, names);
    let (src, dst) = if layer.kind == "ip" {
        ("c1", "vip")
    } else {
        ("c1v6", "vip6")
    };
    let mut bytes = Vec::new();
    for (field, default) in [("src", src), ("dst", dst)] {
        match f.ip(field, default)? {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    Ok(bytes)
}

/// What a pseudo header has beside the addresses, the same sum for both families.
fn pseudo(len: usize, protocol: u8) -> Result<[u8; 8]> {
    let [a, b, c, d] = u32::try_from(len)?.to_be_bytes();
    Ok([a, b, c, d, 0, 0, 0, protocol])
}

/// RFC 1071. Every part but the last has an even length.
pub(super) fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let mut sum: u64 = words
        .map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).unwrap_or(0)
}
