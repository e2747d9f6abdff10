//! What the threads share: how many sessions there are and may be, and a letter box for each thread.
use super::budget::Budget;
use super::table::Table;
use super::thaw::{Still, Thawed};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Bytes that may wait in this process for slow receivers.
const HELD: usize = 64 * 1024 * 1024;

/// What a thread is told.
#[derive(Debug)]
pub(super) enum Message {
    /// What to serve from now on.
    Table(Arc<Table>),
    /// A client that a busier thread has accepted, its virtual server, and the table that this is in: the receiver's own
    /// may still be on its way.
    Adopt(OwnedFd, u32, Arc<Table>),
    /// Sessions of another process: go on with them.
    Thaw(Vec<Thawed>),
    /// Take no client in any more, and drop this when that is so.
    Close(Sender<()>),
    /// Give up all sessions as they are and end.
    Freeze(Sender<Vec<Still>>),
    /// Reset all sessions and end.
    Stop,
}

/// Where a thread is reached.
#[derive(Debug)]
pub(super) struct Mailbox {
    sender: Sender<Message>,
    wake: Arc<OwnedFd>,
    sessions: AtomicUsize,
}

/// A thread's end of it.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) receiver: Receiver<Message>,
    /// Readable when there is something; an eventfd.
    pub(super) wake: Arc<OwnedFd>,
}

/// Shared by all.
#[derive(Debug)]
pub(super) struct Shared {
    mailboxes: Vec<Mailbox>,
    sessions: AtomicUsize,
    most: AtomicUsize,
    pub(super) budget: Budget,
}

impl Shared {
    /// For so many threads.
    pub(super) fn new(threads: usize, most: usize) -> io::Result<(Self, Vec<Inbox>)> {
        let (mut mailboxes, mut inboxes) = (Vec::new(), Vec::new());
        for _ in 0..threads {
            let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let (sender, receiver) = channel();
            mailboxes.push(Mailbox {
                sender,
                wake: wake.clone(),
                sessions: AtomicUsize::new(0),
            });
            inboxes.push(Inbox { receiver, wake });
        }
        let shared = Self {
            mailboxes,
            sessions: AtomicUsize::new(0),
            most: AtomicUsize::new(most),
            budget: Budget::new(HELD),
        };
        Ok((shared, inboxes))
    }

    /// False when that thread has ended.
    pub(super) fn send(&self, thread: usize, message: Message) -> bool {
        let Some(mailbox) = self.mailboxes.get(thread) else {
            return false;
        };
        let sent = mailbox.sender.send(message).is_ok();
        // Full means that it is readable, which is all that is wanted.
        let _ = rustix::io::write(&mailbox.wake, &1u64.to_ne_bytes());
        sent
    }

    /// To every thread.
    pub(super) fn send_all(&self, message: impl Fn() -> Message) {
        for thread in 0..self.mailboxes.len() {
            self.send(thread, message());
        }
    }

    /// Sessions of all threads.
    pub(super) fn sessions(&self) -> usize {
        self.sessions.load(Relaxed)
    }

    /// How many there may be.
    pub(super) fn most(&self) -> usize {
        self.most.load(Relaxed)
    }

    pub(super) fn set_most(&self, most: usize) {
        self.most.store(most, Relaxed);
    }

    /// Room for one more, unless there is none.
    pub(super) fn admit(&self) -> bool {
        let room = self.sessions.fetch_add(1, Relaxed) < self.most();
        if !room {
            self.leave();
        }
        room
    }

    /// One more, room or not.
    pub(super) fn enter(&self) {
        self.sessions.fetch_add(1, Relaxed);
    }

    /// One less.
    pub(super) fn leave(&self) {
        self.sessions.fetch_sub(1, Relaxed);
    }

    /// How many sessions a thread has.
    pub(super) fn note_load(&self, thread: usize, sessions: usize) {
        if let Some(mailbox) = self.mailboxes.get(thread) {
            mailbox.sessions.store(sessions, Relaxed);
        }
    }

    /// The thread with the fewest sessions where `thread` has many more: clients that stay for hours must not all be
    /// served by whichever thread happened to be awake when they came.
    pub(super) fn less_busy(&self, thread: usize, sessions: usize) -> Option<usize> {
        let load = |m: &Mailbox| m.sessions.load(Relaxed);
        let (other, least) = self
            .mailboxes
            .iter()
            .enumerate()
            .map(|(i, m)| (i, load(m)))
            .min_by_key(|(_, load)| *load)?;
        (other != thread && sessions > least + least / 8 + 16).then_some(other)
    }
}
