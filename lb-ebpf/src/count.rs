//! Every packet is counted exactly once: here, as one of its service's or for the reason why it was not forwarded.
use crate::maps;
use lb_common::abi::{Reason, Traffic};

/// Whose packet it is.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// In `SERVICE_STATS`.
    pub(crate) service: u32,
    /// Number of the backend, and its place in `BACKEND_STATS`.
    pub(crate) backend: u32,
}

#[inline(always)]
pub(crate) fn reason(reason: Reason) {
    if let Some(count) = maps::reason(reason as u32) {
        *count += 1;
    }
}

#[inline(always)]
pub(crate) fn forwarded(place: Place, bytes: u64, new: bool, remembered: bool) {
    let one = Traffic {
        packets: 1,
        bytes,
        new_flows: u64::from(new),
        remembered: u64::from(remembered),
    };
    if let Some(traffic) = maps::service_stats(place.service) {
        add(traffic, one);
    }
    if let Some(traffic) = maps::backend_stats(place.backend) {
        add(traffic, one);
    }
}

#[inline(always)]
fn add(traffic: &mut Traffic, more: Traffic) {
    traffic.packets += more.packets;
    traffic.bytes += more.bytes;
    traffic.remembered += more.remembered;
    if more.new_flows != 0 {
        traffic.new_flows += 1;
    }
}
