//! A proxy that stands still: what a daemon hands to the one that takes its place.
//!
//! Descriptors are apart from the state, in the order in which the state names them: listening sockets, then each
//! session's client and, where it has one, server.
use super::live::Sockets;
use super::thaw::Still;
use lb_common::model::ServiceKey;
use lb_common::wire::proxy::Addresses;
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// All of it.
#[derive(Debug, Default)]
pub struct Frozen {
    /// What it is.
    pub state: FrozenProxy,
    /// Its sockets.
    pub descriptors: Vec<OwnedFd>,
}

impl Frozen {
    /// Each socket with what it is of. Where descriptors are missing, so is the rest.
    pub(super) fn apart(self) -> (Sockets, Vec<Still>) {
        let mut descriptors = self.descriptors.into_iter();
        let mut sockets = Sockets::new();
        for (listener, socket) in self.state.listeners.iter().zip(descriptors.by_ref()) {
            sockets.insert((listener.key, listener.address), socket);
        }
        let mut sessions = Vec::new();
        for session in self.state.sessions {
            let Some(client) = descriptors.next() else { break };
            let server = if session.connected {
                descriptors.next()
            } else {
                None
            };
            sessions.push(Still {
                session,
                client,
                server,
            });
        }
        (sockets, sessions)
    }
}

/// Without the sockets.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenProxy {
    /// Listening sockets.
    pub listeners: Vec<FrozenListener>,
    /// Clients.
    pub sessions: Vec<FrozenSession>,
}

/// A listening socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenListener {
    /// Of which virtual server.
    pub key: ServiceKey,
    /// Where it listens besides; `None`: it is the one that gets what is steered.
    pub address: Option<SocketAddr>,
}

/// A client.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenSession {
    /// Of which virtual server; `None`: of one that was taken out of the file.
    pub key: Option<ServiceKey>,
    /// Whether there is a connection to a server.
    pub connected: bool,
    /// Which; `None`: none was found yet, or its virtual server was taken out of the file.
    pub server: Option<SocketAddr>,
    /// Its PROXY protocol header has not been read yet.
    pub headless: bool,
    /// What that header said.
    #[serde(with = "addresses")]
    pub addresses: Option<Addresses>,
    /// Client to server.
    pub up: FrozenHalf,
    /// Server to client.
    pub down: FrozenHalf,
}

/// A direction.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenHalf {
    /// Read and not written yet, in hexadecimal.
    pub held: String,
    /// The source has ended.
    pub ended: bool,
    /// The destination was told.
    pub told: bool,
    /// Something was ever written.
    pub began: bool,
}

/// As a pair of addresses.
mod addresses {
    use super::{Addresses, SocketAddr};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(a: &Option<Addresses>, s: S) -> Result<S::Ok, S::Error> {
        a.map(|a| (a.source, a.destination)).serialize(s)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Addresses>, D::Error> {
        let pair = Option::<(SocketAddr, SocketAddr)>::deserialize(d)?;
        Ok(pair.map(|(source, destination)| Addresses::new(source, destination)))
    }
}

/// Bytes as text: there are seldom any.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or_default();
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text
}

/// What is no hexadecimal is nothing.
pub(super) fn from_hex(text: &str) -> Vec<u8> {
    let digit = |b: u8| char::from(b).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| match pair {
        [high, low] => u8::try_from(digit(*high)? << 4 | digit(*low)?).ok(),
        _ => None,
    };
    pairs.map_while(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&all)), all);
        assert_eq!(from_hex(""), Vec::<u8>::new());
        assert_eq!(from_hex("0gff"), Vec::<u8>::new());
    }
}
