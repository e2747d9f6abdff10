//! One direction of a session: moves bytes from one socket to the other until one of them will not.
//!
//! Small messages are copied through the thread's one buffer: two system calls, and nothing is kept between them. What
//! streams goes through a pipe by `splice`, so that its bytes are not copied. A receiver that is slower than the sender
//! leaves the rest where it is, in the sender's socket; only what was read already and could not be written is held
//! here, within a budget, and beyond that budget bytes are looked at (`MSG_PEEK`), written, and only then taken.
use super::budget::Budget;
use super::frozen::FrozenHalf;
use super::pipes::{Pipe, Pipes};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use rustix::pipe::{SpliceFlags, splice};

/// Reads in one go before others have their turn.
const ROUNDS: u8 = 16;
/// Full buffers in a row that make a direction a stream.
const STREAM: u8 = 2;
/// Bytes that one splice may move.
const SPLICE: usize = 1024 * 1024;
/// Splices in a row of less than this many bytes end the stream.
const TRICKLE: usize = 16 * 1024;

/// What a thread lends to every direction it moves.
#[derive(Debug)]
pub(super) struct Lent<'a> {
    pub(super) buffer: &'a mut [u8],
    pub(super) pipes: &'a mut Pipes,
    pub(super) budget: &'a Budget,
}

/// Read already, and not written yet.
#[derive(Debug)]
enum Held {
    Bytes { data: Box<[u8]>, at: usize },
    Pipe { pipe: Pipe, len: usize },
}

/// A direction.
#[derive(Debug)]
pub(super) struct Half {
    held: Option<Box<Held>>,
    /// Bytes written since it was last asked.
    moved: u64,
    streak: u8,
    /// The source may have something to read.
    pub(super) readable: bool,
    /// The source has said that its end comes.
    pub(super) hung_up: bool,
    /// The destination may take something.
    pub(super) writable: bool,
    /// The source's end was read.
    ended: bool,
    /// The destination was told.
    told: bool,
    streams: bool,
    /// The destination did not take all of it the last time.
    slow: bool,
    /// Something was ever written.
    pub(super) began: bool,
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// One of the sockets will say when to go on.
    Waits,
    /// There may be more at once: others first.
    More,
    /// All is written, and the end was passed on.
    Done,
    /// One of the sockets is broken.
    Broken,
}

impl Half {
    pub(super) const fn new() -> Self {
        Self {
            held: None,
            moved: 0,
            streak: 0,
            readable: false,
            hung_up: false,
            writable: true,
            ended: false,
            told: false,
            streams: false,
            slow: false,
            began: false,
        }
    }

    /// Bytes that go before anything else, such as a PROXY protocol header.
    pub(super) fn prepend(&mut self, data: Vec<u8>, budget: &Budget) {
        budget.add(data.len());
        self.held = Some(Box::new(Held::Bytes {
            data: data.into_boxed_slice(),
            at: 0,
        }));
    }

    pub(super) const fn is_done(&self) -> bool {
        self.told
    }

    /// Whether the source has ended.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Bytes written since the last call.
    pub(super) fn take_moved(&mut self) -> u64 {
        std::mem::take(&mut self.moved)
    }

    /// Gives back what holds bytes: all are written, or the session ends.
    pub(super) fn release(&mut self, pipes: &mut Pipes, budget: &Budget) {
        match self.held.take().map(|h| *h) {
            None => {}
            Some(Held::Bytes { data, .. }) => budget.sub(data.len()),
            Some(Held::Pipe { pipe, len: 0 }) => pipes.put(pipe),
            Some(Held::Pipe { .. }) => pipes.lost(),
        }
    }

    /// As it is, for another process: with what was read and not written.
    pub(super) fn freeze(&mut self, pipes: &mut Pipes, budget: &Budget) -> (FrozenHalf, Vec<u8>) {
        let held = match self.held.as_deref() {
            None => Vec::new(),
            Some(Held::Bytes { data, at }) => data.get(*at..).unwrap_or_default().to_vec(),
            Some(Held::Pipe { pipe, len }) => drained(pipe, *len),
        };
        self.release(pipes, budget);
        let frozen = FrozenHalf {
            held: held.len(),
            ended: self.ended,
            told: self.told,
            began: self.began,
        };
        (frozen, held)
    }

    /// As it was in another process. Both sockets may be ready: the first try tells.
    pub(super) fn thaw(&mut self, frozen: &FrozenHalf, held: Vec<u8>, budget: &Budget) {
        if !held.is_empty() {
            self.prepend(held, budget);
        }
        (self.ended, self.told, self.began) = (frozen.ended, frozen.told, frozen.began);
        (self.readable, self.writable) = (true, true);
    }

    /// Moves what can be moved now.
    pub(super) fn advance(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, lent: &mut Lent<'_>) -> Moved {
        for _ in 0..ROUNDS {
            match self.step(from, to, lent) {
                Ok(true) => {}
                Ok(false) if self.told => return Moved::Done,
                Ok(false) => return Moved::Waits,
                Err(_) => return Moved::Broken,
            }
        }
        Moved::More
    }

    /// One read and one write; whether there may be more.
    fn step(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, lent: &mut Lent<'_>) -> Result<bool, Errno> {
        if !self.flush(to, lent)? {
            return Ok(false);
        }
        if self.ended {
            if !self.told {
                self.told = true;
                // Not connected any more: the other direction finds out why.
                let _ = shutdown(to, Shutdown::Write);
            }
            return Ok(false);
        }
        if !self.readable || !self.writable {
            return Ok(false);
        }
        if self.streams {
            self.splice_in(from, lent)
        } else if self.slow && lent.budget.is_spent() {
            self.peek_and_take(from, to, lent)
        } else {
            self.copy(from, to, lent)
        }
    }

