//! The kernel, one facility a file.
pub mod linkmon;
pub mod packet;
pub mod rawsock;
pub mod realtime;
pub mod rtnl;
pub mod sysctl;
