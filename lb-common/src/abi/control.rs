//! The control word, and the program that alone writes it.
//!
//! The loader fills the side that nobody reads, then runs [`super::CONTROL_PROGRAM`] once by `BPF_PROG_TEST_RUN` with a
//! [`Command`] as the packet: the switch is one store, and so is the lease. A `bpf(BPF_MAP_UPDATE_ELEM)` copies bytes
//! and may be seen half done. The program leaves its [`Report`] in the packet, which is how the loader learns what a
//! jiffy is: the lease counts in them, since a clock costs a packet 30 ns and jiffies cost 1.

/// The one element of `STATE`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The side in force, 0 or 1.
    pub active: u64,
    /// Jiffies (64 bit) after which every packet is passed: a daemon that hangs must not direct.
    pub lease_until: u64,
    /// `jiffies >> stamp_shift` counts units of about 4 seconds ([`super::flow`]).
    pub stamp_shift: u64,
    /// No more new entries than this in `FLOWS`, for each processor and 1/64 of a stamp's unit.
    pub inserts: u64,
}

/// What the control program is told: the packet handed to `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// [`MAGIC`]; anything else changes nothing.
    pub magic: u64,
    /// Bits of what to set: [`SET_ACTIVE`], [`SET_LEASE`], [`SET_UNITS`]. 0 asks for the time only.
    pub set: u64,
    /// With [`SET_ACTIVE`].
    pub active: u64,
    /// With [`SET_LEASE`]: jiffies from now; 0 ends it.
    pub lease_jiffies: u64,
    /// With [`SET_UNITS`].
    pub stamp_shift: u64,
    /// With [`SET_UNITS`].
    pub inserts: u64,
    /// Room for the [`Report`].
    pub report: Report,
}

/// What the control program answers, at the end of the packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// `bpf_jiffies64`.
    pub jiffies: u64,
    /// `bpf_ktime_get_ns` (CLOCK_MONOTONIC).
    pub nanoseconds: u64,
    /// 1 when the command was understood.
    pub done: u64,
}

/// First word of a [`Command`].
pub const MAGIC: u64 = u64::from_le_bytes(*b"cplbctl1");
/// Take `active`.
pub const SET_ACTIVE: u64 = 1;
/// Take `lease_jiffies`.
pub const SET_LEASE: u64 = 2;
/// Take `stamp_shift` and `inserts`.
pub const SET_UNITS: u64 = 4;

/// The shift that makes a unit of about 4 seconds (2.6 to 5.2) where a second has `hz` jiffies.
pub const fn stamp_shift(hz: u64) -> u64 {
    let unit = hz * 4;
    let mut shift = 0;
    while (3 << shift) < unit * 2 {
        shift += 1;
    }
    shift
}
