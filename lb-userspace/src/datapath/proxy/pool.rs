//! The servers of one virtual server that may get connections now, and who of them gets the next one.
use super::backend::{Backend, Seat};
use lb_common::proxy::{Balance, client, rotation, stick};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) backend: Arc<Backend>,
    /// Never 0: a server of weight 0 is in no pool.
    pub(super) weight: u32,
    pub(super) most: u32,
    pub(super) resume: u32,
}

/// Immutable but for its counters; a change makes another.
#[derive(Debug)]
pub(super) struct Pool {
    balance: Balance,
    members: Vec<Member>,
    /// Indices into `members`.
    rotation: Vec<u16>,
    turn: AtomicUsize,
}

/// The answer.
#[derive(Debug)]
pub(super) enum Pick {
    /// This one, and its place is taken.
    Taken(Seat),
    /// All have as many as they may.
    Full,
    /// There is nobody.
    Empty,
}

impl Pool {
    pub(super) fn new(balance: Balance, members: Vec<Member>) -> Self {
        let weights: Vec<u32> = members.iter().map(|m| m.weight).collect();
        Self {
            balance,
            rotation: rotation(&weights),
            members,
            turn: AtomicUsize::new(0),
        }
    }

    /// How many servers there are to try.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Takes a place on the next server. Those that failed a moment ago only when nobody else has room.
    pub(super) fn pick(&self, from: impl FnOnce() -> Option<IpAddr>, now: u64) -> Pick {
        if self.members.is_empty() {
            return Pick::Empty;
        }
        let from = match self.balance {
            Balance::Source => from().map_or(0, client),
            Balance::RoundRobin | Balance::LeastConnections => 0,
        };
        let trusted = |m: &Member| !m.backend.is_distrusted(now);
        self.among(from, trusted)
            .or_else(|| self.among(from, |m| !trusted(m)))
            .map_or(Pick::Full, Pick::Taken)
    }

    fn among(&self, from: u64, wanted: impl Fn(&Member) -> bool) -> Option<Seat> {
        match self.balance {
            Balance::RoundRobin => self.next_in_turn(wanted),
            Balance::LeastConnections => self.least_loaded(wanted),
            Balance::Source => self.stuck(from, wanted),
        }
    }

    fn next_in_turn(&self, wanted: impl Fn(&Member) -> bool) -> Option<Seat> {
        // One step for each connection, whoever is skipped: a failed server's turns go to its successors in turn.
        let start = self.turn.fetch_add(1, Relaxed);
        let len = self.rotation.len();
        let order = (0..len).filter_map(|i| self.rotation.get((start.wrapping_add(i)) % len));
        order
            .filter_map(|i| self.members.get(usize::from(*i)))
            .filter(|m| wanted(m))
            .find_map(Member::take)
    }

    fn least_loaded(&self, wanted: impl Fn(&Member) -> bool) -> Option<Seat> {
        // Equals take turns, so that an idle pool does not begin with the same server each time.
        let start = self.turn.fetch_add(1, Relaxed) % self.members.len();
        let (after, before) = self.members.split_at(start);
        let mut order: Vec<(&Member, u64)> = before
            .iter()
            .chain(after)
            .filter(|m| wanted(m))
            .map(|m| (m, u64::from(m.backend.active()) + 1))
            .collect();
        // load / weight, without a division.
        order.sort_by(|(a, x), (b, y)| (x * u64::from(b.weight)).cmp(&(y * u64::from(a.weight))));
        order.into_iter().find_map(|(m, _)| m.take())
    }

    /// The client's own server, and where that one has no room its second best.
    fn stuck(&self, from: u64, wanted: impl Fn(&Member) -> bool) -> Option<Seat> {
        let mut left: Vec<&Member> = self.members.iter().filter(|m| wanted(m)).collect();
        while let Some(at) = stick(from, left.iter().map(|m| (name(m), m.weight))) {
            if let Some(seat) = left.swap_remove(at).take() {
                return Some(seat);
            }
        }
        None
    }
}

/// The same on every node.
fn name(member: &Member) -> u64 {
    client(member.backend.address.ip()).wrapping_add(u64::from(member.backend.address.port()))
}

impl Member {
    fn take(&self) -> Option<Seat> {
        Seat::take(&self.backend, self.most, self.resume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn pool(balance: Balance, weights: &[u32], most: u32) -> Pool {
        let members = weights.iter().enumerate().map(|(i, weight)| Member {
            backend: Backend::new(format!("192.0.2.{}:6443", i + 1).parse().unwrap()),
            weight: *weight,
            most,
            resume: most,
        });
        Pool::new(balance, members.collect())
    }

    fn taken(pool: &Pool, from: u32, now: u64) -> Option<(u8, Seat)> {
        match pool.pick(|| Some(Ipv4Addr::from(from).into()), now) {
            Pick::Taken(seat) => {
                let IpAddr::V4(a) = seat.backend().address.ip() else {
                    return None;
                };
                Some((a.octets()[3], seat))
            }
            Pick::Full | Pick::Empty => None,
        }
    }

    #[test]
    fn round_robin_takes_turns_and_passes_over_whoever_failed_a_moment_ago() {
        let pool = pool(Balance::RoundRobin, &[1, 1, 1], 0);
        let order = |n: u32, now| -> Vec<u8> { (0..n).map(|_| taken(&pool, 0, now).unwrap().0).collect() };
        assert_eq!(order(4, 1), [1, 2, 3, 1]);
        pool.members[1].backend.failed(1);
        assert!(!order(6, 2).contains(&2));
        assert!(order(3, 10_000).contains(&2), "distrust ends by itself");
        for m in &pool.members {
            m.backend.failed(20_000);
        }
        assert_eq!(order(3, 20_001).len(), 3, "where all failed, all are tried");
    }

    #[test]
    fn least_connections_counts_weights_and_what_is_there() {
        let pool = pool(Balance::LeastConnections, &[1, 2], 0);
        let seats: Vec<(u8, Seat)> = (0..9).map(|_| taken(&pool, 0, 0).unwrap()).collect();
        assert_eq!(seats.iter().filter(|(n, _)| *n == 1).count(), 3);
        let (ones, _twos): (Vec<_>, Vec<_>) = seats.into_iter().partition(|(n, _)| *n == 1);
        drop(ones);
        let next: Vec<(u8, Seat)> = (0..3).map(|_| taken(&pool, 0, 0).unwrap()).collect();
        assert!(next.iter().all(|(n, _)| *n == 1));
    }

    #[test]
    fn a_client_stays_and_goes_elsewhere_only_while_its_server_has_no_room() {
        let pool = pool(Balance::Source, &[1, 1, 1], 1);
        let (own, seat) = taken(&pool, 7, 0).unwrap();
        let (other, _) = taken(&pool, 7, 0).unwrap();
        assert_ne!(own, other);
        drop(seat);
        assert_eq!(taken(&pool, 7, 0).unwrap().0, own);
    }

    #[test]
    fn full_and_empty_are_two_things() {
        let one = pool(Balance::RoundRobin, &[1], 1);
        let _seat = taken(&one, 0, 0).unwrap();
        assert!(matches!(one.pick(|| None, 0), Pick::Full));
        let none = pool(Balance::LeastConnections, &[], 0);
        assert!(matches!(none.pick(|| None, 0), Pick::Empty));
    }
}
