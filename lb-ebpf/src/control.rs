//! `cplb_control`: run by the loader through `BPF_PROG_TEST_RUN`, never attached. See `lb_common::abi::control`.
use crate::maps::{Control, jiffies, nanoseconds};
use crate::packet::Xdp;
use aya_ebpf::bindings::xdp_action::{XDP_ABORTED, XDP_PASS};
use aya_ebpf::programs::XdpContext;
use lb_common::abi::control::{Command, MAGIC, Report, SET_ACTIVE, SET_LEASE, SET_UNITS};

/// Does what the command in the packet says, and leaves the report there. `XDP_ABORTED`: it was no command.
#[inline(always)]
pub(crate) fn run(ctx: XdpContext) -> u32 {
    match obey(ctx) {
        Some(()) => XDP_PASS,
        None => XDP_ABORTED,
    }
}

#[inline(always)]
fn obey(ctx: XdpContext) -> Option<()> {
    let xdp = Xdp::<false>::new(ctx);
    let command: &mut Command = xdp.frame().at_mut(0)?;
    let state = Control::get();
    if command.magic != MAGIC {
        return None;
    }
    let now = jiffies();
    // What the side in force relies on comes before it.
    if command.set & SET_UNITS != 0 {
        state.set_stamp_shift(command.stamp_shift);
        state.set_inserts(command.inserts);
    }
    if command.set & SET_ACTIVE != 0 {
        state.set_active(command.active & 1);
    }
    if command.set & SET_LEASE != 0 {
        let until = if command.lease_jiffies == 0 {
            now.wrapping_sub(1)
        } else {
            now.wrapping_add(command.lease_jiffies)
        };
        state.set_lease_until(until);
    }
    command.report = Report {
        jiffies: now,
        nanoseconds: nanoseconds(),
        done: 1,
    };
    Some(())
}
