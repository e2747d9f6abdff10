//! One server behind the proxy, as every thread sees it: how many connections it has, and whether it can be trusted.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// A server that could not be reached is tried last for so many milliseconds: until health checking has taken it out,
/// not every client is to wait for its timeout.
const DISTRUST: u64 = 2_000;

/// Shared by all threads, and kept while the server is named by any virtual server or has a session.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) address: SocketAddr,
    active: AtomicU32,
    /// Reached its limit and has not come below the mark yet.
    full: AtomicBool,
    /// Milliseconds of the proxy's clock.
    distrusted_until: AtomicU64,
    /// Dead: its sessions are to be reset.
    dead: AtomicBool,
    sessions: AtomicU64,
    failures: AtomicU64,
    pub(super) to_server: AtomicU64,
    pub(super) to_client: AtomicU64,
}

impl Backend {
    pub(super) fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            active: AtomicU32::new(0),
            full: AtomicBool::new(false),
            distrusted_until: AtomicU64::new(0),
            dead: AtomicBool::new(false),
            sessions: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
        })
    }

    /// Sessions now.
    pub(super) fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// Sessions since it is known.
    pub(super) fn sessions(&self) -> u64 {
        self.sessions.load(Relaxed)
    }

    /// Connections that it did not take.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.load(Relaxed)
    }

    pub(super) fn set_dead(&self, dead: bool) {
        self.dead.store(dead, Relaxed);
        if !dead {
            self.trust();
        }
    }

    /// Whether it failed a moment ago.
    pub(super) fn is_distrusted(&self, now: u64) -> bool {
        self.distrusted_until.load(Relaxed) > now
    }

    /// It did not take a connection. True when that is news.
    pub(super) fn failed(&self, now: u64) -> bool {
        self.failures.fetch_add(1, Relaxed);
        self.distrusted_until.swap(now + DISTRUST, Relaxed) <= now
    }

    /// It took one.
    pub(super) fn trust(&self) {
        if self.distrusted_until.load(Relaxed) != 0 {
            self.distrusted_until.store(0, Relaxed);
        }
    }
}

/// A session's place on a server; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Seat(Arc<Backend>);

impl Seat {
    /// Takes a place, unless the server is full. `most` of 0 is no limit.
    pub(super) fn take(backend: &Arc<Backend>, most: u32, resume: u32) -> Option<Self> {
        let before = backend.active.fetch_add(1, Relaxed);
        if most != 0 {
            if backend.full.load(Relaxed) {
                if before >= resume {
                    backend.active.fetch_sub(1, Relaxed);
                    return None;
                }
                backend.full.store(false, Relaxed);
            }
            if before >= most {
                backend.full.store(true, Relaxed);
                backend.active.fetch_sub(1, Relaxed);
                return None;
            }
        }
        Some(Self(backend.clone()))
    }

    pub(super) fn backend(&self) -> &Backend {
        &self.0
    }

    /// The server has taken the connection.
    pub(super) fn taken(&self) {
        self.0.sessions.fetch_add(1, Relaxed);
        self.0.trust();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_server_takes_again_only_below_its_mark() {
        let backend = Backend::new("192.0.2.1:1".parse().unwrap());
        let take = || Seat::take(&backend, 4, 3);
        let mut seats: Vec<Seat> = (0..4).map(|_| take().unwrap()).collect();
        assert!(take().is_none());
        seats.pop();
        assert!(take().is_none(), "3 is not below 3");
        seats.pop();
        assert!(take().is_some() && backend.active() == 2);
        assert!(Seat::take(&backend, 0, 0).is_some());
    }
}
