//! From what is to be true to what must be done.
//!
//! ```text
//! Spec + Roles + HealthView + Neighbours --desired()--> Desired --+
//!                                                                 +--diff()--> Vec<Op>
//! kernel --observe()--> Observed ---------------------------------+
//! ```
//! The order of the ops is a property of the plan: what a client could reach is built from the back to the front (link,
//! guard, virtual server, real servers or the XDP program's tables, address) and taken down from the front to the back, so that no client ever sees
//! half of it.
mod carry;
mod desired;
mod diff;
mod forwarding;
mod kernel;
mod observed;
mod op;
mod proxying;
#[cfg(test)]
pub(crate) mod testing;

pub use carry::{
    Carried, Carrier, Facilities, LONGEST_AFFINITY, carried, carrier, remarks, seeks_ipvs, xdp_cannot,
};
pub(crate) use carry::{ONE_PACKET, xdp_method, xdp_protocol};
pub(crate) use desired::forwarder;
pub use desired::{Context, Desired, Role, desired};
pub use diff::diff;
pub use forwarding::{Backend, Forwarder, Forwarding, Method};
pub use kernel::{
    Address, AddressKey, Bound, DaemonRole, Destination, GuardSpec, Lifetime, Place, Service, SyncDaemon,
    Sysctl,
};
pub use observed::{LocalLink, Observed, ObservedAddress};
pub use op::Op;
pub use proxying::Proxying;

/// The link that carries the VIPs of direct routing on every node: k0s's name for it.
pub const LOCAL_LINK: &str = "dummyvip0";
/// How long the kernel keeps a held address that nobody renews.
pub const LEASE: core::time::Duration = core::time::Duration::from_secs(3);
