//! Clients: one thread that keeps a number of connections busy, in one of a few ways.
use super::{HEADER, header};
use anyhow::{Context, Result, bail};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const EVENTS: usize = 256;
const CHUNK: usize = 128 * 1024;
/// No connection has this number.
const TIMER: u64 = u64::MAX;
const INTEREST: EpollFlags = EpollFlags::EPOLLIN
    .union(EpollFlags::EPOLLOUT)
    .union(EpollFlags::EPOLLRDHUP)
    .union(EpollFlags::EPOLLET);

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Connect, ask once, hang up, again.
    Connect,
    /// Ask again and again on one connection.
    Ask,
    /// The same, so many times a second over all connections, whether or not answers come in time.
    Paced(f64),
    /// [`Self::Connect`] at a pace.
    PacedConnect(f64),
    /// Read an answer without an end.
    Download,
    /// Send a request without an end.
    Upload,
}

/// What they did.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answers that came.
    pub answers: u64,
    /// Bytes of answers, or of an upload's body.
    pub bytes: u64,
    /// Connections that ended before their answer, or were refused.
    pub failed: u64,
    /// How the first of those ended.
    pub why: Option<String>,
    /// How long answers took.
    pub latencies: Latencies,
    /// How long it went on.
    pub elapsed: Duration,
}

/// Nanoseconds each.
#[derive(Clone, Debug, Default)]
pub struct Latencies(pub Vec<u64>);

impl Latencies {
    /// So much of them took no longer (0 to 1). 0 where there are none.
    pub fn at(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into a list of some thousands"
        )]
        let index = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
        Duration::from_nanos(sorted.get(index).copied().unwrap_or(0))
    }
}

/// A number of connections to one address.
#[derive(Debug)]
pub struct Client {
    to: SocketAddr,
    kind: Kind,
    answer: u64,
    body: u64,
    epoll: Epoll,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    tally: Tally,
}

#[derive(Debug)]
struct Connection {
    stream: Option<TcpStream>,
    /// Bytes of the request that are sent, and of the answer that are there.
    sent: u64,
    got: u64,
    busy: bool,
    since: Instant,
}

impl Client {
    /// Connects so many times; requests have a body of `body` bytes and ask for `answer` bytes.
    pub fn new(to: SocketAddr, kind: Kind, connections: usize, body: u64, answer: u64) -> Result<Self> {
        let (body, answer) = match kind {
            Kind::Download => (0, u64::MAX),
            Kind::Upload => (u64::MAX, 1),
            Kind::Connect | Kind::Ask | Kind::Paced(_) | Kind::PacedConnect(_) => (body, answer),
        };
        let mut client = Self {
            to,
            kind,
            answer,
            body,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            connections: Vec::new(),
            buffer: vec![0; CHUNK],
            tally: Tally::default(),
        };
        for i in 0..connections {
            client.connections.push(Connection::idle());
            client.connect(i).context("the first connections")?;
        }
        Ok(client)
    }

