//! The words of `FLOWS` and `FRAGS`: 64 bits that say which backend a flow has.
//!
//! ```text
//! 63                         24 23    13   12   11      0
//! tag: bits of its hash         stamp      class backend     FLOWS
//! tag: bits of its hash   stamp   service        backend     FRAGS
//! 63                   34 33   23 22      12     11      0
//! ```
//! One word is read and written whole, so nothing is ever half seen and no lock is needed; all processors share them,
//! because a flow changes processors. A tag of 39 bits (the highest says that the word is used) beside a set of 14
//! makes a wrong answer a matter of 2^-36 for a flow that is not there, and the hash is keyed, so nobody can look for one.
//!
//! A set of eight words is a cache line. A flow is put there by its first packet that is no SYN, as [`PROBATION`]; its
//! second one makes it [`ESTABLISHED`]. Each hash has a place of its own in its set ([`first_of`]), and what a new
//! word finds there decides:
//!
//! - nothing, or one on probation that was not seen in this unit of time: it takes the place;
//! - one on probation: the one with the higher tag gets the place. Two flows that take turns would else push each other
//!   out for ever;
//! - an established one: it takes another place of the set, an empty one, else the oldest on probation, else the oldest
//!   established one that was not seen for [`STALE`].
//!
//! A place that was taken once is never empty again. So a flow whose own place is empty was never put anywhere, which is
//! what nearly every new one finds as long as most of the table is empty.
//!
//! Packets with made-up sources come once, so they push each other out and nobody else.
//!
//! A fragment but the first has no ports, so `FRAGS` also keeps whose it is: the service's place in `SERVICE_STATS`.

/// Words in a set.
pub const WAYS: usize = 8;
/// Sets of `FLOWS`.
pub const SETS: usize = 1 << 14;
/// One cache line.
pub type Set = [u64; WAYS];
/// Words of `FRAGS`.
pub const FRAGS: usize = 1 << 13;

/// Seen once.
pub const PROBATION: u64 = 0;
/// Seen again.
pub const ESTABLISHED: u64 = 1;
/// In units of a stamp (about 4 s): an established flow that was not seen for so long may be replaced. 5 minutes, so
/// that TCP's and HTTP/2's keepalives count as life.
pub const STALE: u64 = 75;
/// In units of a stamp: fragments of one packet come within so much (RFC 8900 leaves hosts 30 to 60 s).
pub const FRAGMENT_LIFE: u64 = 8;

const BACKEND_BITS: u32 = 12;
const STAMP_BITS: u32 = 11;
const CLASS_SHIFT: u32 = BACKEND_BITS;
const STAMP_SHIFT: u32 = BACKEND_BITS + 1;
/// Where the tag begins.
pub const TAG_SHIFT: u32 = STAMP_SHIFT + STAMP_BITS;
const STAMP_MASK: u64 = (1 << STAMP_BITS) - 1;

/// Stamps count modulo this.
pub const STAMPS: u64 = 1 << STAMP_BITS;

/// The set of a hash.
#[inline(always)]
pub const fn set_of(hash: u64) -> u32 {
    (hash & (SETS as u64 - 1)) as u32
}

/// A hash's own place in its set, where its word is looked for first.
#[inline(always)]
pub const fn first_of(hash: u64) -> usize {
    (!(hash >> 16) & (WAYS as u64 - 1)) as usize
}

/// The place in `FRAGS` of a hash.
#[inline(always)]
pub const fn fragment_of(hash: u64) -> u32 {
    (hash & (FRAGS as u64 - 1)) as u32
}

/// The highest bit of every word that is not empty, whatever the hash's is: so a word is compared once.
pub const USED: u64 = 1 << 63;

/// A word.
#[inline(always)]
pub const fn word(hash: u64, stamp: u64, class: u64, backend: u32) -> u64 {
    (hash >> TAG_SHIFT << TAG_SHIFT)
        | USED
        | ((stamp & STAMP_MASK) << STAMP_SHIFT)
        | (class << CLASS_SHIFT)
        | backend as u64
}

/// Whether `word` is of the flow with this hash. An empty word (0) is nobody's: see [`is_empty`].
#[inline(always)]
pub const fn is_of(word: u64, hash: u64) -> bool {
    (word ^ (hash | USED)) >> TAG_SHIFT == 0
}

/// What is left of a word that is to be forgotten: nobody's, and whoever comes gets the place, for its tag is the lowest.
pub const FORGOTTEN: u64 = USED;

/// Whether there is nothing in it.
#[inline(always)]
pub const fn is_empty(word: u64) -> bool {
    word & USED == 0
}

/// Its backend, below 4096.
#[inline(always)]
pub const fn backend(word: u64) -> u32 {
    (word & ((1 << BACKEND_BITS) - 1)) as u32
}

/// [`PROBATION`] or [`ESTABLISHED`].
#[inline(always)]
pub const fn class(word: u64) -> u64 {
    (word >> CLASS_SHIFT) & 1
}

/// When it was last seen, modulo [`STAMPS`].
#[inline(always)]
pub const fn stamp(word: u64) -> u64 {
    (word >> STAMP_SHIFT) & STAMP_MASK
}

/// Units since it was last seen, where `now` is a stamp.
#[inline(always)]
pub const fn age(word: u64, now: u64) -> u64 {
    now.wrapping_sub(stamp(word)) & STAMP_MASK
}

const FRAGMENT_STAMP_SHIFT: u32 = 23;
const FRAGMENT_TAG_SHIFT: u32 = FRAGMENT_STAMP_SHIFT + STAMP_BITS;
const FRAGMENT_STATS_MASK: u64 = (1 << (FRAGMENT_STAMP_SHIFT - BACKEND_BITS)) - 1;

/// A word of `FRAGS`: `stats` is the service's place in `SERVICE_STATS`, below 2048. Its backend is had by [`backend`].
#[inline(always)]
pub const fn fragment_word(hash: u64, stamp: u64, stats: u32, backend: u32) -> u64 {
    (hash >> FRAGMENT_TAG_SHIFT << FRAGMENT_TAG_SHIFT)
        | USED
        | ((stamp & STAMP_MASK) << FRAGMENT_STAMP_SHIFT)
        | ((stats as u64 & FRAGMENT_STATS_MASK) << BACKEND_BITS)
        | backend as u64
}

/// Whether `word` is of the packet with this hash and was seen within [`FRAGMENT_LIFE`] of `now`, a stamp.
#[inline(always)]
pub const fn is_fragment_of(word: u64, hash: u64, now: u64) -> bool {
    let age = now.wrapping_sub(word >> FRAGMENT_STAMP_SHIFT) & STAMP_MASK;
    (word ^ (hash | USED)) >> FRAGMENT_TAG_SHIFT == 0 && age <= FRAGMENT_LIFE
}

/// The place in `SERVICE_STATS` that a word of `FRAGS` names.
#[inline(always)]
pub const fn fragment_stats(word: u64) -> u32 {
    ((word >> BACKEND_BITS) & FRAGMENT_STATS_MASK) as u32
}
