//! The program behind this one: it sees every packet that is passed, as if it were attached itself.
//!
//! A program array is for programs that take frames of several buffers or for those that do not (`bpf_prog_map_compatible`
//! in kernel/bpf/core.c), so a loader that loads both gives each an array of its own.
#![expect(unsafe_code, reason = "a global that the loader sets, and a jump that does not come back")]
use aya_ebpf::macros::map;
use aya_ebpf::maps::ProgramArray;
use aya_ebpf::programs::XdpContext;
use core::ptr;

/// `lb_common::abi::global::CHAIN`: read-only to the verifier, which leaves out what 0 makes unreachable.
#[unsafe(no_mangle)]
static CHAIN: u8 = 0;

#[map]
static NEXT: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Jumps to the next program where there is one; comes back where there is none.
#[inline(always)]
pub(crate) fn follow(ctx: &XdpContext) {
    // SAFETY: a byte of the read-only section, which nobody writes while the program runs.
    if unsafe { ptr::read_volatile(&raw const CHAIN) } != 0 {
        // SAFETY: the index is within the array; an empty place makes the call return.
        unsafe { NEXT.tail_call(ctx, 0) };
    }
}
