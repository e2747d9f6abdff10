//! The frame and its headers.
#![expect(
    unsafe_code,
    reason = "a frame is memory whose bounds the program checks itself; the verifier checks that it does"
)]
pub(crate) mod ethernet;
pub(crate) mod ipv4;
pub(crate) mod transport;

use aya_ebpf::programs::XdpContext;

/// The frame as it came, or its beginning where it spans several buffers.
///
/// Good until the frame's room is changed (`bpf_xdp_adjust_head`), after which there is another one.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    start: usize,
    end: usize,
}

/// What may be read from a frame: any bytes are one of it, and it may lie at any address.
///
/// # Safety
/// No padding, no invalid values, alignment 1.
pub(crate) unsafe trait Header {}

// SAFETY: 64-bit words; the packet of BPF_PROG_TEST_RUN begins at a page's headroom of 256 bytes, so it is aligned.
unsafe impl Header for lb_common::abi::Command {}

impl Frame {
    #[inline(always)]
    pub(crate) fn of(ctx: &XdpContext) -> Self {
        Self {
            start: ctx.data(),
            end: ctx.data_end(),
        }
    }

    /// Bytes, those in further buffers not counted.
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        self.end - self.start
    }

    /// A header, if all of it is there.
    #[inline(always)]
    pub(crate) fn at<T: Header>(self, offset: usize) -> Option<&'static mut T> {
        let at = self.start + offset;
        if at + size_of::<T>() > self.end {
            return None;
        }
        // SAFETY: within the frame, which is this run's alone; `Header` says that any bytes will do.
        Some(unsafe { &mut *(at as *mut T) })
    }
}
