//! Where a thread keeps its sessions: a number for each, used again, with a generation that tells an event of a session
//! that has ended from one of its successor.
use super::session::Session;

/// A session's number and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) index: u32,
    /// 24 bits.
    pub(super) generation: u32,
}

/// Bits of a generation that fit into what epoll keeps for us.
const GENERATION: u32 = 0x00ff_ffff;

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    session: Option<Session>,
}

/// The sessions of one thread.
#[derive(Debug, Default)]
pub(super) struct Slab {
    slots: Vec<Slot>,
    free: Vec<u32>,
    len: usize,
}

impl Slab {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn insert(&mut self, session: Session) -> Id {
        self.len += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let mut generation = 0;
        if let Some(slot) = self.slots.get_mut(index as usize) {
            slot.generation = (slot.generation + 1) & GENERATION;
            generation = slot.generation;
            slot.session = Some(session);
        }
        Id { index, generation }
    }

    pub(super) fn get(&mut self, id: Id) -> Option<&mut Session> {
        self.slots
            .get_mut(id.index as usize)
            .filter(|s| s.generation == id.generation)
            .and_then(|s| s.session.as_mut())
    }

    /// By number alone: for lists, which only hold what lives.
    pub(super) fn at(&mut self, index: u32) -> Option<&mut Session> {
        self.slots
            .get_mut(index as usize)
            .and_then(|s| s.session.as_mut())
    }

    pub(super) fn id(&self, index: u32) -> Option<Id> {
        let slot = self.slots.get(index as usize)?;
        slot.session.as_ref().map(|_| Id {
            index,
            generation: slot.generation,
        })
    }

    pub(super) fn remove(&mut self, id: Id) -> Option<Session> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let session = slot.session.take()?;
        self.free.push(id.index);
        self.len -= 1;
        Some(session)
    }

    /// Those for which `wanted` holds.
    pub(super) fn find(&self, mut wanted: impl FnMut(&Session) -> bool) -> Vec<Id> {
        let all = self.slots.iter().zip(0u32..);
        all.filter(|(slot, _)| slot.session.as_ref().is_some_and(&mut wanted))
            .map(|(slot, index)| Id {
                index,
                generation: slot.generation,
            })
            .collect()
    }
}
