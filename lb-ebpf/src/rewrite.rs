//! To the backend, on the network that it shares with this node.
#![expect(unsafe_code, reason = "a helper of the kernel is a foreign function")]
use crate::packet::Frame;
use crate::packet::ethernet::{Ethernet, Link};
use crate::packet::ipv4::Ipv4;
use aya_ebpf::bindings::xdp_action::XDP_TX;
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::programs::XdpContext;
use lb_common::abi::tables::BACKEND_REACHABLE;
use lb_common::abi::{Backend, GUARD_TTL, Reason};

#[inline(always)]
pub(crate) fn to_backend(
    ctx: &XdpContext,
    frame: Frame,
    link: Link,
    backend: &Backend,
) -> Result<u32, Reason> {
    if backend.flags & BACKEND_REACHABLE == 0 {
        return Err(Reason::NoNeighbour);
    }
    let ip: &mut Ipv4 = frame.at(link.l3).ok_or(Reason::BadIp)?;
    ip.set_ttl(GUARD_TTL);
    let ethernet: &mut Ethernet = frame.at(0).ok_or(Reason::BadIp)?;
    ethernet.dst = backend.mac;
    ethernet.src = backend.src_mac;
    Ok(send(ctx, backend))
}

#[inline(always)]
fn send(ctx: &XdpContext, backend: &Backend) -> u32 {
    if backend.ifindex == ctx.ingress_ifindex() as u32 {
        return XDP_TX;
    }
    // SAFETY: the helper takes numbers.
    unsafe { bpf_redirect(backend.ifindex, 0) as u32 }
}
