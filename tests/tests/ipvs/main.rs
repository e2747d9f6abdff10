//! The whole product where the kernel has IPVS: what k0s asserts, what it does not, leaving in every way, loops,
//! healing, connections that outlive their director, and each kind of virtual server. `cargo xtask test` runs it in a
//! guest; elsewhere every test says that it was skipped.
mod cluster;
mod established;
mod heal;
mod k0s;
mod kernel;
mod kinds;
mod leave;
mod loops;
mod takeover;
mod traffic;
mod wire;
