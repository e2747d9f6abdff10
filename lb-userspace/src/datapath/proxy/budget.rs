//! How many bytes may wait in this process for receivers that are slow.
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Shared by all threads.
#[derive(Debug)]
pub(super) struct Budget {
    held: AtomicUsize,
    most: usize,
}

impl Budget {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            held: AtomicUsize::new(0),
            most,
        }
    }

    pub(super) fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes, Relaxed);
    }

    pub(super) fn sub(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Relaxed);
    }

    /// Whether no more should be taken in.
    pub(super) fn is_spent(&self) -> bool {
        self.held.load(Relaxed) >= self.most
    }

    /// Bytes now.
    pub(super) fn held(&self) -> usize {
        self.held.load(Relaxed)
    }
}
