//! The XDP program.
//!
//! Built by `cargo xtask build-ebpf` for `bpfel-unknown-none` and embedded in `cplb`. Elsewhere it is an empty
//! program, so that tools which look at the whole workspace are content.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod program {
    use aya_ebpf::bindings::xdp_action::XDP_PASS;
    use aya_ebpf::macros::xdp;
    use aya_ebpf::programs::XdpContext;

    /// Passes everything on. Its name is `lb_common::abi::XDP_PROGRAM`.
    #[xdp]
    pub(crate) fn cplb(_: XdpContext) -> u32 {
        XDP_PASS
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
        // No path leads here: the verifier would refuse a program that could panic.
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
