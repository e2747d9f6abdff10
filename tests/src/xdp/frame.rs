//! A frame as a line of text, and its bytes: `ether / ip ttl=9 / tcp flags=S / data 10`.
//!
//! | layer | fields, all of which have a default |
//! | --- | --- |
//! | `ether` | `src` `dst` `type` |
//! | `vlan` | `id` `pcp` `type` (of what follows) |
//! | `ip` | `src` `dst` `ttl` `tos` `id` `df` `mf` `frag` (in 8 bytes) `proto` `len` `ihl` `version` `options` (hex) `cksum` |
//! | `ip6` | `src` `dst` `ttl` `tos` `flow` `next` `len` `version` |
//! | `hop` `dest` `route` | `len` (8 bytes beyond the first 8, as said) `next` `size` (as it is, where that differs) |
//! | `fragment` | `frag` `mf` `id` `next` |
//! | `auth` | `next`, and `len` in 4 bytes less 2 |
//! | `tcp` | `sport` `dport` `flags` (letters, `0`: none) `seq` `ack` `off` `win` `cksum` `options` (hex) |
//! | `udp` | `sport` `dport` `len` `cksum` |
//! | `icmp` `icmp6` | `type` `code` `rest` (32 bits) `mtu` (the same) `quote` (so many bytes of what follows) `cksum` |
//! | `data N`, `hex 00ff` | bytes 0, 1, 2...; those bytes |
//! | `pad N`, `cut N` | behind everything, in no length: zeros; only the first N bytes |
//!
//! A length, checksum, type or next header that is not given is what it should be.
use super::build;
use super::names::Names;
use anyhow::{Context, Result, bail};
use std::fmt;

/// One protocol's header with what was said of its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    pub(super) kind: String,
    pub(super) fields: Vec<(String, String)>,
}

/// A frame as its layers, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub(super) layers: Vec<Layer>,
}

impl Frame {
    /// Reads a line of text. Names and numbers are looked at by [`Frame::bytes`].
    pub fn parse(text: &str) -> Result<Self> {
        let layers = text.split(" / ").map(layer).collect::<Result<Vec<_>>>()?;
        Ok(Self { layers })
    }

    /// Says something else of the first layer of one of the `kinds`.
    pub fn set(&mut self, kinds: &[&str], field: &str, value: &str) -> Result<()> {
        let found = self.layers.iter_mut().find(|l| kinds.contains(&&*l.kind));
        let layer = found.with_context(|| format!("no layer {kinds:?}"))?;
        layer.fields.retain(|(name, _)| name != field);
        layer.fields.push((field.to_owned(), value.to_owned()));
        Ok(())
    }

    /// The same frame as a director hands it on: between these MAC addresses, with the guard's TTL.
    pub fn forwarded(&self, from: &str, to: &str) -> Result<Self> {
        let mut frame = self.clone();
        frame.set(&["ether"], "src", from)?;
        frame.set(&["ether"], "dst", to)?;
        frame.set(&["ip", "ip6"], "ttl", "4")?;
        Ok(frame)
    }

    /// What is from the IP header on.
    pub fn network(&self) -> Result<Self> {
        let start = self.layers.iter().position(|l| matches!(&*l.kind, "ip" | "ip6"));
        let layers = self.layers[start.context("no IP header")?..].to_vec();
        Ok(Self { layers })
    }

    /// Its bytes.
    pub fn bytes(&self, names: &Names) -> Result<Vec<u8>> {
        build::frame(&self.layers, names).with_context(|| self.to_string())
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, layer) in self.layers.iter().enumerate() {
            write!(f, "{}{}", if i > 0 { " / " } else { "" }, layer.kind)?;
            for (name, value) in &layer.fields {
                let equals = if name.is_empty() { "" } else { "=" };
                write!(f, " {name}{equals}{value}")?;
            }
        }
        Ok(())
    }
}

fn layer(text: &str) -> Result<Layer> {
    let mut words = text.split_whitespace();
    let kind = words.next().context("an empty layer")?.to_owned();
    let mut fields = Vec::new();
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or(("", word));
        if fields.iter().any(|(known, _)| known == name) {
            bail!("{kind}: {word}: said twice");
        }
        fields.push((name.to_owned(), value.to_owned()));
    }
    Ok(Layer { kind, fields })
}
