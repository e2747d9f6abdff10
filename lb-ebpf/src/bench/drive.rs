//! Drivers: `BPF_PROG_TEST_RUN` runs a program again and again on the one frame, as the run before left it. These put
//! it back first, choose the flow, and jump into the program under test.
//!
//! The jump's place is a constant, so the kernel patches it into a direct one: 1 to 2 ns instead of 8.
#![expect(
    unsafe_code,
    reason = "a packet is raw memory; the verifier checks every access"
)]
use aya_ebpf::bindings::xdp_action::XDP_ABORTED;
use aya_ebpf::helpers::{bpf_redirect, bpf_xdp_adjust_head};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::bench::{Drive, HEAD};

#[map]
static DRIVE: Array<Drive> = Array::with_max_entries(1, 0);
#[map]
static PROGS: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// Runs the program under test on the next IPv4 frame.
#[xdp]
pub(crate) fn drive4(ctx: XdpContext) -> u32 {
    jump(ctx, put_v4)
}

/// Runs the program under test on the next IPv6 frame.
#[xdp]
pub(crate) fn drive6(ctx: XdpContext) -> u32 {
    jump(ctx, put_v6)
}

/// Sends the next IPv4 frame on its way: for live frames, which keep what was written to them too.
#[xdp]
pub(crate) fn generate4(ctx: XdpContext) -> u32 {
    match restore(&ctx, put_v4) {
        // SAFETY: a helper without pointers.
        Some(ifindex) => unsafe { bpf_redirect(ifindex, 0) as u32 },
        None => XDP_ABORTED,
    }
}

/// Writes a frame's head at the first address from the second one, for the flow with this number.
type Put = unsafe fn(*mut u8, *const u8, u32);

#[inline(always)]
fn jump(ctx: XdpContext, put: Put) -> u32 {
    if restore(&ctx, put).is_some() {
        // SAFETY: nothing here has anything to drop.
        unsafe { PROGS.tail_call(&ctx, 0) };
    }
    XDP_ABORTED
}

/// Puts the frame back and gives it the next packet's source. Answers the interface to send to.
#[inline(always)]
fn restore(ctx: &XdpContext, put: Put) -> Option<u32> {
    let drive = DRIVE.get_ptr_mut(0)?;
    // SAFETY: an element of the map, whose size is known to the verifier. Processors do not share it: the bench runs
    // on one.
    let drive = unsafe { &mut *drive };
    let length = ctx.data_end() - ctx.data();
    if length != drive.length as usize {
        let over = length as i32 - drive.length as i32;
        // SAFETY: the context is the one that we were called with.
        if unsafe { bpf_xdp_adjust_head(ctx.ctx, over) } != 0 {
            return None;
        }
    }
    let frame = ctx.data();
    if frame + HEAD > ctx.data_end() {
        return None;
    }
    let number = drive.count & drive.flows;
    drive.count = drive.count.wrapping_add(1);
    // SAFETY: both have HEAD bytes, of which no more are touched.
    unsafe { put(frame as *mut u8, drive.head.as_ptr().cast(), number) };
    Some(drive.ifindex)
}

/// Copies one `T`, aligned or not. Every field that a program reads is written as a whole or within one wider word: a
/// processor forwards such a store to the load, and waits 4 ns where two stores meet in one load.
#[inline(always)]
unsafe fn copy<T: Copy>(to: *mut u8, from: *const u8, at: usize) {
    // SAFETY: the caller's, and the machine takes words at any address.
    unsafe { *to.add(at).cast::<T>() = *from.add(at).cast::<T>() };
}

#[inline(always)]
unsafe fn put_ethernet(to: *mut u8, from: *const u8) {
    // SAFETY: the caller's.
    unsafe {
        copy::<u64>(to, from, 0);
        copy::<u32>(to, from, 8);
        copy::<u16>(to, from, 12);
    }
}

/// Source port in the low half, as it is in the packet.
#[inline(always)]
unsafe fn put_ports(to: *mut u8, from: *const u8, at: usize, number: u32) {
    // SAFETY: the caller's.
    unsafe {
        let ports = *from.add(at).cast::<u32>();
        *to.add(at).cast::<u32>() = (ports & 0xffff_0000) | (ports.wrapping_add(number) & 0xffff);
    }
}

#[inline(always)]
unsafe fn put_v4(to: *mut u8, from: *const u8, number: u32) {
    // SAFETY: the caller's.
    unsafe {
        put_ethernet(to, from);
        copy::<u64>(to, from, 14);
        copy::<u32>(to, from, 22);
        let source = *from.add(26).cast::<u32>();
        *to.add(26).cast::<u32>() = source.wrapping_add(number & 0xffff_0000);
        copy::<u32>(to, from, 30);
        put_ports(to, from, 34, number);
        copy::<u64>(to, from, 38);
        copy::<u64>(to, from, 46);
        copy::<u64>(to, from, 54);
    }
}

#[inline(always)]
unsafe fn put_v6(to: *mut u8, from: *const u8, number: u32) {
    // SAFETY: the caller's.
    unsafe {
        put_ethernet(to, from);
        copy::<u64>(to, from, 14);
        copy::<u64>(to, from, 22);
        let source = *from.add(30).cast::<u64>();
        *to.add(30).cast::<u64>() = source.wrapping_add(u64::from(number & 0xffff_0000) << 32);
        copy::<u64>(to, from, 38);
        copy::<u64>(to, from, 46);
        put_ports(to, from, 54, number);
        copy::<u32>(to, from, 58);
    }
}
