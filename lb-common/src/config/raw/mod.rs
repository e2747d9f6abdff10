//! The files' shapes: one field a key, nothing checked but the type. `None` is a key that was left out (or null).
//!
//! The doc comments of the fields become the descriptions of `cplb schema`, so they say the unit and the default.
//! k0s's types are apart from the native ones although the names are the same: k0s has fewer, and other defaults.
pub mod health;
pub mod instance;
pub mod k0s;
pub mod k0sctl;
pub mod native;
pub mod proxy;
pub mod server;
pub mod track;

pub use health::{HealthCheck, Status};
pub use instance::{Garp, VrrpInstance};
pub use native::{ConnectionSync, IpvsTimeouts, Metadata, RootArray, SyncGroup, Xdp};
pub use proxy::{Keepalive, Proxy, ProxyProtocol};
pub use server::{Granularity, Port, PortPolicy, RealServer, SorryServer, Tunnel, VirtualServer};
pub use track::{Notify, NotifyExec, Track, TrackExec};

/// A whole file.
#[derive(Clone, Debug, PartialEq)]
pub enum File {
    /// `kind: ControlPlaneLoadBalancer`.
    Native(native::ControlPlaneLoadBalancer),
    /// `kind: ClusterConfig`.
    K0s(k0s::ClusterConfig),
    /// `kind: Cluster`.
    K0sctl(k0sctl::Cluster),
}
