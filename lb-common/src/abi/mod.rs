//! What the eBPF programs share with their loader: names, layouts as plain bytes, and the hash that both compute.
//!
//! ```text
//! STATE[0]    which side is active, until when this node may direct, units of time      one 64-bit store each
//! SIDES[0|1]  virtual IPs, services, backends: one side is read, the other written      see `Side`
//! RINGS[side * POOLS + pool]   Maglev table of a pool: ring place -> backend            see `Ring`
//! FLOWS[set]  established flows and source affinities, one cache line a set             see `flow`
//! FRAGS[slot] backends of fragmented packets                                            see `flow`
//! SERVICE_STATS[service], BACKEND_STATS[backend], REASONS[reason]                       one value a processor
//! ```
//! Everything that a packet needs to be forwarded is read from one side, so that a packet sees the whole of one
//! configuration or the whole of the next. Addresses and ports are kept as they are in the packet (network order) and
//! compared as native integers: nothing is swapped on the way.
#![expect(
    clippy::cast_possible_truncation,
    reason = "each truncation keeps the bits that its line names"
)]

pub mod bench;
pub mod control;
pub mod flow;
pub mod hash;
pub mod reason;
pub mod steer;
pub mod tables;

pub use control::{Command, Report, State};
pub use reason::{REASONS, Reason};
pub use tables::{Backend, Ring, Service, Side, Traffic, Vip};

/// Name of the XDP program in the object's symbol table.
pub const XDP_PROGRAM: &str = "cplb";
/// The same program for interfaces whose frames span several buffers (jumbo MTU; kernel 5.18).
pub const XDP_PROGRAM_FRAGS: &str = "cplb_frags";
/// Name of the program that is run by `BPF_PROG_TEST_RUN` to switch sides and to renew the lease ([`control`]).
pub const CONTROL_PROGRAM: &str = "cplb_control";

/// The maps' names.
pub mod map {
    /// [`super::State`], one.
    pub const STATE: &str = ".bss.STATE";
    /// [`super::Side`], two.
    pub const SIDES: &str = "SIDES";
    /// [`super::Ring`], `2 * POOLS`.
    pub const RINGS: &str = "RINGS";
    /// [`super::flow::Set`], `flow::SETS`.
    pub const FLOWS: &str = "FLOWS";
    /// `u64`, `flow::FRAGS`.
    pub const FRAGS: &str = "FRAGS";
    /// [`super::Traffic`] per processor, `tables::SERVICES`.
    pub const SERVICE_STATS: &str = "SERVICE_STATS";
    /// [`super::Traffic`] per processor, `tables::BACKENDS`.
    pub const BACKEND_STATS: &str = "BACKEND_STATS";
    /// `u64` per processor, `REASONS`.
    pub const REASONS: &str = "REASONS";
    /// Of the program alone: what [`super::State::inserts`] bounds, per processor.
    pub const BUDGET: &str = "BUDGET";
    /// A `ProgramArray` of one: the program that sees what [`super::XDP_PROGRAM`] passes.
    pub const NEXT: &str = "NEXT";
    /// The same for [`super::XDP_PROGRAM_FRAGS`]: an array takes only programs that are of one mind about frames in
    /// several buffers.
    pub const NEXT_FRAGS: &str = "NEXT_FRAGS";
}

/// Read-only globals that the loader sets before the verifier sees the program, so that what is off costs nothing.
pub mod global {
    /// `u8`: 1 logs each decision through `aya-log`.
    pub const TRACE: &str = "TRACE";
    /// `u8`: 1 hands packets that are passed to the program in [`super::map::NEXT`] or [`super::map::NEXT_FRAGS`].
    pub const CHAIN: &str = "CHAIN";
    /// [`super::State`]: what [`super::map::STATE`] begins with.
    pub const STATE: &str = "STATE";
}

/// Frames with this TTL or hop limit, or less, are never forwarded; one that is forwarded leaves with exactly this. So
/// no frame passes two directors, whatever they believe, and a backend that hands it on to a pod still can.
pub const GUARD_TTL: u8 = 4;

/// TTL or hop limit of what the program sends on its own: a tunnel's outer header, an answer that a packet is too big.
pub const OUTER_TTL: u8 = 64;
