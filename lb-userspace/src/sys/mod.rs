//! The kernel, one facility a file.
pub mod bpf;
pub mod bpffs;
pub mod command;
pub mod direct;
pub mod ethtool;
pub mod fdpass;
pub mod guard;
pub mod icmp;
pub mod linkmon;
pub mod membarrier;
pub mod modules;
pub mod packet;
pub mod process;
pub mod rawsock;
pub mod realtime;
pub mod rtnl;
pub mod sysctl;
