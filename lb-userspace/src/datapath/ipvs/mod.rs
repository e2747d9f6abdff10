//! The kernel's own virtual server (IPVS) over generic netlink.
//!
//! ```text
//! client  Ipvs: one method an operation, and the idempotent helpers
//!   |  codec    our types <-> attributes, pure
//!   |  socket   request, answer, dump over one netlink socket
//!   +- error    what was being done to which object, the errno, and what to do about it
//! uapi   the numbers
//! ```
//! `neli` gives the headers, the attributes and the socket, and none of its types leaves this folder.
mod client;
pub mod codec;
mod error;
mod socket;
pub mod uapi;

pub use client::{Changed, Ipvs, Observed, Table};
pub use codec::{
    Connections, ForeignDestination, ForeignService, Info, ObservedDaemon, ObservedDestination, Rates, Stats,
    SyncOptions, Timeouts, Unmodelled,
};
pub use error::{IpvsError, Operation};
