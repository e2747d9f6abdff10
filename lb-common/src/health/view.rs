//! Everybody's health at one moment.
use alloc::collections::BTreeSet;
use core::net::{IpAddr, SocketAddr};

/// The real servers that are down. Whoever is not named is up: a server that is not checked counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct HealthView {
    /// Address and port.
    pub down: BTreeSet<SocketAddr>,
}

impl HealthView {
    /// Whether connections may go there.
    pub fn is_up(&self, address: IpAddr, port: u16) -> bool {
        !self.down.contains(&SocketAddr::new(address, port))
    }
}