    /// Writes what is held. True when nothing is left.
    fn flush(&mut self, to: BorrowedFd<'_>, lent: &mut Lent<'_>) -> Result<bool, Errno> {
        let Some(held) = self.held.as_deref_mut() else {
            return Ok(true);
        };
        if !self.writable {
            return Ok(false);
        }
        let (wrote, left) = match held {
            Held::Bytes { data, at } => {
                let rest = data.get(*at..).unwrap_or_default();
                let wrote = written(send(to, rest, SendFlags::NOSIGNAL))?;
                *at += wrote;
                (wrote, data.len() - *at)
            }
            Held::Pipe { pipe, len } => {
                let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
                let wrote = written(splice(&pipe.read, None, to, None, *len, flags))?;
                *len -= wrote;
                (wrote, *len)
            }
        };
        self.wrote(wrote);
        if left > 0 {
            self.writable = false;
            return Ok(false);
        }
        self.release(lent.pipes, lent.budget);
        Ok(true)
    }

    fn copy(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, lent: &mut Lent<'_>) -> Result<bool, Errno> {
        let room = lent.buffer.len();
        let Some(read) = self.read(recv(from, &mut *lent.buffer, RecvFlags::empty()), room)? else {
            return Ok(self.readable || self.ended);
        };
        let data = lent.buffer.get(..read).unwrap_or_default();
        let wrote = written(send(to, data, SendFlags::NOSIGNAL))?;
        self.wrote(wrote);
        self.slow = wrote < read;
        if self.slow {
            self.writable = false;
            let rest: Box<[u8]> = data.get(wrote..).unwrap_or_default().into();
            lent.budget.add(rest.len());
            self.held = Some(Box::new(Held::Bytes { data: rest, at: 0 }));
        }
        self.streak = if read == room {
            self.streak.saturating_add(1)
        } else {
            0
        };
        if self.streak >= STREAM {
            self.streak = 0;
            self.streams = true;
        }
        Ok(!self.slow)
    }

    /// For a slow receiver while the budget is spent: nothing is taken that cannot be written.
    fn peek_and_take(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        lent: &mut Lent<'_>,
    ) -> Result<bool, Errno> {
        let room = lent.buffer.len();
        let Some(read) = self.read(recv(from, &mut *lent.buffer, RecvFlags::PEEK), room)? else {
            return Ok(self.readable || self.ended);
        };
        let data = lent.buffer.get_mut(..read).unwrap_or_default();
        let wrote = written(send(to, &*data, SendFlags::NOSIGNAL))?;
        self.wrote(wrote);
        let mut taken = 0;
        while taken < wrote {
            let written = data.get_mut(taken..wrote).unwrap_or_default();
            // With MSG_TRUNC TCP throws away what it would have copied (tcp(7)).
            let (_, n) = recv(from, written, RecvFlags::TRUNC)?;
            if n == 0 {
                return Err(Errno::CONNRESET);
            }
            taken += n;
        }
        self.slow = wrote < read;
        if self.slow {
            self.writable = false;
            self.readable = true;
        }
        Ok(!self.slow)
    }

    /// Into a pipe; the next step's flush takes it out, and only until then the session has one.
    fn splice_in(&mut self, from: BorrowedFd<'_>, lent: &mut Lent<'_>) -> Result<bool, Errno> {
        let Some(pipe) = lent.pipes.take() else {
            self.streams = false;
            return Ok(true);
        };
        let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
        let read = splice(from, None, &pipe.write, None, SPLICE, flags);
        if let Ok(len @ 1..) = read {
            self.held = Some(Box::new(Held::Pipe { pipe, len }));
            self.streak = if len < TRICKLE {
                self.streak.saturating_add(1)
            } else {
                0
            };
            self.streams = self.streak <= STREAM;
            return Ok(true);
        }
        lent.pipes.put(pipe);
        match read {
            Ok(_) => {
                self.ended = true;
                self.readable = false;
            }
            Err(Errno::AGAIN) => self.readable = false,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(self.readable || self.ended)
    }

    /// What a read gave; `None`: nothing now, or nothing ever again.
    fn read(&mut self, result: Result<(usize, usize), Errno>, room: usize) -> Result<Option<usize>, Errno> {
        match result {
            Ok((0, _)) => {
                self.ended = true;
                self.readable = false;
                Ok(None)
            }
            Ok((n, _)) => {
                // Less than there was room for: the socket is empty, and says when it is not. With its end announced
                // there is one more read to come, and nobody will say so again.
                self.readable = n == room || self.hung_up;
                Ok(Some(n))
            }
            Err(Errno::AGAIN) => {
                self.readable = false;
                Ok(None)
            }
            Err(Errno::INTR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn wrote(&mut self, n: usize) {
        self.moved += n as u64;
        self.began |= n > 0;
    }
}

/// What is in a pipe.
fn drained(pipe: &Pipe, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut at = 0;
    while let Some(room) = bytes.get_mut(at..).filter(|r| !r.is_empty()) {
        match rustix::io::read(&pipe.read, room) {
            Ok(n @ 1..) => at += n,
            Err(Errno::INTR) => {}
            Ok(_) | Err(_) => break,
        }
    }
    bytes.truncate(at);
    bytes
}

/// Bytes that were written: none where the socket takes none now.
fn written(result: Result<usize, Errno>) -> Result<usize, Errno> {
    match result {
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        other => other,
    }
}
