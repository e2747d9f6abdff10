//! The frame and its headers, read through accessors that check.
#![expect(
    unsafe_code,
    reason = "a frame is memory whose bounds the program checks itself; the verifier checks that it does"
)]
pub(crate) mod ethernet;
pub(crate) mod icmp;
pub(crate) mod ipv4;
pub(crate) mod ipv6;
pub(crate) mod transport;

use crate::maps;
use aya_ebpf::helpers::generated::{
    bpf_csum_diff, bpf_redirect, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
};
use aya_ebpf::programs::XdpContext;
use core::marker::PhantomData;
use core::ptr;

/// What may be read from a frame, at any address.
///
/// # Safety
/// Any bytes are one of it: no padding, no invalid values. Alignment 1, or of the frame's beginning.
pub(crate) unsafe trait Header {}

// SAFETY: bytes.
unsafe impl<const N: usize> Header for [u8; N] {}
// SAFETY: 64-bit words without gaps; BPF_PROG_TEST_RUN puts a packet at a page's beginning plus 256 bytes.
unsafe impl Header for lb_common::abi::Command {}

/// The run of the program. `FRAGS`: frames may span several buffers, of which only the first is seen as memory.
pub(crate) struct Xdp<const FRAGS: bool> {
    ctx: XdpContext,
}

impl<const FRAGS: bool> Xdp<FRAGS> {
    #[inline(always)]
    pub(crate) fn new(ctx: XdpContext) -> Self {
        Self { ctx }
    }

    /// The frame. It is borrowed, since making room puts it elsewhere.
    #[inline(always)]
    pub(crate) fn frame(&self) -> Frame<'_> {
        let (start, end) = bounds(&self.ctx);
        Frame {
            start,
            end,
            of: PhantomData,
        }
    }

    /// Index of the interface that it came by.
    #[inline(always)]
    pub(crate) fn ingress(&self) -> u32 {
        self.ctx.ingress_ifindex() as u32
    }

    /// Whether the frame has so many bytes. Only one that spans several buffers is measured by a call.
    #[inline(always)]
    pub(crate) fn has(&self, frame: Frame<'_>, bytes: usize) -> bool {
        bytes <= frame.len() || (FRAGS && bytes <= self.length())
    }

    /// Bytes in all buffers.
    #[inline(always)]
    pub(crate) fn length(&self) -> usize {
        if !FRAGS {
            return self.frame().len();
        }
        // SAFETY: the context is this run's.
        unsafe { bpf_xdp_get_buff_len(self.ctx.ctx) as usize }
    }

    /// Puts so many bytes before the frame. Their content is anything.
    #[inline(always)]
    pub(crate) fn make_room(&mut self, bytes: i32) -> Result<(), Refused> {
        // SAFETY: the context is this run's, and nothing of the old frame is borrowed.
        match unsafe { bpf_xdp_adjust_head(self.ctx.ctx, -bytes) } {
            0 => Ok(()),
            _ => Err(Refused),
        }
    }

    /// Cuts the frame after so many bytes, of which it has more.
    #[inline(always)]
    pub(crate) fn cut(&mut self, bytes: usize) -> Result<(), Refused> {
        let more = bytes as i32 - self.length() as i32;
        // SAFETY: as above.
        match unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, more) } {
            0 => Ok(()),
            _ => Err(Refused),
        }
    }

    /// Hands the frame to the next program, if there is one: then this does not return.
    #[inline(always)]
    pub(crate) fn hand_on(&self) {
        maps::next::<FRAGS>(&self.ctx);
    }

    /// Sends the frame from another interface. The answer is the program's verdict.
    #[inline(always)]
    pub(crate) fn redirect(&self, ifindex: u32) -> u32 {
        // SAFETY: the helper takes numbers.
        unsafe { bpf_redirect(ifindex, 0) as u32 }
    }
}

/// The kernel did not make room.
#[derive(Clone, Copy)]
pub(crate) struct Refused;

/// The frame's bytes, or its beginning where it spans several buffers.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    start: usize,
    end: usize,
    of: PhantomData<&'a ()>,
}

impl<'a> Frame<'a> {
    /// Bytes, those in further buffers not counted.
    #[inline(always)]
    pub(crate) fn len(self) -> usize {
        difference(self.end, self.start)
    }

    #[inline(always)]
    fn pointer<T: Header>(self, offset: usize) -> Option<*mut T> {
        let at = self.start + offset;
        if at + size_of::<T>() > self.end {
            return None;
        }
        Some(at as *mut T)
    }

    /// A header, if all of it is there.
    #[inline(always)]
    pub(crate) fn at<T: Header>(self, offset: usize) -> Option<&'a T> {
        // SAFETY: within the frame, which is this run's alone; `Header` says that any bytes will do.
        self.pointer(offset).map(|header: *mut T| unsafe { &*header })
    }

    /// The same, to be written. What was read of these bytes before is not to be looked at any more.
    #[inline(always)]
    pub(crate) fn at_mut<T: Header>(self, offset: usize) -> Option<&'a mut T> {
        // SAFETY: as above.
        self.pointer(offset).map(|header: *mut T| unsafe { &mut *header })
    }
}

/// Where the frame begins and ends. Not by an ordinary load: from a field of 32 bits the compiler concludes that sums
/// with it do not wrap, and then leaves out comparisons that follow from others, which the verifier wants all the same.
#[inline(always)]
fn bounds(ctx: &XdpContext) -> (usize, usize) {
    #[cfg(target_arch = "bpf")]
    {
        let (start, end);
        // SAFETY: two fields of the context, at places that the kernel promises.
        unsafe {
            core::arch::asm!("{0} = *(u32 *)({1} + 0)", out(reg) start, in(reg) ctx.ctx, options(pure, readonly, nostack));
            core::arch::asm!("{0} = *(u32 *)({1} + 4)", out(reg) end, in(reg) ctx.ctx, options(pure, readonly, nostack));
        }
        (start, end)
    }
    #[cfg(not(target_arch = "bpf"))]
    (ctx.data(), ctx.data_end())
}

/// Of two pointers, in one 64-bit instruction: where less of the result is wanted, the compiler would take the difference
/// of the pointers' low halves, which the verifier forbids.
#[inline(always)]
fn difference(end: usize, start: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut length = end;
        // SAFETY: arithmetic on registers.
        unsafe {
            core::arch::asm!("{0} -= {1}", inout(reg) length, in(reg) start, options(pure, nomem, nostack));
        }
        length
    }
    #[cfg(not(target_arch = "bpf"))]
    end.wrapping_sub(start)
}

/// Adds the 16-bit words of `bytes` to an unfolded sum. The kernel takes no more than 512 bytes at a time, and only
/// lengths that are a multiple of 4.
#[inline(always)]
pub(crate) fn sum<const N: usize>(bytes: &[u8; N], sum: u32) -> u32 {
    const {
        assert!(
            N.is_multiple_of(4) && N <= 512,
            "bpf_csum_diff takes no such length"
        )
    };
    // SAFETY: the helper reads `N` bytes.
    unsafe {
        bpf_csum_diff(
            ptr::null_mut(),
            0,
            ptr::from_ref(bytes).cast_mut().cast(),
            N as u32,
            sum,
        ) as u32
    }
}

/// Folds a sum of 16-bit words into one.
#[inline(always)]
pub(crate) fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}
