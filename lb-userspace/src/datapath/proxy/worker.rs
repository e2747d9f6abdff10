//! A thread of the proxy: one epoll, its sessions, and nothing that waits for anybody else.
use super::clock;
use super::half::Lent;
use super::list::{Chain, List};
use super::pipes::Pipes;
use super::say::Say;
use super::session::{Due, Session};
use super::shared::{Inbox, Message, Shared};
use super::slab::{Id, Slab};
use super::table::{Service, Table};
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::io;
use std::sync::Arc;

/// Events taken at a time.
const EVENTS: usize = 256;
/// The one buffer that a thread copies through.
const BUFFER: usize = 64 * 1024;

/// Milliseconds, of a thread that is about to stand still.
const FOR_GOOD: u64 = 3_600_000;

/// Where an event comes from, as epoll keeps it for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Client(Id),
    Server(Id),
    Listener(u32),
    Wake,
}

impl Source {
    pub(super) fn data(self) -> EventData {
        let pack = |kind: u64, index: u32, generation: u32| {
            kind << 56 | u64::from(generation) << 32 | u64::from(index)
        };
        EventData::new_u64(match self {
            Self::Client(id) => pack(0, id.index, id.generation),
            Self::Server(id) => pack(1, id.index, id.generation),
            Self::Listener(index) => pack(2, index, 0),
            Self::Wake => pack(3, 0, 0),
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "the parts that were packed")]
    fn of(data: u64) -> Self {
        let index = data as u32;
        let id = Id {
            index,
            generation: (data >> 32) as u32 & 0x00ff_ffff,
        };
        match data >> 56 {
            0 => Self::Client(id),
            1 => Self::Server(id),
            2 => Self::Listener(index),
            _ => Self::Wake,
        }
    }
}

/// A listening socket in this thread's epoll.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) socket: Arc<OwnedFd>,
    pub(super) service: u32,
}

/// Lists of what is due.
#[derive(Debug)]
pub(super) struct Lists {
    pub(super) queue: List,
    pub(super) connect: List,
    pub(super) half_closed: List,
    pub(super) idle: List,
    pub(super) silent: List,
}

impl Lists {
    const fn new() -> Self {
        Self {
            queue: List::new(Chain::Due),
            connect: List::new(Chain::Due),
            half_closed: List::new(Chain::Due),
            idle: List::new(Chain::Due),
            silent: List::new(Chain::Silent),
        }
    }

    /// The list of a due.
    pub(super) const fn of(&mut self, due: Due) -> Option<&mut List> {
        match due {
            Due::Nothing => None,
            Due::Queue => Some(&mut self.queue),
            Due::Connect => Some(&mut self.connect),
            Due::HalfClosed => Some(&mut self.half_closed),
            Due::Idle => Some(&mut self.idle),
        }
    }
}

/// The thread.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) number: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) epoll: OwnedFd,
    inbox: Inbox,
    pub(super) table: Arc<Table>,
    pub(super) listeners: Vec<Listening>,
    pub(super) sessions: Slab,
    pub(super) lists: Lists,
    pub(super) pipes: Pipes,
    buffer: Box<[u8]>,
    pub(super) ready: Vec<Id>,
    pub(super) now: u64,
    /// Accepts nobody until then.
    pub(super) paused_until: Option<u64>,
    /// When the queue is looked through again.
    pub(super) queue_at: u64,
    pub(super) say: Say,
    stopping: bool,
}

