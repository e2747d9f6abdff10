//! Clients that keep their backend: a word for each client and service, in the flow table.
//!
//! The Maglev table goes by the client's address already; the word keeps a client where it is when the table changes.
use crate::config::Config;
use crate::flow;
use crate::maps::{self, Slot};
use crate::receive::Flow;
use lb_common::abi::flow as word;
use lb_common::abi::hash;

/// The hash of the client's word. A service's key holds its virtual IP's number, its protocol and its port.
#[inline(always)]
fn hash_of(config: &Config, flow: &Flow) -> u64 {
    let key = flow.service.key;
    hash::affinity(
        &config.side.key,
        flow.ring,
        key >> 32,
        (key & 0xffff) as u32,
        (key >> 16 & 0xff) as u32,
    )
}

/// The client's backend, if it was here lately.
#[inline(always)]
pub(crate) fn get(config: &Config, flow: &Flow) -> Option<u32> {
    let hash = hash_of(config, flow);
    let seen = flow::find(maps::ways(hash)?, hash)?.word;
    let recent = word::age(seen, config.stamp()) <= u64::from(flow.service.affinity);
    recent.then(|| word::backend(seen))
}

/// The client has this backend from now on. On probation, like the flow that says so: made-up clients come once.
#[inline(always)]
pub(crate) fn set(config: &Config, flow: &Flow, number: u32) {
    let hash = hash_of(config, flow);
    let Some(ways) = maps::ways(hash) else { return };
    let stamp = config.stamp();
    let (slot, class) = match flow::find(ways, hash) {
        Some(found) => (Some(found.slot(ways, hash)), word::class(found.word)),
        None => (flow::room(ways, hash, stamp), word::PROBATION),
    };
    write(slot, word::word(hash, stamp, class, number));
}

/// A flow of the client goes on. An older one that goes elsewhere changes nothing.
#[inline(always)]
pub(crate) fn keep(config: &Config, flow: &Flow, number: u32) {
    let hash = hash_of(config, flow);
    let Some(ways) = maps::ways(hash) else { return };
    let stamp = config.stamp();
    let slot = match flow::find(ways, hash) {
        Some(found) if word::backend(found.word) == number => Some(found.slot(ways, hash)),
        Some(_) => None,
        None => flow::room(ways, hash, stamp),
    };
    write(slot, word::word(hash, stamp, word::ESTABLISHED, number));
}

#[inline(always)]
fn write(slot: Option<Slot>, word: u64) {
    if let Some(slot) = slot {
        slot.write(word);
    }
}
