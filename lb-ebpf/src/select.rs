//! Which backend.
//!
//! A flow that is remembered stays where it is for as long as its backend lives. Any other goes by the client's
//! affinity, where its service has one, and then by the Maglev table, which is the same on every node: so a new holder
//! sends nearly every flow where it was without having been told.
use crate::config::Config;
use crate::count::Place;
use crate::flow::{self, Found};
use crate::maps::Ways;
use crate::receive::Flow;
use crate::traits::Traits;
use crate::{affinity, maps};
use lb_common::abi::tables::{MEMBER_ALIVE, MEMBER_NEW, RING, RING_MOVED};
use lb_common::abi::{Backend, Reason, flow as word, hash};

/// Where a packet goes.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) place: Place,
    pub(crate) backend: &'static Backend,
    /// It begins a flow.
    pub(crate) new: bool,
    /// The flow table said so.
    pub(crate) remembered: bool,
}

impl Choice {
    #[inline(always)]
    pub(crate) fn of(config: &Config, flow: &Flow, number: u32, new: bool, remembered: bool) -> Self {
        let place = Place {
            service: flow.service.stats,
            backend: number,
        };
        Self {
            place,
            backend: maps::backend(config.side, number),
            new,
            remembered,
        }
    }
}

/// Chooses. `None` where more is to be done than what `SHORT` does: all but clients' affinity, and what `is_sane` does
/// not say of a packet whose flow is not remembered.
#[inline(always)]
pub(crate) fn choose<const SHORT: bool>(
    config: &Config,
    traits: Traits,
    flow: &Flow,
    is_sane: impl FnOnce() -> bool,
) -> Result<Option<Choice>, Reason> {
    let ways = maps::ways(flow.hash).ok_or(Reason::NoBackend)?;
    let opens = traits.opens();
    let mut known = None;
    if !(opens && is_settled(config, flow))
        && let Some(found) = flow::find(ways, flow.hash)
    {
        let number = word::backend(found.word);
        // A SYN begins a connection even if its addresses and ports had one before.
        if serves(config, flow, number, opens) {
            if !traits.any(Traits::ERROR) && !refresh::<SHORT>(config, flow, ways, found) {
                return Ok(None);
            }
            return Ok(Some(Choice::of(config, flow, number, opens, true)));
        }
        let slot = found.slot(ways, flow.hash);
        if opens {
            // Nothing is remembered of a SYN; and should the old backend come back, this flow is not its.
            slot.write(word::FORGOTTEN);
        }
        known = Some(slot);
    }
    if SHORT && (flow.service.affinity != 0 || !is_sane()) {
        return Ok(None);
    }
    let new = traits.begins();
    let number = fresh::<SHORT>(config, flow, new)?;
    if traits.continues() && config.may_insert() {
        let stamp = config.stamp();
        if let Some(slot) = known.or_else(|| flow::room(ways, flow.hash, stamp)) {
            slot.write(word::word(flow.hash, stamp, word::PROBATION, number));
        }
        if !SHORT && flow.service.affinity != 0 {
            affinity::set(config, flow, number);
        }
    }
    Ok(Some(Choice::of(config, flow, number, new, false)))
}

/// The backend of a flow that is not remembered.
#[inline(always)]
fn fresh<const SHORT: bool>(config: &Config, flow: &Flow, new: bool) -> Result<u32, Reason> {
    if !SHORT
        && flow.service.affinity != 0
        && let Some(number) = affinity::get(config, flow)
        && serves(config, flow, number, new)
    {
        return Ok(number);
    }
    match ring(config, flow) & !u32::from(RING_MOVED) {
        0 => Err(Reason::NoBackend),
        number => Ok(number),
    }
}

/// Whether the flow's place has been the same backend's for as long as flows are remembered.
#[inline(always)]
fn is_settled(config: &Config, flow: &Flow) -> bool {
    flow.service.affinity == 0 && ring(config, flow) & u32::from(RING_MOVED) == 0
}

/// What the Maglev table has at the flow's place.
#[inline(always)]
fn ring(config: &Config, flow: &Flow) -> u32 {
    maps::ring(
        config.active,
        flow.service.pool,
        hash::place(flow.ring, RING as u32),
    )
}

/// Whether the backend serves the flow's service: a flow that it has, or a new one.
#[inline(always)]
fn serves(config: &Config, flow: &Flow, number: u32, new: bool) -> bool {
    let wanted = if new {
        MEMBER_ALIVE | MEMBER_NEW
    } else {
        MEMBER_ALIVE
    };
    maps::member(config.side, flow.service.pool, number) & wanted == wanted
}

/// Seen again. Written only if that says more than is there, so that the cache line stays every processor's. `false`
/// and nothing done: `SHORT` does not do it.
#[inline(always)]
fn refresh<const SHORT: bool>(config: &Config, flow: &Flow, ways: Ways, found: Found) -> bool {
    let seen = found.word;
    let now = word::word(seen, config.stamp(), word::ESTABLISHED, word::backend(seen));
    if now != seen {
        if flow.service.affinity != 0 {
            if SHORT {
                return false;
            }
            affinity::keep(config, flow, word::backend(seen));
        }
        found.slot(ways, flow.hash).write(now);
    }
    true
}
