//! The clients: one thread that keeps all connections of a [`Crowd`] busy.
use super::Word;
use super::conduit::Conduit;
use crate::topology::Node;
use crate::wait;
use anyhow::{Context, Result, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Connections that are being made at a time: more would only be lost in queues and sent again a second later.
const AT_ONCE: usize = 256;

/// Where the connections go and how.
#[derive(Debug, Clone)]
pub struct Reach {
    /// In turns.
    pub sources: Vec<IpAddr>,
    /// In turns.
    pub to: Vec<SocketAddr>,
    /// With TLS, whose certificate has to be good for the address.
    pub tls: Option<Arc<ClientConfig>>,
}

/// How much and how often.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Connections.
    pub connections: usize,
    /// Between an answer and the next line.
    pub interval: Duration,
    /// Without an answer for so long, a connection is given up.
    pub patience: Duration,
}

/// One connection, as far as it is known.
#[derive(Debug, Clone)]
pub struct Member {
    /// The client's end, the server's address.
    pub ends: (SocketAddr, SocketAddr),
    /// Who serves it.
    pub node: Option<String>,
    /// Answers so far.
    pub answers: u64,
    /// When the last answer came.
    pub heard: Option<Instant>,
    /// The longest that an answer took, since that was last asked for.
    pub slowest: Duration,
    /// Since when and why it is of no use.
    pub broken: Option<(Instant, Broken)>,
}

/// What became of a connection.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// It was never made.
    Refused(String),
    /// The other end said that it knows nothing of it.
    Reset,
    /// The other end closed it.
    Closed,
    /// No answer for the plan's patience.
    Silent,
    /// An answer that this connection should not have got.
    Wrong(String),
    /// Something else.
    Failed(String),
}

