//! The flow table: `lb_common::abi::flow` says what its words are.
use crate::maps::{Slot, Ways};
use lb_common::abi::flow::{self, ESTABLISHED, STALE, TAG_SHIFT, WAYS};

/// A word that was found.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    way: usize,
    pub(crate) word: u64,
}

impl Found {
    /// Where it is. Both tags are the same and their difference is 0, which the verifier does not see: it would go
    /// through what follows once for each way.
    #[inline(always)]
    pub(crate) fn slot(self, ways: Ways, hash: u64) -> Slot {
        let nothing = (self.word >> TAG_SHIFT).wrapping_sub(hash >> TAG_SHIFT) as usize;
        ways.way(self.way.wrapping_add(nothing))
    }
}

/// The word of this hash.
///
/// Which of the places it is cannot be foretold, and a processor that guesses wrong waits until the word has come from
/// memory. So the one where it most probably is comes first.
#[inline(always)]
pub(crate) fn find(ways: Ways, hash: u64) -> Option<Found> {
    let way = flow::first_of(hash);
    let word = ways.way(way).read();
    if flow::is_of(word, hash) {
        return Some(Found { way, word });
    }
    if flow::is_empty(word) {
        return None;
    }
    for way in 0..WAYS {
        let word = ways.way(way).read();
        if flow::is_of(word, hash) {
            return Some(Found { way, word });
        }
    }
    None
}

/// What matters most when a place is sought is the highest bit.
const EMPTY: u64 = 1 << 13;
const ON_PROBATION: u64 = 1 << 12;

/// The place that a new word may take, if any: `lb_common::abi::flow` says which.
///
/// Its own place is nearly always free for it, and looking at all eight costs a packet more than anything else. The rest
/// is computed without a branch for each way: which one it will be cannot be foretold, and a wrong guess of the
/// processor costs more than all of it.
#[inline(always)]
pub(crate) fn room(ways: Ways, hash: u64, now: u64) -> Option<Slot> {
    let slot = ways.way(flow::first_of(hash));
    let there = slot.read();
    if flow::class(there) == ESTABLISHED {
        return victim(ways, hash, now);
    }
    (there < hash | flow::USED || flow::age(there, now) != 0).then_some(slot)
}

/// An empty place, else the oldest on probation, else the oldest established one if it is stale. Among equals the hash
/// decides.
#[inline(always)]
fn victim(ways: Ways, hash: u64, now: u64) -> Option<Slot> {
    let turn = (hash >> 16) & (WAYS as u64 - 1);
    let mut best = 0;
    for way in 0..WAYS {
        let word = ways.way(way).read();
        // Neither as a mask nor by a comparison: newer verifiers follow both values of a mask.
        let empty = sign(word & flow::USED).wrapping_add(1) * EMPTY;
        let probation = (flow::class(word) ^ ESTABLISHED) * ON_PROBATION;
        let rank = empty | probation | flow::age(word, now);
        let this = rank << 3 | (way as u64 ^ turn);
        // The greater of both.
        let more = this.wrapping_sub(best);
        best = this.wrapping_sub(more & sign(more));
    }
    let rank = best >> 3;
    if rank <= STALE {
        return None;
    }
    Some(ways.way(((best ^ turn) & (WAYS as u64 - 1)) as usize))
}

/// All ones if `value` is negative as a signed number, else 0. An instruction of its own, since the compiler would see
/// a comparison in the shift and make a branch of it.
#[inline(always)]
fn sign(value: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    #[expect(unsafe_code, reason = "an instruction")]
    {
        let mut value = value;
        // SAFETY: arithmetic on a register.
        unsafe { core::arch::asm!("{0} s>>= 63", inout(reg) value, options(pure, nomem, nostack)) };
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    (((value as i64) >> 63) as u64)
}
