//! A line for each decision, where the loader asks for it (`lb_common::abi::global::TRACE`).
//!
//! Where it does not, the verifier sees a branch that is never taken and takes all of it out: the program is the same as
//! one that was never written to trace, and so is what it costs.
use crate::count::Place;
use crate::packet::ipv4::Ipv4;
use crate::packet::ipv6::Ipv6;
use crate::packet::{Frame, Xdp, ethernet};
use aya_ebpf::Global;
use aya_log_ebpf::info;
use core::net::{Ipv4Addr, Ipv6Addr};
use lb_common::abi::{REASONS, Reason};

#[expect(unsafe_code, reason = "the loader finds it by its name")]
#[unsafe(no_mangle)]
static TRACE: Global<u8> = Global::new(0);

/// Bytes of a name: those of the longest.
const NAME: usize = 16;

/// By reason, filled up with spaces. A table of slices would need relocations among data, which no loader does.
static NAMES: [[u8; NAME]; REASONS as usize] = {
    let mut names = [[b' '; NAME]; REASONS as usize];
    let mut reason = 0;
    while reason < Reason::ALL.len() {
        let name = Reason::ALL[reason].name().as_bytes();
        let mut at = 0;
        while at < name.len() {
            names[Reason::ALL[reason] as usize][at] = name[at];
            at += 1;
        }
        reason += 1;
    }
    names
};

/// The packet went to a backend. Its addresses are told as it leaves: through a tunnel, the tunnel's.
#[inline(always)]
pub(crate) fn forwarded<const FRAGS: bool>(xdp: &Xdp<FRAGS>, place: Place, remembered: bool) {
    if TRACE.load() != 0 {
        match addresses(xdp.frame()) {
            Addresses::V4(src, dst) => forwarded4(src, dst, place.service, place.backend, remembered),
            Addresses::V6(src, dst) => forwarded6(&src, &dst, place.service, place.backend, remembered),
            Addresses::None => {}
        }
    }
}

/// It went nowhere, for this reason.
#[inline(always)]
pub(crate) fn refused<const FRAGS: bool>(xdp: &Xdp<FRAGS>, reason: Reason) {
    if TRACE.load() != 0 {
        match addresses(xdp.frame()) {
            Addresses::V4(src, dst) => refused4(src, dst, reason as u32),
            Addresses::V6(src, dst) => refused6(&src, &dst, reason as u32),
            Addresses::None => refused_other(reason as u32),
        }
    }
}

enum Addresses {
    V4(u32, u32),
    V6([u64; 2], [u64; 2]),
    None,
}

#[inline(always)]
fn addresses(frame: Frame<'_>) -> Addresses {
    let Some(link) = ethernet::parse(frame) else {
        return Addresses::None;
    };
    match link.ethertype {
        ethernet::IPV4 => match frame.at::<Ipv4>(link.l3) {
            Some(ip) => Addresses::V4(ip.src, ip.dst),
            None => Addresses::None,
        },
        ethernet::IPV6 => match frame.at::<Ipv6>(link.l3) {
            Some(ip) => Addresses::V6(ip.src, ip.dst),
            None => Addresses::None,
        },
        _ => Addresses::None,
    }
}

#[inline(always)]
fn name(reason: u32) -> &'static str {
    let name = &NAMES[reason as usize & (REASONS as usize - 1)];
    // SAFETY: names are ASCII.
    #[expect(unsafe_code, reason = "looking at every byte is not for here")]
    unsafe {
        str::from_utf8_unchecked(name)
    }
}

#[inline(always)]
fn v4(address: u32) -> Ipv4Addr {
    Ipv4Addr::from(address.to_ne_bytes())
}

#[inline(always)]
fn v6([hi, lo]: [u64; 2]) -> Ipv6Addr {
    Ipv6Addr::from_bits(u128::from(u64::from_be(hi)) << 64 | u128::from(u64::from_be(lo)))
}

// Functions of their own: a line takes hundreds of instructions and much stack.

#[inline(never)]
fn forwarded4(src: u32, dst: u32, service: u32, backend: u32, remembered: bool) {
    info!(
        (),
        "{:i} to {:i}: service {}, backend {}, remembered {}",
        v4(src),
        v4(dst),
        service,
        backend,
        u8::from(remembered)
    );
}

#[inline(never)]
fn forwarded6(src: &[u64; 2], dst: &[u64; 2], service: u32, backend: u32, remembered: bool) {
    info!(
        (),
        "{:i} to {:i}: service {}, backend {}, remembered {}",
        v6(*src),
        v6(*dst),
        service,
        backend,
        u8::from(remembered)
    );
}

#[inline(never)]
fn refused4(src: u32, dst: u32, reason: u32) {
    info!((), "{:i} to {:i}: {}", v4(src), v4(dst), name(reason));
}

#[inline(never)]
fn refused6(src: &[u64; 2], dst: &[u64; 2], reason: u32) {
    info!((), "{:i} to {:i}: {}", v6(*src), v6(*dst), name(reason));
}

#[inline(never)]
fn refused_other(reason: u32) {
    info!((), "a frame without addresses: {}", name(reason));
}
