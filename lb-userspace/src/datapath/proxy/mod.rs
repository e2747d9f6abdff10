//! A TCP proxy in this process, for where neither IPVS nor XDP fits: cloud networks, workers on controllers, NAT.
//!
//! ```text
//! reconciler --Proxying--> Proxy --Table--> worker 0..n   one epoll each, all of them on the same listening sockets
//!                            |                accept.rs   a client comes; dial.rs finds it a server
//!                            +--> steer/      traffic.rs  bytes go both ways (half.rs moves them); expire.rs: time
//! ```
//! The threads wait for nobody: a table is replaced as a whole, counters are atomic, and neither the election nor the
//! reconciler ever waits for a thread of the proxy. A session belongs to one thread for its whole life. While it does
//! nothing it has two sockets and some 200 bytes; the buffer it is copied through is the thread's, and a pipe is lent to
//! it for the moment that bytes are in it.
mod accept;
mod backend;
mod budget;
mod clock;
mod dial;
mod expire;
mod frozen;
mod half;
mod header;
mod limits;
mod list;
mod listener;
mod live;
mod pipes;
mod pool;
mod say;
mod session;
mod shared;
mod slab;
mod steer;
mod table;
mod thaw;
mod traffic;
mod view;
mod worker;

pub use frozen::{Frozen, FrozenHalf, FrozenListener, FrozenProxy, FrozenSession};
pub use view::{ProxiedView, ProxyView, ServerView};

use lb_common::model::ServiceKey;
use lb_common::plan::Proxying;
use live::Live;
use shared::{Message, Shared};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use steer::Steering;
use table::Table;
use thaw::{Still, Thawed};
use worker::Worker;

/// More threads than this are never started unasked: an API server's clients do not fill more.
const THREADS: usize = 4;

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    steering: Steering,
    settings: lb_common::proxy::Settings,
    live: BTreeMap<ServiceKey, Live>,
    next: u32,
    /// How many tables there were.
    tables: u64,
    /// What another process had, until this one serves.
    taken: Option<Frozen>,
}

/// What has to stay while another process begins: the steering.
#[derive(Debug)]
pub struct Remains {
    _steering: Steering,
}

/// Takes as many descriptors as this process may have.
pub fn take_descriptors() {
    limits::take(1, None);
}