impl Worker {
    pub(super) fn new(number: usize, shared: Arc<Shared>, inbox: Inbox, pipes: usize) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &inbox.wake, Source::Wake.data(), EventFlags::IN)?;
        Ok(Self {
            number,
            shared,
            epoll,
            inbox,
            table: Arc::default(),
            listeners: Vec::new(),
            sessions: Slab::default(),
            lists: Lists::new(),
            pipes: Pipes::new(pipes),
            buffer: vec![0; BUFFER].into_boxed_slice(),
            ready: Vec::new(),
            now: clock::now(),
            paused_until: None,
            queue_at: 0,
            say: Say::default(),
            stopping: false,
        })
    }

    /// Until told to stop.
    pub(super) fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        while !self.stopping {
            let timeout = self.timeout();
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            ) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "a thread of the proxy cannot wait for events and ends");
                    return;
                }
            }
            self.now = clock::now();
            for event in &events {
                let (flags, data) = (event.flags, event.data);
                match Source::of(data.u64()) {
                    Source::Client(id) => self.on_client(id, flags),
                    Source::Server(id) => self.on_server(id, flags),
                    Source::Listener(index) => self.accept(index),
                    Source::Wake => self.read_messages(),
                }
            }
            for id in std::mem::take(&mut self.ready) {
                if let Some(session) = self.sessions.get(id) {
                    session.ready = false;
                    self.go_on(id);
                }
            }
            self.expire();
            self.shared.note_load(self.number, self.sessions.len());
        }
    }

    fn timeout(&mut self) -> Option<Timespec> {
        if !self.ready.is_empty() {
            return Some(Timespec::default());
        }
        let due = self.next_due()?;
        let left = due.saturating_sub(self.now);
        Some(Timespec {
            tv_sec: i64::try_from(left / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(left % 1000 * 1_000_000).unwrap_or(0),
        })
    }

    fn read_messages(&mut self) {
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.inbox.wake, &mut count);
        while let Ok(message) = self.inbox.receiver.try_recv() {
            match message {
                Message::Table(table) => self.serve(table),
                Message::Adopt(client, service, table) => {
                    if table.number > self.table.number {
                        self.serve(table);
                    }
                    self.adopt(client, service);
                }
                Message::Thaw(sessions) => self.thaw(sessions),
                Message::Close(closed) => {
                    self.pause(FOR_GOOD);
                    drop(closed);
                }
                Message::Freeze(answer) => {
                    self.stopping = true;
                    let _ = answer.send(self.freeze());
                }
                Message::Stop => self.stop(),
            }
        }
    }

    /// From now on serves what `table` says.
    fn serve(&mut self, table: Arc<Table>) {
        self.table = table;
        if self.paused_until.is_none() {
            self.close_listeners();
            self.open_listeners();
        }
        let dead = |s: &Session| s.seat.as_ref().is_some_and(|s| s.backend().is_dead());
        for id in self.sessions.find(dead) {
            self.lose_server(id);
        }
        let table = self.table.clone();
        let strayed = |s: &Session| {
            table
                .services
                .get(&s.service)
                .is_some_and(|t| !t.held && s.is_to(t.key.address))
        };
        for id in self.sessions.find(strayed) {
            self.end(id, true);
        }
    }

    /// Those of the table that are not there yet.
    pub(super) fn open_listeners(&mut self) {
        let table = self.table.clone();
        for (service, socket) in table
            .services
            .iter()
            .flat_map(|(n, s)| s.listeners.iter().map(move |l| (*n, l)))
        {
            if self.listeners.iter().any(|l| Arc::ptr_eq(&l.socket, socket)) {
                continue;
            }
            let index = u32::try_from(self.listeners.len()).unwrap_or(u32::MAX);
            // One thread is woken for one client.
            let flags = EventFlags::IN | EventFlags::EXCLUSIVE;
            match epoll::add(&self.epoll, socket, Source::Listener(index).data(), flags) {
                Ok(()) => self.listeners.push(Listening {
                    socket: socket.clone(),
                    service,
                }),
                Err(error) => {
                    tracing::error!(%error, "a thread of the proxy cannot watch a listening socket");
                }
            }
        }
    }

    /// Takes all out, so that numbers and the table agree again.
    pub(super) fn close_listeners(&mut self) {
        for listening in self.listeners.drain(..) {
            let _ = epoll::delete(&self.epoll, &listening.socket);
        }
    }

    pub(super) fn service(&self, number: u32) -> Option<Arc<Service>> {
        self.table.services.get(&number).cloned()
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.close_listeners();
        for id in self.sessions.find(|_| true) {
            self.end(id, true);
        }
    }

    /// What moving bytes takes, and the sessions.
    pub(super) fn lend(&mut self) -> (Lent<'_>, &mut Slab) {
        (
            Lent {
                buffer: &mut self.buffer,
                pipes: &mut self.pipes,
                budget: &self.shared.budget,
            },
            &mut self.sessions,
        )
    }

    /// Asks epoll for `socket`'s events.
    pub(super) fn watch(&self, socket: impl AsFd, source: Source, flags: EventFlags) -> Result<(), Errno> {
        epoll::add(&self.epoll, socket, source.data(), flags | EventFlags::ET)
    }
}
