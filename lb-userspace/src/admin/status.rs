//! Everything that `cplb status` knows, as one value.
use crate::health::HealthReport;
use crate::reconcile::ReconcileView;
use crate::track::TrackReport;
use crate::vrrp::RoleView;
use lb_common::plan::Service;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// A daemon at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Of the binary.
    pub version: String,
    /// Of the daemon.
    pub pid: u32,
    /// Of its guardian.
    pub guardian_pid: Option<u32>,
    /// `metadata.name`.
    pub name: String,
    /// The file in force.
    pub config: String,
    /// Milliseconds since 1970.
    pub started_ms: u64,
    /// The last attempt to read the file again.
    pub reload: Option<Reload>,
    /// The election.
    pub roles: RoleView,
    /// What the kernel holds for us.
    pub kernel: ReconcileView,
    /// Which real servers answer.
    pub health: HealthReport,
    /// What priorities depend on besides interfaces.
    #[serde(default)]
    pub track: TrackReport,
}

/// An attempt to read the file again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reload {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Why it was refused; the file before stays in force.
    pub error: Option<String>,
}

/// A virtual server as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// Its settings.
    #[serde(flatten)]
    pub service: Service,
    /// Connections since it was added.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Its real servers.
    pub destinations: Vec<DestinationView>,
}

/// A real server as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DestinationView {
    /// Where.
    pub address: SocketAddr,
    /// `DR`, `NAT` or `TUN`.
    pub forwarding: String,
    /// Its share.
    pub weight: u32,
    /// Connections that are established.
    pub active: u32,
    /// Connections that are ending.
    pub inactive: u32,
    /// Clients that are tied to it.
    pub persistent: u32,
    /// Connections since it was added.
    pub connections: u64,
}