impl Proxy {
    /// Starts the threads, in the network namespace of the calling one; they serve nothing yet.
    pub fn start(settings: &lb_common::proxy::Settings) -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let count = settings
            .threads
            .map_or(processors.min(THREADS), usize::from)
            .max(1);
        let limits = limits::take(count, settings.max_connections);
        let (shared, inboxes) = Shared::new(count, limits.sessions)?;
        let shared = Arc::new(shared);
        let mut threads = Vec::new();
        for (i, inbox) in inboxes.into_iter().enumerate() {
            let worker = Worker::new(i, shared.clone(), inbox, limits.pipes)?;
            let name = format!("proxy-{i}");
            threads.push(thread::Builder::new().name(name).spawn(move || worker.run())?);
        }
        tracing::info!(
            threads = count,
            connections = limits.sessions,
            "the userspace proxy runs"
        );
        Ok(Self {
            shared,
            threads,
            steering: Steering::open(settings.steering),
            settings: settings.clone(),
            live: BTreeMap::new(),
            next: 0,
            tables: 0,
            taken: None,
        })
    }

    /// Goes on with what another process had, or one before this, as soon as it is told what to serve.
    pub fn resume(&mut self, taken: Frozen) {
        self.taken = Some(taken);
    }

    /// Stands still, for another process to go on. Clients that come wait in the listening sockets.
    pub fn freeze(self) -> (Frozen, Remains) {
        let mut frozen = Frozen::default();
        for (key, live) in &self.live {
            for (address, socket) in live.addresses() {
                // Without a copy the other one makes a socket of its own.
                if let Ok(copy) = socket.try_clone() {
                    frozen.state.listeners.push(FrozenListener { key: *key, address });
                    frozen.descriptors.push(copy);
                }
            }
        }
        // None may give a client to another that has stood still already.
        let (closed, all_closed) = channel();
        self.shared.send_all(|| Message::Close(closed.clone()));
        drop(closed);
        all_closed.into_iter().for_each(drop);
        for thread in 0..self.threads.len() {
            let (answer, sessions) = channel();
            self.shared.send(thread, Message::Freeze(answer));
            for still in sessions.recv().unwrap_or_default() {
                frozen.push(still);
            }
        }
        for thread in self.threads {
            let _ = thread.join();
        }
        let remains = Remains {
            _steering: self.steering,
        };
        (frozen, remains)
    }

    /// Gives every thread its part of the sessions of another process.
    fn thaw(&mut self, sessions: Vec<Still>) {
        if sessions.is_empty() {
            return;
        }
        tracing::info!(
            sessions = sessions.len(),
            "going on with the connections of the daemon before this one"
        );
        let mut parts: Vec<Vec<Thawed>> = self.threads.iter().map(|_| Vec::new()).collect();
        let count = parts.len();
        for (n, still) in sessions.into_iter().enumerate() {
            let live = still.session.key.and_then(|key| self.live.get_mut(&key));
            let (service, backend) = match live {
                Some(live) => (live.number, still.session.server.map(|s| live.backend(s))),
                None => (0, None),
            };
            if let Some(part) = parts.get_mut(n % count) {
                part.push(Thawed {
                    still,
                    service,
                    backend,
                });
            }
        }
        for (thread, part) in parts.into_iter().enumerate() {
            self.shared.send(thread, Message::Thaw(part));
        }
    }

    /// Serves exactly this from now on. What cannot be done comes back as sentences, and the rest is done.
    ///
    /// Sessions stay, but for those whose server is dead and those of a virtual IP that is held here no longer. Those of
    /// a server or a virtual server that is not named any more go on until they end.
    pub fn set(&mut self, want: &Proxying) -> Vec<String> {
        let keepalive = want.settings.keepalive;
        if self.settings.keepalive != keepalive {
            self.live.values().for_each(|l| l.tune(keepalive.as_ref()));
        }
        if self.settings.max_connections != want.settings.max_connections {
            let limits = limits::take(self.threads.len(), want.settings.max_connections);
            self.shared.set_most(limits.sessions);
        }
        self.settings = want.settings.clone();
        let gone: Vec<ServiceKey> = self
            .live
            .keys()
            .filter(|k| !want.servers.contains_key(k))
            .copied()
            .collect();
        for key in gone {
            self.steering.remove(key);
            self.live.remove(&key);
        }
        let (mut sockets, sessions) = self.taken.take().map(Frozen::apart).unwrap_or_default();
        for (key, wanted) in &want.servers {
            let live = self.live.entry(*key).or_insert_with(|| {
                self.next += 1;
                Live::new(self.next, wanted)
            });
            live.update(wanted, keepalive.as_ref(), &mut self.steering, &mut sockets);
        }
        let services = self.live.values().map(|l| (l.number, Arc::new(l.service())));
        self.tables += 1;
        let table = Arc::new(Table {
            number: self.tables,
            settings: self.settings.clone(),
            services: services.collect(),
        });
        self.shared.send_all(|| Message::Table(table.clone()));
        self.thaw(sessions);
        self.problems()
    }

    /// What keeps it from serving all that it should.
    pub fn problems(&self) -> Vec<String> {
        let ended = self.threads.iter().any(JoinHandle::is_finished);
        let ended = ended.then(|| "a thread of the proxy has ended: restart cplb".to_owned());
        self.live
            .values()
            .flat_map(|l| l.problems.iter().cloned())
            .chain(ended)
            .collect()
    }

    /// What it serves; without what it could not begin to serve.
    pub fn serving(&self) -> Proxying {
        let whole = self.live.iter().filter(|(_, l)| l.problems.is_empty());
        Proxying {
            settings: self.settings.clone(),
            servers: whole.map(|(k, l)| (*k, l.want.clone())).collect(),
        }
    }

    /// Virtual servers whose connections nftables has to bring to these ports: for want of anything better.
    pub fn redirected(&self) -> &BTreeMap<ServiceKey, u16> {
        self.steering.redirected()
    }

    /// The virtual IPs that this node holds, of what is served.
    pub fn held(&self) -> BTreeSet<IpAddr> {
        let held = self.live.values().filter(|l| l.want.held);
        held.map(|l| l.want.key.address).collect()
    }

    /// Why connections are not steered by the socket lookup program.
    pub fn steering_lacks(&self) -> Option<&str> {
        self.steering.missing()
    }

    /// For the status.
    pub fn view(&self) -> ProxyView {
        ProxyView {
            threads: self.threads.len(),
            sessions: self.shared.sessions(),
            most: self.shared.most(),
            held_bytes: self.shared.budget.held(),
            servers: self.live.values().map(Live::view).collect(),
        }
    }

    /// Resets every session and ends the threads.
    pub fn stop(self) {
        self.shared.send_all(|| Message::Stop);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}
