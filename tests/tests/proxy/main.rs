//! The userspace proxy in the daemon: k0s's own assertions and what k0s leaves out, changes under load, and clients and
//! servers that do their worst.
mod cluster;
mod hard;
mod k0s;
mod load;
mod takeover;
