//! The pure half of cplb.
//!
//! Deliberately absent: a clock, a descriptor, a thread, async, and randomness that was not handed in. Everything
//! here is a value, a codec or a machine, so that a table, a property or a simulation can try it; everything that
//! touches the kernel is in `lb-userspace`. `no_std` makes the absence a compile error.
//!
//! | feature | gives |
//! | --- | --- |
//! | (none)  | [`abi`]: what the eBPF program shares with the loader |
//! | `alloc` | the rest |
//! | `serde` | `Serialize`/`Deserialize`/`JsonSchema` on the file's types and on what `status` prints |
#![no_std]
#![warn(missing_docs)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod abi;
#[cfg(feature = "alloc")]
pub mod config;
#[cfg(feature = "alloc")]
pub mod health;
#[cfg(feature = "alloc")]
pub mod model;
#[cfg(feature = "alloc")]
pub mod plan;
#[cfg(feature = "alloc")]
pub mod proxy;
#[cfg(feature = "alloc")]
pub mod spec;
#[cfg(feature = "alloc")]
pub mod time;
#[cfg(feature = "alloc")]
pub mod vrrp;
#[cfg(feature = "alloc")]
pub mod wire;
#[cfg(feature = "alloc")]
pub mod xdp;
