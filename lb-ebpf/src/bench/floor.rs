//! Floors: what no forwarder on this machine can go below.
#![expect(
    unsafe_code,
    reason = "a packet is raw memory; the verifier checks every access"
)]
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX};
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, PerCpuArray};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::flow::{SETS, Set};

/// As many places as a ring has.
const PLACES: u32 = 16384;
const ETHERNET: usize = 14;
/// Both headers without options.
const HEADERS: usize = ETHERNET + 20 + 20;
const IPV4: u16 = 0x0800_u16.to_be();
const TCP: u8 = 6;

#[map]
static TABLE: Array<u64> = Array::with_max_entries(PLACES, 0);
#[map]
static LINES: Array<Set> = Array::with_max_entries(SETS as u32, 0);
#[map]
static SEEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Does nothing at all.
#[xdp]
pub(crate) fn floor_return(_: XdpContext) -> u32 {
    XDP_PASS
}

/// Drops.
#[xdp]
pub(crate) fn floor_drop(_: XdpContext) -> u32 {
    XDP_DROP
}

/// Parses Ethernet, IPv4 and TCP, and looks the ports up in one array.
#[xdp]
pub(crate) fn floor_lookup(ctx: XdpContext) -> u32 {
    let frame = ctx.data();
    if frame + HEADERS > ctx.data_end() {
        return XDP_PASS;
    }
    // SAFETY: within the bytes that were compared with the end.
    let (kind, first, protocol, ports) = unsafe {
        (
            *((frame + 12) as *const u16),
            *((frame + ETHERNET) as *const u8),
            *((frame + ETHERNET + 9) as *const u8),
            *((frame + ETHERNET + 20) as *const u32),
        )
    };
    if kind != IPV4 || first != 0x45 || protocol != TCP {
        return XDP_PASS;
    }
    match TABLE.get((ports ^ (ports >> 16)) & (PLACES - 1)) {
        Some(0) => XDP_TX,
        _ => XDP_DROP,
    }
}

/// Parses Ethernet, IPv4 and TCP, and looks at one cache line of a table as large as the flow table: which one differs
/// by flow.
#[xdp]
pub(crate) fn floor_line(ctx: XdpContext) -> u32 {
    let frame = ctx.data();
    if frame + HEADERS > ctx.data_end() {
        return XDP_PASS;
    }
    // SAFETY: within the bytes that were compared with the end.
    let (kind, source, ports) = unsafe {
        (
            *((frame + 12) as *const u16),
            *((frame + ETHERNET + 12) as *const u32),
            *((frame + ETHERNET + 20) as *const u32),
        )
    };
    if kind != IPV4 {
        return XDP_PASS;
    }
    let hash = (u64::from(source) << 32 | u64::from(ports)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    match LINES.get((hash >> 40) as u32 & (SETS as u32 - 1)) {
        Some(line) if line[(hash & 7) as usize] != hash => XDP_TX,
        _ => XDP_DROP,
    }
}

/// Writes both MAC addresses and sends back.
#[xdp]
pub(crate) fn bare_tx(ctx: XdpContext) -> u32 {
    let frame = ctx.data();
    if frame + ETHERNET > ctx.data_end() {
        return XDP_DROP;
    }
    let words = frame as *mut u32;
    // SAFETY: within the bytes that were compared with the end. 02:00:00:00:00:01 to 02:00:00:00:00:02.
    unsafe {
        *words = 0x0000_0002;
        *words.add(1) = 0x0002_0100;
        *words.add(2) = 0x0200_0000;
    }
    XDP_TX
}

/// The other end of the wire: counts and drops.
#[xdp]
pub(crate) fn seen(_: XdpContext) -> u32 {
    if let Some(count) = SEEN.get_ptr_mut(0) {
        // SAFETY: an element of the map; each processor has its own.
        unsafe { *count += 1 };
    }
    XDP_DROP
}
