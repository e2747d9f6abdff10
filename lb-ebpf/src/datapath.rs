//! A frame's way through, and the one place where what was decided becomes a verdict.
use crate::config::Config;
use crate::packet::Xdp;
use crate::packet::ethernet::{self, Link};
use crate::packet::ipv4::Ipv4;
use crate::packet::ipv6::Ipv6;
use crate::receive::Arrived;
use crate::select::Choice;
use crate::short::{self, Went};
use crate::traits::Traits;
use crate::{count, fragment, receive, rewrite, select, trace};
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::Reason;
use lb_common::abi::reason::Verdict;

/// Decides, counts, and says what the kernel is to do.
#[inline(always)]
pub(crate) fn run<const FRAGS: bool>(ctx: XdpContext) -> u32 {
    let mut xdp = Xdp::<FRAGS>::new(ctx);
    let verdict = match forward(&mut xdp) {
        Ok(verdict) => verdict,
        Err(reason) => {
            count::reason(reason);
            trace::refused(&xdp, reason);
            match reason.verdict() {
                Verdict::Pass => XDP_PASS,
                Verdict::Drop => XDP_DROP,
                Verdict::Answer => XDP_TX,
            }
        }
    };
    if verdict == XDP_PASS {
        xdp.hand_on();
    }
    verdict
}

#[inline(always)]
fn forward<const FRAGS: bool>(xdp: &mut Xdp<FRAGS>) -> Result<u32, Reason> {
    let ethertype = ethernet::first(xdp.frame()).ok_or(Reason::NotIp)?;
    let config = Config::in_force().ok_or(Reason::LeaseEnded)?;
    let went = match ethertype {
        ethernet::IPV4 => short::go::<Ipv4, FRAGS>(xdp, &config)?,
        ethernet::IPV6 => short::go::<Ipv6, FRAGS>(xdp, &config)?,
        _ => Went::Nowhere,
    };
    let (link, arrived, choice) = match went {
        Went::All(verdict) => return Ok(verdict),
        Went::Chosen(arrived, choice) => (Link::untagged(ethertype), arrived, choice),
        Went::Nowhere => {
            let link = ethernet::parse(xdp.frame())
                .ok_or(Reason::NotIp)?
                .plain(config.side);
            let (config, arrived) = receive::receive(xdp, config, link)?;
            let arrived = arrived.plain(config.side);
            let choice = choose(&config, &arrived)?;
            (link, arrived, choice)
        }
    };
    let (link, arrived) = (link.plain(config.side), arrived.plain(config.side));
    // A frame in several buffers is as long as its packet, padding being for short ones.
    let bytes = xdp.frame().len().max(link.l3 + arrived.length) as u64;
    let verdict = rewrite::to_backend(xdp, link, &arrived, choice.backend)?;
    count::forwarded(choice.place, bytes, choice.new, choice.remembered);
    trace::forwarded(xdp, choice.place, choice.remembered);
    Ok(verdict)
}

#[inline(always)]
fn choose(config: &Config, arrived: &Arrived) -> Result<Choice, Reason> {
    let Some(flow) = &arrived.flow else {
        let (place, backend) = fragment::recall(config, arrived.fragment)?;
        return Ok(Choice {
            place,
            backend,
            new: false,
            remembered: true,
        });
    };
    let choice = select::choose::<false>(config, arrived.traits, flow, || true)?.ok_or(Reason::NoBackend)?;
    if arrived.traits.any(Traits::FIRST) {
        fragment::remember(config, arrived.fragment, choice.place);
    }
    Ok(choice)
}
