//! The kernel, one facility a file.
pub mod direct;
pub mod guard;
pub mod linkmon;
pub mod modules;
pub mod packet;
pub mod process;
pub mod rawsock;
pub mod realtime;
pub mod rtnl;
pub mod sysctl;
