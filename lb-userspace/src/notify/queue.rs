//! What a hook is still to be told: so much and no more.
use super::Event;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// More changes than this are not kept for a hook that is too slow: the newest count.
pub(super) const ROOM: usize = 64;

/// A queue with one reader.
#[derive(Debug, Default)]
pub(super) struct Queue {
    inside: Mutex<Inside>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    events: VecDeque<Event>,
    /// Dropped since the reader last came.
    dropped: u64,
    closed: bool,
}

impl Queue {
    /// Never waits; the oldest goes when it is full.
    pub(super) fn push(&self, event: Event) {
        let mut inside = self.lock();
        if inside.events.len() == ROOM {
            inside.events.pop_front();
            inside.dropped += 1;
        }
        inside.events.push_back(event);
        drop(inside);
        self.changed.notify_one();
    }

    /// Nothing more comes: the reader ends when it is empty.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next event, and how many before it were dropped; `None` at the end.
    pub(super) async fn next(&self) -> Option<(Event, u64)> {
        loop {
            let changed = self.changed.notified();
            {
                let mut inside = self.lock();
                if let Some(event) = inside.events.pop_front() {
                    return Some((event, std::mem::take(&mut inside.dropped)));
                }
                if inside.closed {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// A queue that a panic left is as good as before: its parts are plain values.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
