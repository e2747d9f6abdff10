//! Packets that come in parts: only the first has ports, so the others go where it went.
use crate::config::Config;
use crate::count::Place;
use crate::maps;
use lb_common::abi::flow::{backend, fragment_stats, fragment_word, is_fragment_of};
use lb_common::abi::{Backend, Reason};

/// Of a first fragment that was passed: later ones are passed too.
pub(crate) const PASSED: Place = Place {
    service: 0,
    backend: 0,
};

/// Remembers where the first fragment goes. The last packet with the same place in the table has it.
#[inline(always)]
pub(crate) fn remember(config: &Config, hash: u64, place: Place) {
    if let Some(slot) = maps::fragment(hash) {
        slot.write(fragment_word(hash, config.stamp(), place.service, place.backend));
    }
}

/// Where the first one went.
#[inline(always)]
pub(crate) fn recall(config: &Config, hash: u64) -> Result<(Place, &'static Backend), Reason> {
    let slot = maps::fragment(hash).ok_or(Reason::FragmentUnknown)?;
    let word = slot.read();
    if !is_fragment_of(word, hash, config.stamp()) {
        return Err(Reason::FragmentUnknown);
    }
    let place = Place {
        service: fragment_stats(word),
        backend: backend(word),
    };
    if place.backend == PASSED.backend {
        return Err(Reason::NotService);
    }
    Ok((place, maps::backend(config.side, place.backend)))
}
