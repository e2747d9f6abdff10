//! Steers connections to a virtual server of the userspace proxy to its listening socket, wherever that is bound.
//!
//! The kernel runs this where it looks for a listening socket, in this network namespace, for packets from outside and
//! from the node itself alike; connections that are established never come here. So an API server that listens on every
//! address of the node keeps all of them but the virtual IP's port, and there is no rule that could leak, double or miss
//! local clients: the program goes with the process that holds its link.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sk_lookup;
use aya_ebpf::bindings::sk_action::SK_PASS;
use aya_ebpf::macros::{map, sk_lookup};
use aya_ebpf::maps::{PerCpuArray, SockHash};
use aya_ebpf::programs::SkLookupContext;
use lb_common::abi::steer::{IPV4, IPV6, Key, SERVERS};

/// `IPPROTO_TCP`.
const TCP: u32 = 6;

#[map]
static STEER_SOCKETS: SockHash<Key> = SockHash::with_max_entries(SERVERS, 0);

#[map]
static STEERED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Its name is `lb_common::abi::steer::PROGRAM`. Whatever it finds, the lookup goes on: without a socket from here the
/// kernel looks for one as always.
#[sk_lookup]
pub(crate) fn cplb_steer(ctx: SkLookupContext) -> u32 {
    if let Some(key) = key(&ctx)
        && STEER_SOCKETS.redirect_sk_lookup(&ctx, key, 0).is_ok()
        && let Some(count) = STEERED.get_ptr_mut(0)
    {
        // SAFETY: the value of this processor, which nobody else writes while the program runs.
        #[expect(unsafe_code, reason = "a map's value is reached by pointer")]
        unsafe {
            *count += 1;
        }
    }
    SK_PASS
}

#[inline(always)]
fn key(ctx: &SkLookupContext) -> Option<Key> {
    let lookup: *const bpf_sk_lookup = ctx.as_ptr().cast();
    // One load for each field, at its own offset from the context: the verifier takes no other.
    macro_rules! field {
        ($($field:tt)+) => {{
            // SAFETY: the context is a `bpf_sk_lookup`, whose fields the verifier lets us read.
            #[expect(unsafe_code, reason = "the context is reached by pointer")]
            unsafe {
                (&raw const (*lookup).$($field)+).read_volatile()
            }
        }};
    }
    if field!(protocol) != TCP {
        return None;
    }
    let family = field!(family);
    let address = match family {
        IPV4 => [field!(local_ip4), 0, 0, 0],
        IPV6 => [
            field!(local_ip6[0]),
            field!(local_ip6[1]),
            field!(local_ip6[2]),
            field!(local_ip6[3]),
        ],
        _ => return None,
    };
    Some(Key {
        address,
        family,
        port: field!(local_port),
    })
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // No path leads here: the verifier would refuse a program that could panic.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
