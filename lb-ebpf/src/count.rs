//! Every packet is counted exactly once: here, as one of its service's or for the reason why it was not forwarded.
use crate::maps;
use lb_common::abi::{Reason, Traffic};

/// A packet that went to a backend.
#[derive(Clone, Copy)]
pub(crate) struct Forwarded {
    /// Place of its service in `SERVICE_STATS`.
    pub(crate) service: u32,
    /// Its backend's number.
    pub(crate) backend: u32,
    pub(crate) bytes: u64,
    pub(crate) new: bool,
    pub(crate) remembered: bool,
}

#[inline(always)]
pub(crate) fn reason(reason: Reason) {
    if let Some(count) = maps::reason(reason as u32) {
        *count += 1;
    }
}

#[inline(always)]
pub(crate) fn forwarded(packet: Forwarded) {
    if let Some(traffic) = maps::service_stats(packet.service) {
        add(traffic, packet);
    }
    if let Some(traffic) = maps::backend_stats(packet.backend) {
        add(traffic, packet);
    }
}

#[inline(always)]
fn add(traffic: &mut Traffic, packet: Forwarded) {
    traffic.packets += 1;
    traffic.bytes += packet.bytes;
    traffic.new_flows += u64::from(packet.new);
    traffic.remembered += u64::from(packet.remembered);
}
