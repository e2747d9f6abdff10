//! The kernel, one facility a file.
pub mod rtnl;
pub mod sysctl;
