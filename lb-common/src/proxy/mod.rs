//! The userspace proxy, as far as it is values and arithmetic: what it is to serve, and who gets the next connection.
mod rotation;
mod settings;
mod stick;

pub use rotation::rotation;
pub use settings::{Keepalive, Settings, Steering};
pub use stick::{client, stick};

use crate::model::{IpPrefix, ServiceKey};
use crate::wire::proxy::Version;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// How a server is chosen. Weights count in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub enum Balance {
    /// In turns.
    #[default]
    RoundRobin,
    /// Whoever has the fewest connections for its weight.
    LeastConnections,
    /// By the client's address, so that a client stays.
    Source,
}

/// A virtual server as the proxy serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Proxied {
    /// The virtual IP, its port, and TCP.
    pub key: ServiceKey,
    /// Who gets the next connection.
    pub balance: Balance,
    /// Where it listens besides, without steering: k0s's `userSpaceProxyBindPort` on every address.
    pub listen: Vec<SocketAddr>,
    /// The header that servers are sent first.
    pub send_header: Option<Version>,
    /// Clients from here are other proxies: their connections begin with a header, and without one they are refused.
    pub accept_header: Vec<IpPrefix>,
    /// Whether this node holds the virtual IP.
    pub held: bool,
    /// Sorted by address and port.
    pub servers: Vec<Server>,
}

/// A server behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Server {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its share; 0 takes no new connections and keeps those it has.
    pub weight: u32,
    /// No new connections above so many (0: no limit).
    pub most: u32,
    /// Again below so many (0: three quarters of `most`).
    pub resume: u32,
    /// Whether it is alive. A dead one's connections are reset.
    pub up: bool,
}

impl Server {
    /// Address and port.
    pub const fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    /// Below how many connections a server that was full takes some again.
    pub const fn resumes_below(&self) -> u32 {
        if self.resume == 0 {
            // Rounded up: with a limit of 1 a server is free at 0.
            self.most - self.most / 4
        } else {
            self.resume
        }
    }
}
