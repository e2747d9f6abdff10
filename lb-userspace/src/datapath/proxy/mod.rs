//! A TCP proxy in this process, for where neither IPVS nor XDP fits: cloud networks, workers on controllers, NAT.
mod accept;
mod backend;
mod budget;
mod clock;
mod dial;
mod expire;
mod half;
mod header;
mod list;
mod listener;
mod pipes;
mod pool;
mod say;
mod session;
mod shared;
mod slab;
mod table;
mod traffic;
mod worker;

use backend::Backend;
use lb_common::model::ServiceKey;
use lb_common::proxy::{Proxied, Settings};
use pool::{Member, Pool};
use rustix::fd::OwnedFd;
use shared::{Message, Shared};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use table::{Counters, Service, Table};
use worker::Worker;

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    settings: Settings,
    live: BTreeMap<ServiceKey, Live>,
    next: u32,
}

/// A virtual server with what it has at run time.
#[derive(Debug)]
struct Live {
    number: u32,
    want: Proxied,
    listeners: BTreeMap<SocketAddr, Arc<OwnedFd>>,
    backends: BTreeMap<SocketAddr, Arc<Backend>>,
    counters: Arc<Counters>,
}

impl Proxy {
    /// Starts the threads; they serve nothing yet.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let threads = usize::from(settings.threads.unwrap_or(2));
        let (shared, inboxes) = Shared::new(threads, 9000)?;
        let shared = Arc::new(shared);
        let splice = std::env::var_os("NOSPLICE").is_none();
        let mut handles = Vec::new();
        for (i, inbox) in inboxes.into_iter().enumerate() {
            let worker = Worker::new(i, shared.clone(), inbox, splice)?;
            handles.push(std::thread::Builder::new().name(format!("proxy-{i}")).spawn(move || worker.run())?);
        }
        Ok(Self { shared, threads: handles, settings, live: BTreeMap::new(), next: 0 })
    }

    /// Serves this.
    pub fn set(&mut self, want: &Proxied) -> io::Result<()> {
        let number = self.live.get(&want.key).map_or(self.next, |l| l.number);
        let live = self.live.entry(want.key).or_insert_with(|| Live {
            number,
            want: want.clone(),
            listeners: BTreeMap::new(),
            backends: BTreeMap::new(),
            counters: Arc::default(),
        });
        self.next = self.next.max(number + 1);
        for address in &want.listen {
            if !live.listeners.contains_key(address) {
                let socket = listener::open(*address, self.settings.keepalive.as_ref())?;
                live.listeners.insert(*address, Arc::new(socket));
            }
        }
        for server in &want.servers {
            let backend = live.backends.entry(server.socket()).or_insert_with(|| Backend::new(server.socket()));
            backend.set_dead(!server.up);
        }
        live.want = want.clone();
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        let services = self.live.values().map(|l| {
            let members = l.want.servers.iter().filter(|s| s.up && s.weight > 0).filter_map(|s| {
                Some(Member { backend: l.backends.get(&s.socket())?.clone(), weight: s.weight, most: s.most, resume: s.resumes_below() })
            });
            (l.number, Arc::new(Service {
                name: l.want.key.to_string(),
                pool: Pool::new(l.want.balance, members.collect()),
                listeners: l.listeners.values().cloned().collect(),
                send_header: l.want.send_header,
                accept_header: l.want.accept_header.clone(),
                counters: l.counters.clone(),
            }))
        });
        let table = Arc::new(Table { settings: self.settings.clone(), services: services.collect() });
        self.shared.send_all(|| Message::Table(table.clone()));
    }
    /// Waits.
    pub fn join(self) {
        for t in self.threads { let _ = t.join(); }
    }
}
