//! What the threads serve: one immutable table, replaced as a whole, so that a thread sees all of a change or none.
use super::pool::Pool;
use lb_common::model::{IpPrefix, ServiceKey};
use lb_common::proxy::Settings;
use lb_common::wire::proxy::Version;
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Everything that is served.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Goes up with each.
    pub(super) number: u64,
    pub(super) settings: Settings,
    /// By their numbers, which are never used again.
    pub(super) services: BTreeMap<u32, Arc<Service>>,
}

/// A virtual server as the threads see it.
#[derive(Debug)]
pub(super) struct Service {
    /// Its virtual IP and port.
    pub(super) key: ServiceKey,
    /// Whether this node holds it.
    pub(super) held: bool,
    pub(super) pool: Pool,
    pub(super) listeners: Vec<Arc<OwnedFd>>,
    pub(super) send_header: Option<Version>,
    pub(super) accept_header: Vec<IpPrefix>,
    pub(super) counters: Arc<Counters>,
}

impl Service {
    /// Whether a client at `from` is another proxy, whose connections begin with a header.
    pub(super) fn expects_header(&self, from: IpAddr) -> bool {
        let from = from.to_canonical();
        self.accept_header.iter().any(|p| p.contains(from))
    }
}

/// Counted over all threads since the virtual server is there.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    /// No server took them.
    pub(super) unserved: AtomicU64,
    /// Cut because nothing moved, or because room was needed.
    pub(super) cut: AtomicU64,
    /// Without the header that they should have had.
    pub(super) headless: AtomicU64,
}

/// One more.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
