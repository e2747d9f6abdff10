//! What a thread says aloud, each thing at most once in a while: a flood of clients must not become a flood of lines.
use lb_common::model::ServiceKey;
use lb_common::wire::proxy::Refusal;
use rustix::io::Errno;

/// Milliseconds between two lines about the same thing.
const QUIET: u64 = 10_000;

#[derive(Debug, Default)]
struct Once {
    next: u64,
    unsaid: u64,
}

impl Once {
    /// How often it happened without a word since the last one; `None`: it is too early for another.
    fn again(&mut self, now: u64) -> Option<u64> {
        if now < self.next {
            self.unsaid += 1;
            return None;
        }
        self.next = now + QUIET;
        Some(std::mem::take(&mut self.unsaid))
    }
}

/// One of each kind of trouble.
#[derive(Debug, Default)]
pub(super) struct Say {
    descriptors: Once,
    limit: Once,
    unserved: Once,
    headless: Once,
}

impl Say {
    pub(super) fn no_descriptors(&mut self, error: Errno, now: u64) {
        if let Some(unsaid) = self.descriptors.again(now) {
            tracing::error!(
                %error, unsaid,
                "the proxy gets no more descriptors or memory from the system: clients wait until it does"
            );
        }
    }

    pub(super) fn at_limit(&mut self, most: usize, now: u64) {
        if let Some(unsaid) = self.limit.again(now) {
            tracing::warn!(
                connections = most,
                unsaid,
                "the proxy has as many connections as it may have: clients wait, and connections on which the server \
                 has not answered for 5 s are cut (proxy.maxConnections, or more descriptors for this process)"
            );
        }
    }

    pub(super) fn unserved(&mut self, service: ServiceKey, now: u64) {
        if let Some(unsaid) = self.unserved.again(now) {
            tracing::warn!(
                %service,
                unsaid,
                "no server took a client: its connection was reset"
            );
        }
    }

    pub(super) fn headless(&mut self, service: ServiceKey, refusal: Option<Refusal>, now: u64) {
        if let Some(unsaid) = self.headless.again(now) {
            let why = refusal.map_or_else(
                || "it ended within its PROXY protocol header".to_owned(),
                |r| r.to_string(),
            );
            tracing::warn!(
                %service,
                why,
                unsaid,
                "a connection from an address of proxyProtocol.acceptFrom was refused"
            );
        }
    }
}
