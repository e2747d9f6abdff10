//! A frame's way through, and the one place where what was decided becomes a verdict.
use crate::maps::{self, Control};
use crate::packet::Frame;
use crate::packet::ethernet::{self, Ethernet, Link};
use crate::packet::ipv4::Ipv4;
use crate::packet::transport::{TCP, Tcp};
use crate::select::{Choice, Flow, Meaning};
use crate::{count, lookup, rewrite, select};
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::reason::Verdict;
use lb_common::abi::tables::IPV4;
use lb_common::abi::{GUARD_TTL, Reason, Side, Vip, hash};

/// Decides, counts, and says what the kernel is to do.
#[inline(always)]
pub(crate) fn run(ctx: &XdpContext) -> u32 {
    match decide(ctx) {
        Ok(verdict) => verdict,
        Err(reason) => {
            count::reason(reason);
            match reason.verdict() {
                Verdict::Pass => XDP_PASS,
                Verdict::Drop => XDP_DROP,
                Verdict::Answer => XDP_TX,
            }
        }
    }
}

/// What all layers need.
#[derive(Clone, Copy)]
pub(crate) struct Now {
    pub(crate) control: Control,
    /// The side in force when the frame came.
    pub(crate) active: u64,
    pub(crate) side: &'static Side,
    pub(crate) jiffies: u64,
}

impl Now {
    /// For `FLOWS`; only its low bits count.
    #[inline(always)]
    pub(crate) fn stamp(&self) -> u64 {
        self.jiffies >> (self.control.stamp_shift() & 63)
    }
}

#[inline(always)]
fn decide(ctx: &XdpContext) -> Result<u32, Reason> {
    let frame = Frame::of(ctx);
    let link = ethernet::parse(frame).ok_or(Reason::NotIp)?;
    let control = Control::get().ok_or(Reason::LeaseEnded)?;
    let active = control.active();
    let side = maps::side(active).ok_or(Reason::LeaseEnded)?;
    if link.ethertype != ethernet::IPV4 {
        return Err(Reason::NotIp);
    }
    let ip: &Ipv4 = frame.at(link.l3).ok_or(Reason::NotIp)?;
    let vip = lookup::vip(side, IPV4, u64::from(ip.dst)).ok_or(Reason::NotVip)?;
    let now = Now {
        control,
        active,
        side,
        jiffies: maps::jiffies(),
    };
    check_arrival(&now, frame, link, vip)?;
    if ip.ttl <= GUARD_TTL {
        return Err(Reason::Guarded);
    }
    let flow = classify(&now, frame, link, ip, vip)?;
    let choice = select::choose(&now, &flow)?;
    forward(ctx, frame, link, flow.service.stats, choice)
}

/// May this node direct it, and was it sent here?
#[inline(always)]
fn check_arrival(now: &Now, frame: Frame, link: Link, vip: &Vip) -> Result<(), Reason> {
    if (now.jiffies.wrapping_sub(now.control.lease_until()) as i64) > 0 {
        return Err(Reason::LeaseEnded);
    }
    let ethernet: &Ethernet = frame.at(0).ok_or(Reason::NotIp)?;
    if link.vlan != vip.vlan || ethernet.dst != vip.mac {
        return Err(Reason::NotForUs);
    }
    Ok(())
}

#[inline(always)]
fn classify(now: &Now, frame: Frame, link: Link, ip: &Ipv4, vip: &Vip) -> Result<Flow, Reason> {
    let l4 = link.l3 + ip.header_length();
    if ip.proto != TCP {
        return Err(Reason::NotService);
    }
    let tcp: &Tcp = frame.at(l4).ok_or(Reason::BadTransport)?;
    if tcp.header_length() < size_of::<Tcp>() {
        return Err(Reason::BadTransport);
    }
    let ports = tcp.ports;
    let service = lookup::service(now.side, vip, TCP, (ports >> 16) as u16).ok_or(Reason::NotService)?;
    let hash = hash::flow4(&now.side.key, ip.src, ip.dst, ports, u32::from(TCP));
    Ok(Flow {
        service,
        hash,
        meaning: Meaning::of_tcp(tcp),
    })
}

#[inline(always)]
fn forward(ctx: &XdpContext, frame: Frame, link: Link, service: u32, choice: Choice) -> Result<u32, Reason> {
    let verdict = rewrite::to_backend(ctx, frame, link, choice.backend)?;
    count::forwarded(count::Forwarded {
        service,
        backend: choice.number,
        bytes: frame.len() as u64,
        new: choice.new,
        remembered: choice.remembered,
    });
    Ok(verdict)
}
