//! The userspace proxy: the block `proxy`, and `proxyProtocol` of a virtual server.
use super::super::duration::GoDuration;
use alloc::string::String;
use alloc::vec::Vec;
#[cfg(feature = "serde")]
use {
    schemars::JsonSchema,
    serde::{Deserialize, Serialize},
};

/// What all virtual servers with datapath proxy share.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Proxy {
    /// Listen on this port of every address of the node as well, for the first virtual server of each family, 1-65535.
    /// Left out: on the virtual IPs alone.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 65535)))]
    pub bind_port: Option<i64>,
    /// How connections to a virtual IP come to the proxy on a node whose API server listens on every address: auto (a
    /// socket lookup program, else bind, else nftables), bind (listening on the virtual IP itself) or nftables (a table
    /// of our own). Another way counts from the next start on. Default: auto.
    #[cfg_attr(feature = "serde", schemars(with = "Option<crate::proxy::Steering>"))]
    pub steering: Option<String>,
    /// Threads, 1-64; another number counts from the next start on. Default: one for each processor, at most 4.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 64)))]
    pub threads: Option<i64>,
    /// How long a real server may take to accept a connection before the next one is tried, 10ms to 1h. Default: 2s.
    pub connect_timeout: Option<GoDuration>,
    /// How long a client may wait while all real servers are full (upperThreshold), and for the header of the PROXY
    /// protocol, 10ms to 1h. Default: 10s.
    pub queue_timeout: Option<GoDuration>,
    /// Cut a connection on which nothing has moved for so long, 1s to 8760h. 0s or left out: never. Keepalive finds dead
    /// ends without it, and a quiet `kubectl exec` is not dead.
    pub idle_timeout: Option<GoDuration>,
    /// Cut a connection that one side has ended when the other has been quiet for so long, 10ms to 24h. Default: 60s.
    pub half_close_timeout: Option<GoDuration>,
    /// TCP keepalive, to clients and real servers.
    pub keepalive: Option<Keepalive>,
    /// Connections at one time, 1-10000000. Left out: as many as there are descriptors for.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 10_000_000)))]
    pub max_connections: Option<i64>,
}

/// TCP keepalive.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct Keepalive {
    /// The first probe after so long a silence, whole seconds up to 9h; 0s: no keepalive. Default: 30s.
    pub idle: Option<GoDuration>,
    /// Between two probes, whole seconds up to 9h. Default: 10s.
    pub interval: Option<GoDuration>,
    /// So many without an answer end the connection, 1-127. Default: 3.
    #[cfg_attr(feature = "serde", schemars(range(min = 1, max = 127)))]
    pub probes: Option<i64>,
}

/// The PROXY protocol of a virtual server with datapath proxy.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(
    feature = "serde",
    derive(Serialize, Deserialize, JsonSchema),
    serde(rename_all = "camelCase", deny_unknown_fields)
)]
pub struct ProxyProtocol {
    /// Tell real servers who the client is, by a header before the first byte: v1 or v2. They must expect it; an API
    /// server does not. Left out: nothing.
    #[cfg_attr(feature = "serde", schemars(with = "Option<crate::wire::proxy::Version>"))]
    pub send: Option<String>,
    /// Networks of other proxies, such as 192.0.2.0/24: connections from there begin with a header, and are refused
    /// without one. Left out: nobody's do.
    pub accept_from: Option<Vec<String>>,
}
