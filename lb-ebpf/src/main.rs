//! The XDP program: what becomes of a frame before the kernel makes anything of it.
//!
//! ```text
//! packet/      headers, read through checked accessors: Ethernet and VLAN, IPv4, IPv6, TCP, UDP, ICMP
//! lookup.rs    is its destination a virtual IP that this node directs, and which service is it
//! select.rs    which backend: the flow table, then the client's affinity, then the Maglev table
//! rewrite.rs   to the backend: on the same network by its MAC address (tunnel.rs: through a tunnel)
//! control.rs   the program that the loader runs to switch sides and renew the lease
//! ```
//! Built by `cargo xtask build-ebpf` for `bpfel-unknown-none` and embedded in `cplb`. On other targets it is an empty
//! program with the same modules, so that tools which look at the whole workspace see them.
//!
//! Two rules hold on a packet's way. Everything is inlined: a call between two eBPF functions costs as much as the
//! whole lookup of a service. And nothing is looked up but in arrays, whose lookup the kernel inlines too.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

mod affinity;
mod config;
mod control;
mod count;
mod datapath;
mod flow;
mod fragment;
mod lookup;
mod maps;
mod packet;
mod receive;
mod rewrite;
mod select;
mod short;
mod too_big;
mod trace;
mod traits;
mod tunnel;

use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;

/// Its name is `lb_common::abi::XDP_PROGRAM`.
#[xdp]
#[inline(always)]
pub(crate) fn cplb(ctx: XdpContext) -> u32 {
    datapath::run::<false>(ctx)
}

/// The same for frames that span several buffers: `lb_common::abi::XDP_PROGRAM_FRAGS`.
#[xdp(frags)]
#[inline(always)]
pub(crate) fn cplb_frags(ctx: XdpContext) -> u32 {
    datapath::run::<true>(ctx)
}

/// Its name is `lb_common::abi::CONTROL_PROGRAM`.
#[xdp]
#[inline(always)]
pub(crate) fn cplb_control(ctx: XdpContext) -> u32 {
    control::run(ctx)
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No path leads here: the verifier would refuse a program that could panic.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
