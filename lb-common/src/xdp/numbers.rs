//! Numbers that stay: flows remember a backend's, counters are kept under it, and neither survives a renumbering.
use super::ring::Seat;
use super::settled::Settled;
use crate::abi::Ring;
use crate::abi::hash::Key;
use crate::abi::tables::{BACKENDS, SERVICES, VIPS};
use crate::model::ServiceKey;
use crate::plan::Method;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

/// What a backend's number stands for. Whether it lives is each pool's own affair ([`crate::abi::Side`]), so a machine
/// needs no more than one, whatever its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BackendKey {
    /// Its own address.
    pub address: IpAddr,
    /// How packets get there.
    pub method: Method,
}

/// What is kept from one image to the next.
#[derive(Clone, Debug)]
pub struct Numbers {
    pub(super) backends: Register<BackendKey>,
    pub(super) services: Register<ServiceKey>,
    pub(super) vips: Register<IpAddr>,
    pub(super) rings: Vec<Kept>,
    pub(super) settled: Settled,
}

/// A table with its marks, and what it was made of.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) key: Key,
    pub(super) pool: Vec<Seat>,
    pub(super) ring: Arc<Ring>,
}

impl Default for Numbers {
    fn default() -> Self {
        const fn all(places: usize) -> u16 {
            places as u16
        }
        Self {
            // 0 is nobody.
            backends: Register::new(1, all(BACKENDS)),
            services: Register::new(0, all(SERVICES)),
            vips: Register::new(0, all(VIPS)),
            rings: Vec::new(),
            settled: Settled::default(),
        }
    }
}

impl Numbers {
    /// Backends that have a number now: their places in `BACKEND_STATS`.
    pub fn backends(&self) -> impl Iterator<Item = (u16, &BackendKey)> {
        self.backends.held.iter().map(|(k, n)| (*n, k))
    }

    /// Virtual servers that have a place in `SERVICE_STATS` now.
    pub fn services(&self) -> impl Iterator<Item = (u16, &ServiceKey)> {
        self.services.held.iter().map(|(k, n)| (*n, k))
    }
}

/// Who has which number of a range. One that is given back is kept for its owner until no other is left, and then the
/// one that was given back first goes to somebody else.
#[derive(Clone, Debug)]
pub(super) struct Register<K> {
    pub(super) held: BTreeMap<K, u16>,
    left: VecDeque<(K, u16)>,
    unused: core::ops::Range<u16>,
}

impl<K: Ord + Copy> Register<K> {
    pub(super) const fn new(first: u16, end: u16) -> Self {
        Self {
            held: BTreeMap::new(),
            left: VecDeque::new(),
            unused: first..end,
        }
    }

    /// Exactly `keys` hold numbers from now on. Gives back the numbers that belonged to somebody else before; what finds
    /// no number (there are more keys than numbers) has none.
    pub(super) fn hold(&mut self, keys: &BTreeSet<K>) -> Vec<u16> {
        let gone = self.held.extract_if(.., |k, _| !keys.contains(k));
        self.left.extend(gone);
        // First those that come back, so that nobody is given their numbers.
        let held = &mut self.held;
        self.left.retain(|(key, number)| {
            let back = keys.contains(key);
            if back {
                held.insert(*key, *number);
            }
            !back
        });
        let mut taken_over = Vec::new();
        for key in keys {
            if self.held.contains_key(key) {
                continue;
            }
            if let Some(number) = self.unused.next() {
                self.held.insert(*key, number);
            } else if let Some((_, number)) = self.left.pop_front() {
                self.held.insert(*key, number);
                taken_over.push(number);
            }
        }
        taken_over
    }

    pub(super) fn of(&self, key: &K) -> Option<u16> {
        self.held.get(key).copied()
    }
}

#[cfg(test)]
mod tests;
