//! From what is to be true to what must be done: `desired()`, what was `Observed`, and the `diff` of the two as a
//! `Vec<Op>` in an order that never shows a client half of it.
mod kernel;

pub use kernel::{AddressKey, DaemonRole, Destination, Lifetime, Service, SyncDaemon};
