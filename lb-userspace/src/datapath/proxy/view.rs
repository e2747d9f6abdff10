//! What the proxy says of itself, for `status`.
use lb_common::model::ServiceKey;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxyView {
    /// Its threads.
    pub threads: usize,
    /// Connections of clients now.
    pub sessions: usize,
    /// No more than so many at one time.
    pub most: usize,
    /// Bytes that wait in this process for slow receivers.
    pub held_bytes: usize,
    /// Its virtual servers.
    pub servers: Vec<ProxiedView>,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProxiedView {
    /// Virtual IP and port.
    pub key: ServiceKey,
    /// How its connections come here, as a sentence; `None`: they do not.
    pub how: Option<String>,
    /// Where it listens besides.
    pub listens: Vec<SocketAddr>,
    /// Clients that were taken in.
    pub accepted: u64,
    /// Clients that no server took.
    pub unserved: u64,
    /// Connections that were cut because nothing moved, or because room was needed.
    pub cut: u64,
    /// Connections without the PROXY protocol header that they should have had.
    pub headless: u64,
    /// Its servers.
    pub servers: Vec<ServerView>,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerView {
    /// Address and port.
    pub address: SocketAddr,
    /// Whether it is taken for alive.
    pub alive: bool,
    /// Connections now.
    pub active: u32,
    /// Connections that it took.
    pub sessions: u64,
    /// Connections that it did not take.
    pub failures: u64,
    /// Bytes.
    pub to_server: u64,
    /// Bytes.
    pub to_client: u64,
}
