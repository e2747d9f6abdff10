//! Requests that never cease, each on a connection of its own, while something happens.
use crate::cluster::{Cluster, sources, who};
use anyhow::Result;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Between two.
const EVERY: Duration = Duration::from_millis(50);

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) started: Instant,
    pub(crate) took: Duration,
    /// Who answered, or why nobody did.
    pub(crate) answer: Result<String, String>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Requests(pub(crate) Vec<Request>);

impl Requests {
    /// Those that failed.
    pub(crate) fn failed(&self) -> Vec<&Request> {
        self.0.iter().filter(|r| r.answer.is_err()).collect()
    }

    /// How long after `since` the last one was started that met this server, or failed.
    pub(crate) fn last_meeting(&self, node: &str, since: Instant) -> Duration {
        let meets = |r: &&Request| r.answer.as_deref().map_or(true, |n| n == node);
        let last = self.0.iter().filter(meets).map(|r| r.started).max();
        last.map_or(Duration::ZERO, |at| at.saturating_duration_since(since))
    }

    /// Those started between two moments.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> Self {
        let within = |r: &&Request| r.started >= from && r.started < to;
        Self(self.0.iter().filter(within).cloned().collect())
    }
}

/// Asks all the time while `work` works.
pub(crate) fn during<T>(
    cluster: &mut Cluster<'_>,
    work: impl FnOnce(&mut Cluster<'_>) -> Result<T>,
) -> Result<(T, Requests)> {
    let client = cluster.client()?;
    let (stop, all) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let (client, stop, all_ref) = (&client, &stop, &all);
    let done = thread::scope(|scope| {
        scope.spawn(move || {
            let mut turn = sources().into_iter().cycle();
            while !stop.load(Ordering::Relaxed) {
                let source = turn.next();
                scope.spawn(move || {
                    let started = Instant::now();
                    let answer = who(client, source).map_err(|e| format!("{e:#}"));
                    all_ref.lock().expect("no request panics").push(Request {
                        started,
                        took: started.elapsed(),
                        answer,
                    });
                });
                thread::sleep(EVERY);
            }
        });
        let done = work(cluster);
        stop.store(true, Ordering::Relaxed);
        done
    });
    let mut list = all.into_inner().expect("no request panics");
    list.sort_by_key(|r| r.started);
    Ok((done?, Requests(list)))
}
