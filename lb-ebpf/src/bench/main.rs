//! Programs of `cargo xtask bench xdp`: what drives the program under test, and the floors that it is held against.
//!
//! An object of its own (`target/ebpf/lb-bench.o`), never embedded. `lb_common::abi::bench` names what is in it.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod drive;
#[cfg(target_arch = "bpf")]
mod floor;

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No path leads here: the verifier would refuse a program that could panic.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
