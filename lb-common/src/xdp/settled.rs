//! Which places of a table have been the same backend's for as long as flows are remembered.
//!
//! A word of the flow table has the backend that its place had when it was written. At a place that never changed, a SYN
//! need not look for one, whatever was at its addresses and ports before: it would go where the table sends it. So every
//! place is marked ([`RING_MOVED`]) from its first change on, for each virtual server by itself, and a table that several
//! have is marked where any of them wants it.
use crate::abi::Ring;
use crate::abi::tables::{RING, RING_MOVED};
use crate::model::ServiceKey;
use crate::plan::Forwarder;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;

/// What each virtual server's places have been since the flow table began.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled(BTreeMap<ServiceKey, Past>);

/// Of one virtual server.
#[derive(Clone, Debug)]
enum Past {
    /// Its table, with its marks.
    Table(Arc<Ring>),
    /// Anything: clients' affinity chose the backends, or it was gone for a time.
    Anything,
}

impl Settled {
    /// Marks the places of a table, not marked yet, for those that have it.
    pub(super) fn mark<'a>(&self, ring: &mut Ring, users: impl Iterator<Item = &'a Forwarder>) {
        // What has affinity looks whatever the marks say.
        for service in users.filter(|s| s.affinity.is_none()) {
            match self.0.get(&service.key) {
                None => {}
                Some(Past::Anything) => ring.iter_mut().take(RING).for_each(|place| *place |= RING_MOVED),
                Some(Past::Table(before)) => {
                    for (place, before) in ring.iter_mut().zip(before.iter()) {
                        if *before & RING_MOVED != 0 || before & !RING_MOVED != *place & !RING_MOVED {
                            *place |= RING_MOVED;
                        }
                    }
                }
            }
        }
    }

    /// From now on these tables are in force, and no others.
    pub(super) fn hold<'a>(&mut self, tables: impl Iterator<Item = (&'a Forwarder, Arc<Ring>)>) {
        let mut now: BTreeMap<ServiceKey, Past> = tables
            .map(|(service, ring)| match service.affinity {
                None => (service.key, Past::Table(ring)),
                Some(_) => (service.key, Past::Anything),
            })
            .collect();
        for key in self.0.keys() {
            now.entry(*key).or_insert(Past::Anything);
        }
        self.0 = now;
    }
}

/// The table without its marks.
pub(super) fn bare(ring: &Ring) -> Box<Ring> {
    let mut bare = Box::new(*ring);
    bare.iter_mut().for_each(|place| *place &= !RING_MOVED);
    bare
}
