//! Everybody's health at one moment.
use super::Health;
use crate::model::ServiceKey;
use crate::spec::{RealServer, VirtualServer};
use alloc::collections::BTreeSet;
use core::net::SocketAddr;

/// A real server as one virtual server sees it: two may check it in two ways.
pub type Seat = (ServiceKey, SocketAddr);

/// What is not as well as it could be. Whatever is not named is healthy: a server that is not checked counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase", default)
)]
pub struct HealthView {
    /// They answer nothing.
    pub down: BTreeSet<Seat>,
    /// They answer that they should get nothing new.
    pub unready: BTreeSet<Seat>,
    /// They came back a while ago and get so many per cent of their share.
    pub ramping: BTreeSet<(ServiceKey, SocketAddr, u8)>,
    /// Virtual servers with too few healthy servers.
    pub lost: BTreeSet<ServiceKey>,
}

impl HealthView {
    /// How `server` is for `vs`.
    pub fn health(&self, vs: &VirtualServer, server: &RealServer) -> Health {
        self.at(&seat(vs, server))
    }

    /// How the server in this seat is.
    pub fn at(&self, seat: &Seat) -> Health {
        if self.down.contains(seat) {
            Health::Down
        } else if self.unready.contains(seat) {
            Health::Unready
        } else {
            Health::Up
        }
    }

    /// Whether `server` is healthy for `vs`.
    pub fn is_up(&self, vs: &VirtualServer, server: &RealServer) -> bool {
        self.health(vs, server) == Health::Up
    }

    /// Its share in per cent while it starts slowly; `None`: all of it.
    pub fn share(&self, vs: &VirtualServer, server: &RealServer) -> Option<u8> {
        let (key, address) = seat(vs, server);
        let mut all = self.ramping.range((key, address, 0)..=(key, address, u8::MAX));
        all.next().map(|(_, _, share)| *share)
    }

    /// Whether this node can serve `vs`: with a quorum in the file, whether that is met; else whether any server answers
    /// at all. One that answers "not ready" can be reached: what keeps it from being ready is no matter of this node.
    pub fn can_serve(&self, vs: &VirtualServer) -> bool {
        if vs.quorum.is_some() {
            return !self.lost.contains(&vs.key);
        }
        vs.real_servers.iter().any(|s| self.health(vs, s) != Health::Down)
    }
}

fn seat(vs: &VirtualServer, server: &RealServer) -> Seat {
    (vs.key, SocketAddr::new(server.address, server.port))
}
