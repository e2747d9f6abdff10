//! A virtual server at run time: its sockets, its servers and its counters, kept over every change that leaves them.
use super::backend::Backend;
use super::listener;
use super::pool::{Member, Pool};
use super::steer::{How, Steered, Steering};
use super::table::{Counters, Service};
use super::view::{ProxiedView, ServerView};
use lb_common::model::ServiceKey;
use lb_common::proxy::{Keepalive, Proxied};
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Listening sockets of an earlier process: whose, and the address besides the steered one.
pub(super) type Sockets = BTreeMap<(ServiceKey, Option<SocketAddr>), OwnedFd>;

/// One.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) number: u32,
    pub(super) want: Proxied,
    steered: Option<Steered>,
    /// Besides the steered one.
    listeners: BTreeMap<SocketAddr, Arc<OwnedFd>>,
    backends: BTreeMap<SocketAddr, Arc<Backend>>,
    counters: Arc<Counters>,
    /// What keeps it from being served as it should be.
    pub(super) problems: Vec<String>,
}

impl Live {
    /// Without sockets and servers yet.
    pub(super) fn new(number: u32, want: &Proxied) -> Self {
        Self {
            number,
            want: want.clone(),
            steered: None,
            listeners: BTreeMap::new(),
            backends: BTreeMap::new(),
            counters: Arc::default(),
            problems: Vec::new(),
        }
    }

    /// Makes it what is wanted; what cannot be done is in `problems`.
    pub(super) fn update(
        &mut self,
        want: &Proxied,
        keepalive: Option<&Keepalive>,
        steering: &mut Steering,
        taken: &mut Sockets,
    ) {
        self.want = want.clone();
        self.problems.clear();
        if self.steered.is_none() {
            let there = taken.remove(&(want.key, None));
            match steering.add(want.key, keepalive, there) {
                Ok(steered) => {
                    match &steered.how {
                        How::Program => tracing::info!(server = %want.key, how = %steered.how, "proxying"),
                        How::Bound(_) | How::Redirected(_) => {
                            tracing::warn!(server = %want.key, how = %steered.how, "proxying");
                        }
                    }
                    self.steered = Some(steered);
                }
                Err(error) => self.problems.push(error.to_string()),
            }
        }
        self.listeners.retain(|address, _| want.listen.contains(address));
        for address in &want.listen {
            if let Some(socket) = taken.remove(&(want.key, Some(*address))) {
                self.listeners.insert(*address, Arc::new(socket));
            } else if !self.listeners.contains_key(address) {
                self.listen(*address, keepalive);
            }
        }
        for server in &want.servers {
            let socket = server.socket();
            let backend = self
                .backends
                .entry(socket)
                .or_insert_with(|| Backend::new(socket));
            backend.set_dead(!server.up);
        }
        let named = |address: &SocketAddr| want.servers.iter().any(|s| s.socket() == *address);
        // One that is named no longer keeps its sessions: they end when they end.
        self.backends
            .retain(|address, b| named(address) || b.active() > 0);
    }

    fn listen(&mut self, address: SocketAddr, keepalive: Option<&Keepalive>) {
        match listener::open(address, keepalive) {
            Ok(socket) => {
                self.listeners.insert(address, Arc::new(socket));
            }
            // A host without IPv6 has no IPv6 clients.
            Err(Errno::AFNOSUPPORT) if address.is_ipv6() => {}
            Err(error) => self.problems.push(format!(
                "the proxy cannot listen on {address} ({error}): proxy.bindPort (userSpaceProxyBindPort) names another port"
            )),
        }
    }

    /// Tells the sockets what those that they accept are to be told.
    pub(super) fn tune(&self, keepalive: Option<&Keepalive>) {
        for socket in self.sockets() {
            let _ = listener::tune(socket, keepalive);
        }
    }

    fn sockets(&self) -> impl Iterator<Item = &Arc<OwnedFd>> {
        self.steered
            .iter()
            .map(|s| &s.socket)
            .chain(self.listeners.values())
    }

    /// Its listening sockets, each with its address; `None` for the one that gets what is steered.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (Option<SocketAddr>, &Arc<OwnedFd>)> {
        let steered = self.steered.iter().map(|s| (None, &s.socket));
        steered.chain(self.listeners.iter().map(|(a, s)| (Some(*a), s)))
    }

    /// The server at that address, also one that is not named any more.
    pub(super) fn backend(&mut self, address: SocketAddr) -> Arc<Backend> {
        let backend = self.backends.entry(address);
        backend.or_insert_with(|| Backend::new(address)).clone()
    }

    /// As the threads see it.
    pub(super) fn service(&self) -> Service {
        let takes = self.want.servers.iter().filter(|s| s.up && s.weight > 0);
        let members = takes.filter_map(|s| {
            Some(Member {
                backend: self.backends.get(&s.socket())?.clone(),
                weight: s.weight,
                most: s.most,
                resume: s.resumes_below(),
            })
        });
        Service {
            key: self.want.key,
            held: self.want.held,
            pool: Pool::new(self.want.balance, members.collect()),
            listeners: self.sockets().cloned().collect(),
            send_header: self.want.send_header,
            accept_header: self.want.accept_header.clone(),
            counters: self.counters.clone(),
        }
    }

    /// For the status.
    pub(super) fn view(&self) -> ProxiedView {
        let server = |(address, backend): (&SocketAddr, &Arc<Backend>)| ServerView {
            address: *address,
            alive: !backend.is_dead(),
            active: backend.active(),
            sessions: backend.sessions(),
            failures: backend.failures(),
            to_server: backend.to_server.load(Relaxed),
            to_client: backend.to_client.load(Relaxed),
        };
        ProxiedView {
            key: self.want.key,
            how: self.steered.as_ref().map(|s| s.how.to_string()),
            listens: self.listeners.keys().copied().collect(),
            accepted: self.counters.accepted.load(Relaxed),
            unserved: self.counters.unserved.load(Relaxed),
            cut: self.counters.cut.load(Relaxed),
            headless: self.counters.headless.load(Relaxed),
            servers: self.backends.iter().map(server).collect(),
        }
    }
}