    /// Works for so long. What was under way at the end is not counted.
    pub fn run(&mut self, limit: Duration) -> Result<Tally> {
        self.tally = Tally::default();
        let start = Instant::now();
        let pacer = match self.kind {
            Kind::Paced(rate) | Kind::PacedConnect(rate) => Some(self.pacer(rate)?),
            Kind::Connect | Kind::Ask | Kind::Download | Kind::Upload => None,
        };
        let mut due = start;
        let mut turn = 0usize;
        if pacer.is_none() {
            for i in 0..self.connections.len() {
                self.begin(i, start)?;
            }
        }
        let mut events = vec![EpollEvent::empty(); EVENTS];
        while start.elapsed() < limit {
            let n = match self.epoll.wait(&mut events, EpollTimeout::from(20u8)) {
                Ok(n) => n,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in events.iter().take(n) {
                if event.data() == TIMER {
                    if let Some((timer, every)) = &pacer {
                        timer.wait()?;
                        while due <= Instant::now() {
                            let i = turn % self.connections.len();
                            turn += 1;
                            self.begin(i, due)?;
                            due += *every;
                        }
                    }
                } else if let Ok(i) = usize::try_from(event.data()) {
                    self.go_on(i)?;
                }
            }
        }
        let mut tally = std::mem::take(&mut self.tally);
        tally.elapsed = start.elapsed();
        if let Some((timer, _)) = &pacer {
            self.epoll.delete(timer)?;
        }
        Ok(tally)
    }

    /// One request on each connection, and waits for all answers: then every connection is idle.
    pub fn ask_once(&mut self, limit: Duration) -> Result<()> {
        let kind = std::mem::replace(&mut self.kind, Kind::Paced(1.0));
        let start = Instant::now();
        self.tally = Tally::default();
        for i in 0..self.connections.len() {
            self.begin(i, start)?;
        }
        let mut events = vec![EpollEvent::empty(); EVENTS];
        let all = self.connections.len() as u64;
        while self.tally.answers < all {
            let Tally { answers, failed, .. } = self.tally;
            let why = self.tally.why.as_deref().unwrap_or("time was up");
            // Nobody asks again: when each has its answer or was broken, no more will come.
            if answers + failed >= all || start.elapsed() > limit {
                bail!("{answers} of {all} connections had an answer, {failed} were broken: {why}");
            }
            let n = self
                .epoll
                .wait(&mut events, EpollTimeout::from(20u8))
                .unwrap_or(0);
            for event in events.iter().take(n) {
                if let Ok(i) = usize::try_from(event.data()) {
                    self.go_on(i)?;
                }
            }
        }
        self.kind = kind;
        Ok(())
    }

    /// Fires a little more often than needed; what is due is decided by the clock.
    fn pacer(&self, rate: f64) -> Result<(TimerFd, Duration)> {
        let every = Duration::from_secs_f64(1.0 / rate);
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        timer.set(
            Expiration::Interval(TimeSpec::from_duration(every)),
            TimerSetTimeFlags::empty(),
        )?;
        self.epoll
            .add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        Ok((timer, every))
    }

    fn connect(&mut self, i: usize) -> Result<()> {
        let socket = Socket::new(Domain::for_address(self.to), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&self.to.into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(e) => return Err(e).with_context(|| format!("connecting to {}", self.to)),
        }
        let stream: TcpStream = socket.into();
        self.epoll.add(&stream, EpollEvent::new(INTEREST, i as u64))?;
        if let Some(c) = self.connections.get_mut(i) {
            c.stream = Some(stream);
        }
        Ok(())
    }

    /// A request on connection `i`, counted from `since`; nothing if the one before it is still under way.
    fn begin(&mut self, i: usize, since: Instant) -> Result<()> {
        let Some(c) = self.connections.get_mut(i).filter(|c| !c.busy) else {
            return Ok(());
        };
        (c.busy, c.sent, c.got, c.since) = (true, 0, 0, since);
        if c.stream.is_none() {
            self.connect(i)?;
        }
        self.go_on(i)
    }

    fn go_on(&mut self, i: usize) -> Result<()> {
        loop {
            let request = header(self.answer, self.body);
            let whole = self.body.saturating_add(HEADER as u64);
            let answer = self.answer;
            let Some(c) = self.connections.get_mut(i).filter(|c| c.busy) else {
                return Ok(());
            };
            match c.turn(
                &request,
                whole,
                answer,
                &mut self.buffer,
                &mut self.tally,
                self.kind,
            ) {
                Turn::Waits => return Ok(()),
                Turn::Failed(why) => {
                    c.stream = None;
                    c.busy = false;
                    self.tally.failed += 1;
                    self.tally.why.get_or_insert(why);
                }
                Turn::Answered => {
                    c.busy = false;
                    self.tally.answers += 1;
                    let took = u64::try_from(c.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    self.tally.latencies.0.push(took);
                    if matches!(self.kind, Kind::Connect | Kind::PacedConnect(_)) {
                        c.stream = None;
                    }
                }
            }
            if matches!(self.kind, Kind::Paced(_) | Kind::PacedConnect(_)) {
                return Ok(());
            }
            // The next one at once: not by calling ourselves, which would go deeper with each.
            let now = Instant::now();
            if let Some(c) = self.connections.get_mut(i) {
                (c.busy, c.sent, c.got, c.since) = (true, 0, 0, now);
                if c.stream.is_none() {
                    self.connect(i)?;
                    return Ok(());
                }
            }
        }
    }
}

enum Turn {
    Waits,
    Failed(String),
    Answered,
}

impl Connection {
    fn idle() -> Self {
        Self {
            stream: None,
            sent: 0,
            got: 0,
            busy: false,
            since: Instant::now(),
        }
    }

    fn turn(
        &mut self,
        request: &[u8; HEADER],
        whole: u64,
        answer: u64,
        buffer: &mut [u8],
        tally: &mut Tally,
        kind: Kind,
    ) -> Turn {
        let Some(stream) = self.stream.as_mut() else {
            return Turn::Failed("it could not connect".to_owned());
        };
        while self.sent < whole {
            let done = usize::try_from(self.sent).unwrap_or(usize::MAX);
            let wrote = if done < HEADER {
                let short = (whole - self.sent).min(1024);
                let mut first = [0u8; HEADER + 1024];
                let len = usize::try_from(short).unwrap_or(HEADER);
                if let Some(head) = first.get_mut(..HEADER - done) {
                    head.copy_from_slice(request.get(done..).unwrap_or_default());
                }
                stream.write(first.get(..len).unwrap_or_default())
            } else {
                let left = usize::try_from(whole - self.sent)
                    .unwrap_or(usize::MAX)
                    .min(buffer.len());
                stream.write(buffer.get(..left).unwrap_or_default())
            };
            match wrote {
                Ok(n) => {
                    self.sent += n as u64;
                    if kind == Kind::Upload {
                        tally.bytes += n as u64;
                    }
                }
                Err(e)
                    if matches!(
                        e.kind(),
                        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NotConnected
                    ) =>
                {
                    return Turn::Waits;
                }
                Err(e) => return Turn::Failed(format!("writing: {e}")),
            }
        }
        while self.got < answer {
            match stream.read(buffer) {
                Ok(0) => return Turn::Failed("it ended before its answer did".to_owned()),
                Ok(n) => {
                    self.got += n as u64;
                    tally.bytes += n as u64;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    return Turn::Waits;
                }
                Err(e) => return Turn::Failed(format!("reading: {e}")),
            }
        }
        Turn::Answered
    }
}