/// Many connections of one client. They end when it is dropped.
pub struct Crowd {
    members: Arc<Mutex<Vec<Member>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Crowd {
    /// Starts making them, from the node.
    pub fn start(node: &Node, reach: &Reach, plan: Plan) -> Result<Self> {
        let sockets = node.netns().run(|| open(reach, plan.connections))??;
        let members = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let mut engine = Engine::new(sockets, reach, plan, members.clone())?;
        let flag = stop.clone();
        let thread = Some(thread::spawn(move || engine.run(&flag)));
        Ok(Self {
            members,
            stop,
            thread,
        })
    }

    /// Every connection as it is now.
    pub fn members(&self) -> Vec<Member> {
        lock(&self.members).clone()
    }

    /// Waits until each has had an answer; none may fail meanwhile.
    pub fn established(&self, limit: Duration) -> Result<()> {
        let beginning = |m: &Member| m.answers == 0 && m.broken.is_none();
        wait::until("an answer on each of the connections", limit, || {
            (!lock(&self.members).iter().any(beginning)).then_some(())
        })?;
        self.intact().context("while the connections were made")
    }

    /// Waits until each that is not broken has had an answer to a line that it sent from now on, or breaks.
    pub fn heard_again(&self, limit: Duration) -> Result<()> {
        self.heard_again_where(limit, |_| true)
    }

    /// The same of some.
    pub fn heard_again_where(&self, limit: Duration, wanted: impl Fn(&Member) -> bool) -> Result<()> {
        let now = Instant::now();
        // An answer that is under way may be to an earlier line; the second one cannot be.
        let before: Vec<u64> = lock(&self.members).iter().map(|m| m.answers).collect();
        let again =
            |(m, before): (&Member, &u64)| m.broken.is_some() || m.answers >= before + 2 || !wanted(m);
        let found = wait::until("two more answers on each of the connections", limit, || {
            lock(&self.members).iter().zip(&before).all(again).then_some(())
        });
        found.with_context(|| {
            let members = self.members();
            let late = members.iter().zip(&before).filter(|pair| !again(*pair));
            let late: Vec<&Member> = late.map(|pair| pair.0).collect();
            let first = late.first().map(ToString::to_string).unwrap_or_default();
            format!(
                "{} of {} after {:?}, such as {first}",
                late.len(),
                members.len(),
                now.elapsed()
            )
        })
    }

    /// Those that broke.
    pub fn broken(&self) -> Vec<Member> {
        let members = lock(&self.members);
        members.iter().filter(|m| m.broken.is_some()).cloned().collect()
    }

    /// An error that names some if any broke.
    pub fn intact(&self) -> Result<()> {
        let broken = self.broken();
        let all = lock(&self.members).len();
        ensure!(
            broken.is_empty(),
            "{} of {all} broke: {}",
            broken.len(),
            summary(&broken)
        );
        Ok(())
    }

    /// How many each server has.
    pub fn servers(&self) -> BTreeMap<String, usize> {
        let mut count = BTreeMap::new();
        for member in lock(&self.members).iter() {
            *count.entry(member.node.clone().unwrap_or_default()).or_default() += 1;
        }
        count
    }

    /// The longest that any answer took since this was last asked.
    pub fn take_slowest(&self) -> Duration {
        let mut members = lock(&self.members);
        let taken = members.iter_mut().map(|m| std::mem::take(&mut m.slowest));
        taken.max().unwrap_or_default()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What broke how often, and one of each.
fn summary(broken: &[Member]) -> String {
    let mut kinds: BTreeMap<&Broken, Vec<&Member>> = BTreeMap::new();
    for member in broken {
        if let Some((_, why)) = &member.broken {
            kinds.entry(why).or_default().push(member);
        }
    }
    let lines = kinds
        .iter()
        .take(12)
        .map(|(why, list)| format!("{} {why}, such as {}", list.len(), list[0]));
    lines.collect::<Vec<_>>().join("; ")
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "not made: {why}"),
            Self::Reset => f.write_str("reset"),
            Self::Closed => f.write_str("closed"),
            Self::Silent => f.write_str("silent"),
            Self::Wrong(why) | Self::Failed(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = self.node.as_deref().unwrap_or("nobody");
        write!(
            f,
            "{} > {} served by {server}, {} answers",
            self.ends.0, self.ends.1, self.answers
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sockets of the node's namespace, each with where it goes.
fn open(reach: &Reach, count: usize) -> Result<VecDeque<(Socket, SocketAddr)>> {
    let mut sockets = VecDeque::with_capacity(count);
    // Each target gets sources of its own family, in turns.
    let mut used: BTreeMap<bool, usize> = BTreeMap::new();
    for to in reach.to.iter().cycle().take(count) {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new(Domain::for_address(*to), kind, Some(Protocol::TCP))?;
        let fitting: Vec<&IpAddr> = reach
            .sources
            .iter()
            .filter(|s| s.is_ipv6() == to.is_ipv6())
            .collect();
        ensure!(!fitting.is_empty(), "no source for {to}");
        let turn = used.entry(to.is_ipv6()).or_default();
        let source = *fitting[*turn % fitting.len()];
        *turn += 1;
        let bound = socket.bind(&SocketAddr::new(source, 0).into());
        bound.with_context(|| format!("binding {source}"))?;
        socket.set_tcp_nodelay(true)?;
        sockets.push_back((socket, *to));
    }
    Ok(sockets)
}

struct Engine {
    epoll: Epoll,
    waiting: VecDeque<(Socket, SocketAddr)>,
    conduits: Vec<Option<Conduit>>,
    /// When each sent the line that is not answered yet.
    asked: Vec<Option<Instant>>,
    /// Who asks next, the first due at the front.
    due: VecDeque<(Instant, usize)>,
    members: Arc<Mutex<Vec<Member>>>,
    making: usize,
    tls: Option<Arc<ClientConfig>>,
    plan: Plan,
    checked: Instant,
}

impl Engine {
    fn new(
        waiting: VecDeque<(Socket, SocketAddr)>,
        reach: &Reach,
        plan: Plan,
        members: Arc<Mutex<Vec<Member>>>,
    ) -> Result<Self> {
        let mut list = Vec::new();
        for (socket, to) in &waiting {
            let local = socket.local_addr()?.as_socket().context("an address of IP")?;
            list.push(Member {
                ends: (local, *to),
                node: None,
                answers: 0,
                heard: None,
                slowest: Duration::ZERO,
                broken: None,
            });
        }
        *lock(&members) = list;
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            waiting,
            conduits: Vec::new(),
            asked: Vec::new(),
            due: VecDeque::new(),
            members,
            making: 0,
            tls: reach.tls.clone(),
            plan,
            checked: Instant::now(),
        })
    }

    fn run(&mut self, stop: &AtomicBool) {
        let mut events = [EpollEvent::empty(); 512];
        while !stop.load(Ordering::Relaxed) {
            self.connect_more();
            let count = self
                .epoll
                .wait(&mut events, EpollTimeout::from(5_u8))
                .unwrap_or(0);
            for event in &events[..count] {
                if let Ok(number) = usize::try_from(event.data()) {
                    self.go_on(number);
                }
            }
            self.ask_those_due();
            self.give_up_the_silent();
        }
    }

    fn connect_more(&mut self) {
        while self.making < AT_ONCE {
            let Some((socket, to)) = self.waiting.pop_front() else {
                return;
            };
            let number = self.conduits.len();
            self.making += 1;
            self.asked.push(Some(Instant::now()));
            match self.connect(socket, to, number) {
                Ok(conduit) => self.conduits.push(Some(conduit)),
                Err(error) => {
                    self.conduits.push(None);
                    self.ended(number, &error);
                }
            }
        }
    }

    fn connect(&self, socket: Socket, to: SocketAddr, number: usize) -> io::Result<Conduit> {
        let tls = self
            .tls
            .clone()
            .map(|config| ClientConnection::new(config, ServerName::from(to.ip())));
        let tls = tls.transpose().map_err(io::Error::other)?;
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll
            .add(socket.as_fd(), EpollEvent::new(interest, number as u64))?;
        let mut conduit = Conduit::new(socket.into(), tls.map(Connection::Client));
        conduit.send(b"ask\n");
        Ok(conduit)
    }

    fn go_on(&mut self, number: usize) {
        let Some(Some(conduit)) = self.conduits.get_mut(number) else {
            return;
        };
        match conduit.stream().peer_addr() {
            // Still connecting, or not: what became of it is the socket's error.
            Err(_) => match conduit.stream().take_error() {
                Ok(None) => {}
                Ok(Some(error)) | Err(error) => self.ended(number, &error),
            },
            Ok(_) => match conduit.pump() {
                Ok(open) => {
                    while let Some(line) = self.conduits[number].as_mut().and_then(Conduit::line) {
                        self.answered(number, &line);
                    }
                    if !open {
                        self.breaks(number, Broken::Closed);
                    }
                }
                Err(error) => self.ended(number, &error),
            },
        }
    }

    fn answered(&mut self, number: usize, line: &str) {
        let now = Instant::now();
        let asked = self.asked[number].take();
        let mut members = lock(&self.members);
        let member = &mut members[number];
        let expected = |word: &Word| {
            let same = member.node.as_ref().is_none_or(|node| *node == word.node);
            same && word.client == member.ends.0 && word.count == member.answers + 1
        };
        let wrong = match Word::parse(line) {
            Ok(word) if expected(&word) && asked.is_some() => {
                member.node = Some(word.node);
                None
            }
            Ok(word) => Some(format!(
                "{word:?} instead of the {}th of {member}",
                member.answers + 1
            )),
            Err(error) => Some(format!("{error:#}")),
        };
        if let Some(wrong) = wrong {
            drop(members);
            return self.breaks(number, Broken::Wrong(wrong));
        }
        self.making -= usize::from(member.answers == 0);
        member.answers += 1;
        member.heard = Some(now);
        member.slowest = member.slowest.max(asked.map_or(Duration::ZERO, |at| now - at));
        self.due.push_back((now + self.plan.interval, number));
    }

    fn ask_those_due(&mut self) {
        let now = Instant::now();
        while let Some(&(at, number)) = self.due.front()
            && at <= now
        {
            self.due.pop_front();
            let Some(Some(conduit)) = self.conduits.get_mut(number) else {
                continue;
            };
            self.asked[number] = Some(now);
            conduit.send(b"ask\n");
            if let Err(error) = conduit.flush() {
                self.ended(number, &error);
            }
        }
    }

    fn give_up_the_silent(&mut self) {
        let now = Instant::now();
        if now - self.checked < Duration::from_millis(250) {
            return;
        }
        self.checked = now;
        for number in 0..self.asked.len() {
            if self.asked[number].is_some_and(|at| now - at > self.plan.patience) {
                self.breaks(number, Broken::Silent);
            }
        }
    }

    fn ended(&mut self, number: usize, error: &io::Error) {
        let made = lock(&self.members)[number].answers > 0;
        self.breaks(
            number,
            match error.kind() {
                _ if !made => Broken::Refused(error.to_string()),
                io::ErrorKind::ConnectionReset => Broken::Reset,
                _ => Broken::Failed(error.to_string()),
            },
        );
    }

    fn breaks(&mut self, number: usize, why: Broken) {
        // Closing it takes it out of the epoll set too.
        self.conduits[number] = None;
        self.asked[number] = None;
        let mut members = lock(&self.members);
        let member = &mut members[number];
        if member.broken.is_none() {
            self.making -= usize::from(member.answers == 0);
            member.broken = Some((Instant::now(), why));
        }
    }
}
