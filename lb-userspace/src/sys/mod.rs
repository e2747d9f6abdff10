//! The kernel, one facility a file.
pub mod guard;
pub mod modules;
pub mod process;
pub mod rtnl;
pub mod sysctl;
