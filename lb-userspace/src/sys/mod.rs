//! The kernel, one facility a file.
pub mod guard;
pub mod rtnl;
pub mod sysctl;
