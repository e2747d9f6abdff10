//! Which backend.
use crate::datapath::Now;
use crate::maps::{self, Slot, Ways};
use crate::packet::transport::Tcp;
use lb_common::abi::flow::{self, ESTABLISHED, WAYS};
use lb_common::abi::tables::{MEMBER_ALIVE, MEMBER_NEW, RING};
use lb_common::abi::{Backend, Reason, Service, hash};

/// What a packet says about its flow.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// A SYN: a new connection, of which nothing is remembered before its client has answered.
    Opens,
    /// TCP data or acknowledgements.
    Continues,
    /// A FIN or RST, or flags that mean nothing: goes where the flow goes.
    Other,
}

impl Meaning {
    #[inline(always)]
    pub(crate) fn of_tcp(tcp: &Tcp) -> Self {
        if tcp.opens() {
            Self::Opens
        } else if tcp.continues() {
            Self::Continues
        } else {
            Self::Other
        }
    }
}

/// A packet of a service.
pub(crate) struct Flow {
    pub(crate) service: &'static Service,
    pub(crate) hash: u64,
    pub(crate) meaning: Meaning,
}

/// Where it goes.
#[derive(Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) number: u32,
    pub(crate) backend: &'static Backend,
    pub(crate) new: bool,
    pub(crate) remembered: bool,
}

#[inline(always)]
pub(crate) fn choose(now: &Now, flow: &Flow) -> Result<Choice, Reason> {
    let ways = Ways::of(flow.hash).ok_or(Reason::NoBackend)?;
    let new = flow.meaning == Meaning::Opens;
    if let Some((slot, word)) = find(ways, flow.hash) {
        let number = flow::backend(word);
        let wanted = if new {
            MEMBER_ALIVE | MEMBER_NEW
        } else {
            MEMBER_ALIVE
        };
        if maps::member(now.side, flow.service.pool, number) & wanted == wanted {
            let backend = maps::backend(now.side, number);
            refresh(slot, word, now.stamp());
            return Ok(Choice {
                number,
                backend,
                new,
                remembered: true,
            });
        }
    }
    let place = hash::place(flow.hash, RING as u32);
    let number = maps::ring(now.active, flow.service.pool, place);
    if number == 0 {
        return Err(Reason::NoBackend);
    }
    Ok(Choice {
        number,
        backend: maps::backend(now.side, number),
        new,
        remembered: false,
    })
}

#[inline(always)]
fn find(ways: Ways, hash: u64) -> Option<(Slot, u64)> {
    for way in 0..WAYS {
        let slot = ways.way(way);
        let word = slot.read();
        if flow::is_of(word, hash) {
            return Some((slot, word));
        }
    }
    None
}

/// Seen again. Written only if that says more than is there, so that the cache line stays every processor's.
#[inline(always)]
fn refresh(slot: Slot, word: u64, stamp: u64) {
    let fresh = flow::word(word, stamp, ESTABLISHED, flow::backend(word));
    if fresh != word {
        slot.write(fresh);
    }
}
