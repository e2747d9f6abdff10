//! A proxy that stands still: what a daemon hands to the one that takes its place.
//!
//! Descriptors are apart from the state, in the order in which the state names them: listening sockets, then each
//! session's client and, where it has one, server. So are the bytes that were read and not written: each session's from
//! client to server, then the others.
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
    /// What its sessions hold.
    pub held: Vec<u8>,
}

impl Frozen {
    /// One more session.
    pub(super) fn push(&mut self, still: Still) {
        self.state.sessions.push(still.session);
        self.descriptors.push(still.client);
        self.descriptors.extend(still.server);
        self.held.extend(still.up);
        self.held.extend(still.down);
    }

    /// Each socket with what it is of. Where descriptors are missing, so is the rest.
    pub(super) fn apart(self) -> (Sockets, Vec<Still>) {
        let mut descriptors = self.descriptors.into_iter();
        let mut sockets = Sockets::new();
        for (listener, socket) in self.state.listeners.iter().zip(descriptors.by_ref()) {
            sockets.insert((listener.key, listener.address), socket);
        }
        let mut held = self.held.as_slice();
        let mut bytes = |half: &FrozenHalf| {
            let (these, rest) = held.split_at(half.held.min(held.len()));
            held = rest;
            these.to_vec()
        };
        let mut sessions = Vec::new();
        for session in self.state.sessions {
            let Some(client) = descriptors.next() else { break };
            let server = if session.connected {
                descriptors.next()
            } else {
                None
            };
            sessions.push(Still {
                up: bytes(&session.up),
                down: bytes(&session.down),
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
    /// So many bytes were read and not written yet.
    pub held: usize,
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

#[cfg(test)]
mod tests {
    use super::*;
    use lb_common::model::Protocol;
    use std::fs::File;
    use std::os::unix::fs::MetadataExt;

    fn half(held: usize) -> FrozenHalf {
        FrozenHalf {
            held,
            began: true,
            ..FrozenHalf::default()
        }
    }

    #[test]
    fn everything_finds_what_it_belongs_to_also_through_text() {
        let dir = tempfile::tempdir().unwrap();
        let inode = |fd: OwnedFd| File::from(fd).metadata().unwrap().ino();
        let make = |name: &str| {
            let file = File::create(dir.path().join(name)).unwrap();
            (file.metadata().unwrap().ino(), OwnedFd::from(file))
        };
        let key = ServiceKey {
            protocol: Protocol::Tcp,
            address: "192.0.2.1".parse().unwrap(),
            port: 6443,
        };
        let address: SocketAddr = "192.0.2.1:6444".parse().unwrap();
        let mut frozen = Frozen::default();
        let (listener, fd) = make("listener");
        frozen.state.listeners.push(FrozenListener {
            key,
            address: Some(address),
        });
        frozen.descriptors.push(fd);
        let mut inodes = Vec::new();
        for (n, connected) in [true, false, true].into_iter().enumerate() {
            let (client, client_fd) = make(&format!("client{n}"));
            let (server, server_fd) = make(&format!("server{n}"));
            inodes.push((client, connected.then_some(server)));
            frozen.push(Still {
                session: FrozenSession {
                    key: None,
                    connected,
                    server: None,
                    headless: !connected,
                    addresses: (n == 1).then(|| Addresses::new(address, address)),
                    up: half(n),
                    down: half(2),
                },
                client: client_fd,
                server: connected.then_some(server_fd),
                up: vec![1; n],
                down: vec![2; 2],
            });
        }
        let text = serde_json::to_string(&frozen.state).unwrap();
        frozen.state = serde_json::from_str(&text).unwrap();
        let (mut sockets, sessions) = frozen.apart();
        assert_eq!(sockets.remove(&(key, Some(address))).map(inode), Some(listener));
        assert_eq!(sessions.len(), 3);
        for (n, (still, wanted)) in sessions.into_iter().zip(inodes).enumerate() {
            assert_eq!((still.up, still.down), (vec![1; n], vec![2; 2]));
            assert_eq!((inode(still.client), still.server.map(inode)), wanted);
            let said = still.session.addresses.map(|a| (a.source, a.destination));
            assert_eq!(said, (n == 1).then_some((address, address)));
        }
    }
}
