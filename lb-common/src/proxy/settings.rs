//! What all virtual servers of the proxy share.
use core::time::Duration;

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

/// What all virtual servers of the proxy share.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Settings {
    /// Listen on every address of the node with this port besides, for the first virtual server of each family: k0s's
    /// `userSpaceProxyBindPort`. `None`: nowhere but on the virtual IPs.
    pub bind_port: Option<u16>,
    /// How connections to a virtual IP come to the proxy.
    pub steering: Steering,
    /// Threads; `None`: one for each processor, at most 4. Counts from the next start on.
    pub threads: Option<u16>,
    /// How long one server may take to accept a connection before the next one is tried.
    pub connect_timeout: Duration,
    /// How long a client may wait for a server that is not full, and a proxy in front of us for its header.
    pub queue_timeout: Duration,
    /// Cut a connection on which nothing has moved for so long; `None`: never. Keepalive finds dead ends without
    /// cutting a `kubectl exec` that is merely quiet (kubeadm #2227).
    pub idle_timeout: Option<Duration>,
    /// Cut one whose client or server has said its last word and whose other end has been quiet for so long.
    pub half_close_timeout: Duration,
    /// TCP keepalive to both sides; `None`: off.
    pub keepalive: Option<Keepalive>,
    /// Connections at one time; `None`: as many as there are descriptors for.
    pub max_connections: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bind_port: None,
            steering: Steering::Auto,
            threads: None,
            // Long enough for one lost SYN, which is sent again after a second.
            connect_timeout: Duration::from_secs(2),
            queue_timeout: Duration::from_secs(10),
            idle_timeout: None,
            half_close_timeout: Duration::from_secs(60),
            keepalive: Some(Keepalive::default()),
            max_connections: None,
        }
    }
}

/// How connections to a virtual IP come to the proxy, on whose node an API server may listen on every address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, schemars::JsonSchema),
    serde(rename_all = "camelCase")
)]
pub enum Steering {
    /// By a socket lookup program; where the kernel takes none, by listening there; where that is taken, by nftables.
    #[default]
    Auto,
    /// By listening on the virtual IP and port itself.
    Bind,
    /// By an nftables table of our own.
    Nftables,
}

impl Steering {
    /// The name in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Bind => "bind",
            Self::Nftables => "nftables",
        }
    }
}

/// TCP keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct Keepalive {
    /// The first probe after so long a silence.
    pub idle: Duration,
    /// Between two probes.
    pub interval: Duration,
    /// So many without an answer end the connection.
    pub probes: u8,
}

impl Default for Keepalive {
    /// A dead end is found in a minute.
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            probes: 3,
        }
    }
}
