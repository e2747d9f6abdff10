//! New TLS connections, one after another, while something happens.
use anyhow::{Context, Result, bail};
use lb_tests::client::{Answer, Client};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// One connection with one request.
pub(crate) struct Attempt {
    /// From which address.
    pub(crate) source: IpAddr,
    /// When, from the start of the stream.
    pub(crate) at: Duration,
    /// How long it took.
    pub(crate) took: Duration,
    /// What came of it.
    pub(crate) outcome: Result<Answer>,
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} (+{:?}) from {}: ", self.at, self.took, self.source)?;
        match &self.outcome {
            Ok(answer) => f.write_str(&answer.node),
            Err(error) => write!(f, "{error:#}"),
        }
    }
}

/// Connects from each source in turn, for as long as `work` takes.
pub(crate) fn during<T>(
    client: &Client<'_>,
    sources: &[IpAddr],
    to: SocketAddr,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Vec<Attempt>)> {
    let stop = AtomicBool::new(false);
    let started = Instant::now();
    thread::scope(|scope| {
        let stream = scope.spawn(|| {
            let mut attempts = Vec::new();
            for source in sources.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let at = started.elapsed();
                let outcome = client.get_from(*source, to, "/api");
                let took = started.elapsed() - at;
                attempts.push(Attempt {
                    source: *source,
                    at,
                    took,
                    outcome,
                });
                thread::sleep(Duration::from_millis(10));
            }
            attempts
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        let attempts = stream.join().ok().context("the stream of connections panicked")?;
        Ok((done?, attempts))
    })
}

/// Those that failed.
pub(crate) fn failures(attempts: &[Attempt]) -> Vec<&Attempt> {
    attempts.iter().filter(|a| a.outcome.is_err()).collect()
}

/// The nodes that answered.
pub(crate) fn nodes(attempts: &[Attempt]) -> BTreeSet<&str> {
    attempts
        .iter()
        .filter_map(|a| a.outcome.as_ref().ok())
        .map(|a| a.node.as_str())
        .collect()
}

/// One connection from each source: all have to be answered. Gives who served each.
pub(crate) fn round(client: &Client<'_>, sources: &[IpAddr], to: SocketAddr) -> Result<Vec<Answer>> {
    let mut answers = Vec::new();
    for source in sources {
        let answer = client
            .get_from(*source, to, "/api")
            .with_context(|| format!("from {source}"))?;
        if answer.client.ip() != *source {
            bail!("{} saw {} and not {source}", answer.node, answer.client);
        }
        answers.push(answer);
    }
    Ok(answers)
}
