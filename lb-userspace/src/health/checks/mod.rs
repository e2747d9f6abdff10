//! What a check does. A further kind is one file here and one arm in [`Prober`].
mod connect;
mod credentials;
mod direct;
mod exec;
mod http;
mod icmp;
mod tcp;
mod tls;
mod trust;
mod udp;

use super::targets::Target;
use connect::Way;
use lb_common::health::{Outcome, Probe};
use std::future::Future;
use std::time::Duration;

/// What one try found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It answered as it should; perhaps with something that a person should know.
    Good(Option<String>),
    /// It answered, and should get nothing new. Why, as a sentence.
    Unready(String),
    /// It did not answer. Why, as a sentence.
    Dead(String),
    /// This node could not ask: that says nothing of the server. Why, as a sentence.
    Unknown(String),
}

impl Verdict {
    /// As the gate takes it; `None`: there is nothing to take.
    pub(super) const fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Good(_) => Some(Outcome::Good),
            Self::Unready(_) => Some(Outcome::Unready),
            Self::Dead(_) => Some(Outcome::Dead),
            Self::Unknown(_) => None,
        }
    }

    /// What it says besides.
    pub(super) fn words(&self) -> Option<&str> {
        match self {
            Self::Good(note) => note.as_deref(),
            Self::Unready(why) | Self::Dead(why) | Self::Unknown(why) => Some(why),
        }
    }
}

/// Asks one target, and keeps between two tries what need not be made again.
#[derive(Debug)]
pub(super) struct Prober {
    target: Target,
    way: Way,
    shaker: Option<tls::Shaker>,
    asker: Option<http::Asker>,
}

impl Prober {
    pub(super) fn new(target: Target) -> Self {
        let (shaker, asker) = match &target.check.probe {
            Probe::Tls(t) => (Some(tls::Shaker::new(t, &[])), None),
            Probe::Http(h) => (None, Some(http::Asker::new(h))),
            Probe::Https(both) => (
                Some(tls::Shaker::new(&both.0, http::PROTOCOLS)),
                Some(http::Asker::new(&both.1)),
            ),
            Probe::Tcp | Probe::Exec(_) | Probe::Icmp | Probe::Udp(_) | Probe::None => (None, None),
        };
        let way = Way {
            to: target.at,
            source: target.check.source,
            mark: target.check.mark,
        };
        Self {
            target,
            way,
            shaker,
            asker,
        }
    }

    /// Asks once; with how long the answer of a server that is well took.
    pub(super) async fn ask(&mut self) -> (Verdict, Duration) {
        let started = crate::clock::now();
        let verdict = self.probe().await;
        let took = crate::clock::now().saturating_since(started);
        let limit = self.target.check.timeout;
        match (&verdict, self.target.vip) {
            (Verdict::Good(_), Some(vip)) => match direct::probe(self.target.server, vip, limit).await {
                Ok(()) => (verdict, took),
                Err(why) => (why, took),
            },
            _ => (verdict, took),
        }
    }

    async fn probe(&mut self) -> Verdict {
        let limit = self.target.check.timeout;
        let way = self.way;
        match (&self.target.check.probe, &mut self.shaker, &mut self.asker) {
            (Probe::Tls(_), Some(shaker), _) => within(limit, tls::probe(shaker, &way)).await,
            (Probe::Http(_), _, Some(asker)) => within(limit, http::plain(asker, &way)).await,
            (Probe::Https(_), Some(shaker), Some(asker)) => {
                within(limit, http::secure(shaker, asker, &way)).await
            }
            (Probe::Icmp, _, _) => within(limit, icmp::probe(&way)).await,
            // These two know when their time is over.
            (Probe::Udp(udp), _, _) => udp::probe(udp, &way, limit).await,
            (Probe::Exec(c), _, _) => exec::probe(c, self.target.server, &self.target.service, limit).await,
            (Probe::None, _, _) => Verdict::Good(None),
            // The helpers of the others were made with their probe.
            (Probe::Tcp | Probe::Tls(_) | Probe::Http(_) | Probe::Https(_), _, _) => {
                within(limit, tcp::probe(&way)).await
            }
        }
    }
}

async fn within(limit: Duration, asks: impl Future<Output = Verdict>) -> Verdict {
    match tokio::time::timeout(limit, asks).await {
        Ok(verdict) => verdict,
        Err(_) => Verdict::Dead(format!("no answer within {limit:?}")),
    }
}
