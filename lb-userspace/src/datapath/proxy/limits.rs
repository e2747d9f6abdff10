//! How many connections there are descriptors for.
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for the rest of the process: netlink, health checks, the status socket. A proxy that is full must not keep the
/// daemon from renewing an address.
const RESERVE: u64 = 512;
/// Pipes of one thread at one time, at most.
const PIPES: u64 = 512;

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Sessions at one time: two descriptors each.
    pub(super) sessions: usize,
    /// Pipes of one thread: two descriptors each.
    pub(super) pipes: usize,
}

/// Takes as many descriptors as the process may have, and divides them.
pub(super) fn take(threads: usize, asked: Option<u32>) -> Limits {
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.unwrap_or(1 << 20);
    // Fails nowhere: up to the hard limit everybody may go.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(most),
            maximum: now.maximum,
        },
    );
    divide(most, threads as u64, asked)
}

fn divide(descriptors: u64, threads: u64, asked: Option<u32>) -> Limits {
    let pipes = (descriptors / 40 / threads.max(1)).min(PIPES);
    let kept = RESERVE.min(descriptors / 4) + pipes * 2 * threads;
    let possible = (descriptors - kept.min(descriptors)) / 2;
    let sessions = asked.map_or(possible, |a| possible.min(a.into()));
    Limits {
        sessions: usize::try_from(sessions).unwrap_or(usize::MAX),
        pipes: usize::try_from(pipes).unwrap_or(usize::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_promised_fits_into_the_descriptors_there_are() {
        for descriptors in [64, 1024, 20_000, 524_288, 1 << 30] {
            for threads in [1, 2, 4, 64] {
                let Limits { sessions, pipes } = divide(descriptors, threads, None);
                let used = sessions as u64 * 2 + pipes as u64 * 2 * threads;
                assert!(used + (descriptors / 4).min(RESERVE) <= descriptors);
                assert!(used * 2 >= descriptors, "{descriptors}: {sessions}, {pipes}");
            }
        }
        assert_eq!(divide(20_000, 2, Some(100)).sessions, 100);
        assert!(divide(20_000, 2, Some(100_000)).sessions < 10_000);
    }
}
