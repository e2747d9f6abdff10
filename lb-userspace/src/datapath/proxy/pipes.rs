//! Pipes for splicing, shared by the sessions of one thread: a session has one only while bytes stream through it.
use rustix::fd::OwnedFd;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// Bytes that a pipe is made to hold. Received segments take a slot each, and there is a slot for each 4 KiB.
const CAPACITY: usize = 256 * 1024;
/// Idle pipes that are kept.
const SPARE: usize = 8;

/// A pipe; empty whenever nobody has it.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

/// Those of one thread.
#[derive(Debug)]
pub(super) struct Pipes {
    spare: Vec<Pipe>,
    /// How many more there may be.
    left: usize,
}

impl Pipes {
    /// At most `most` at one time.
    pub(super) fn new(most: usize) -> Self {
        Self {
            spare: Vec::new(),
            left: most,
        }
    }

    /// `None`: there are as many as there may be, or no descriptors for one. The caller copies then.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.spare.pop() {
            return Some(pipe);
        }
        self.left = self.left.checked_sub(1)?;
        let made = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let Ok((read, write)) = made else {
            self.left += 1;
            return None;
        };
        // Refused where a user's pipes are limited: the usual 64 KiB do as well.
        let _ = fcntl_setpipe_size(&write, CAPACITY);
        Some(Pipe { read, write })
    }

    /// Takes an empty one back.
    pub(super) fn put(&mut self, pipe: Pipe) {
        if self.spare.len() < SPARE {
            self.spare.push(pipe);
        } else {
            self.left += 1;
        }
    }

    /// One was dropped with what was in it.
    pub(super) fn lost(&mut self) {
        self.left += 1;
    }
}
