//! Everybody's health at one moment.
use crate::spec::{HealthCheckKind, RealServer, VirtualServer};
use alloc::collections::BTreeSet;
use core::net::{IpAddr, SocketAddr};

/// What is asked: a real server, and with direct routing whether its node takes packets for a virtual IP.
pub type Question = (SocketAddr, Option<IpAddr>);

/// The questions that had a bad answer. Whatever is not named is well: a server that is not checked counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "camelCase")
)]
pub struct HealthView {
    /// Real server, and the virtual IP that was asked for.
    pub down: BTreeSet<Question>,
}

impl HealthView {
    /// Whether connections of `vs` may go to `server`.
    pub fn is_up(&self, vs: &VirtualServer, server: &RealServer) -> bool {
        vs.health_check.kind == HealthCheckKind::None || !self.down.contains(&vs.question(server))
    }
}
