//! Sessions in the order in which something is due for them. Each list is for one length of time, so that whoever came
//! last is due last, and joining and leaving are a few stores.
use super::slab::Slab;

/// No session.
const NONE: u32 = u32::MAX;

/// Which chain of links a list uses: a session can be in one list of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chain {
    /// Something happens to it at a time.
    Due = 0,
    /// Its server has not said a word yet.
    Silent = 1,
}

/// A session's neighbours in a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    before: u32,
    after: u32,
    linked: bool,
}

impl Links {
    pub(super) const NEW: Self = Self {
        before: NONE,
        after: NONE,
        linked: false,
    };

    /// The next in the list.
    pub(super) const fn after(&self) -> Option<u32> {
        if self.after == NONE {
            None
        } else {
            Some(self.after)
        }
    }
}

/// A list of sessions, the first due first.
#[derive(Debug)]
pub(super) struct List {
    chain: Chain,
    first: u32,
    last: u32,
}

impl List {
    pub(super) const fn new(chain: Chain) -> Self {
        Self {
            chain,
            first: NONE,
            last: NONE,
        }
    }

    pub(super) const fn first(&self) -> Option<u32> {
        if self.first == NONE {
            None
        } else {
            Some(self.first)
        }
    }

    /// To the end. It must be in no list of this chain.
    pub(super) fn push(&mut self, slab: &mut Slab, index: u32) {
        let last = self.last;
        let Some(links) = self.links(slab, index) else {
            return;
        };
        *links = Links {
            before: last,
            after: NONE,
            linked: true,
        };
        match self.links(slab, last) {
            Some(before) => before.after = index,
            None => self.first = index,
        }
        self.last = index;
    }

    /// Out of the list, if it is in it.
    pub(super) fn remove(&mut self, slab: &mut Slab, index: u32) {
        let Some(links) = self.links(slab, index).filter(|l| l.linked) else {
            return;
        };
        let Links { before, after, .. } = std::mem::replace(links, Links::NEW);
        match self.links(slab, before) {
            Some(neighbour) => neighbour.after = after,
            None => self.first = after,
        }
        match self.links(slab, after) {
            Some(neighbour) => neighbour.before = before,
            None => self.last = before,
        }
    }

    fn links<'a>(&self, slab: &'a mut Slab, index: u32) -> Option<&'a mut Links> {
        let session = slab.at(index)?;
        Some(match self.chain {
            Chain::Due => &mut session.due_links,
            Chain::Silent => &mut session.silent_links,
        })
    }
}
