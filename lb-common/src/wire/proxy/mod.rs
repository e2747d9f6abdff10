//! The PROXY protocol (haproxy.org, `doc/proxy-protocol.txt`): a header before the first byte of a TCP connection that
//! names the client whom a proxy speaks for. Version 1 is a line of text, version 2 binary.
mod decode;
mod encode;

pub use decode::{Decoded, Refusal, decode};
pub use encode::encode;

use core::net::SocketAddr;

/// No header is longer than this: version 2 with as much in its extensions as anybody sends.
pub const LONGEST: usize = 4096;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema),
    serde(rename_all = "lowercase")
)]
pub enum Version {
    /// A line of text of at most 107 bytes.
    V1,
    /// Binary, with room for extensions.
    V2,
}

impl Version {
    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// Whom a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// First bytes of version 2 (§2.2).
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

#[cfg(test)]
mod tests;
