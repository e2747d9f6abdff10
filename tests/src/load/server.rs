//! The server: one thread, any number of listening sockets.
use super::{HEADER, parse};
use anyhow::{Context, Result};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

/// Events taken at a time.
const EVENTS: usize = 256;
/// Read and written at a time.
const CHUNK: usize = 128 * 1024;
const INTEREST: EpollFlags = EpollFlags::EPOLLIN
    .union(EpollFlags::EPOLLOUT)
    .union(EpollFlags::EPOLLRDHUP)
    .union(EpollFlags::EPOLLET);

/// One that runs on a thread of the calling one's namespace.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, in the order asked for.
    pub addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts it; port 0 takes any.
    pub fn start(addresses: &[SocketAddr]) -> Result<Self> {
        let listeners = open(addresses)?;
        let addresses = listeners
            .iter()
            .map(TcpListener::local_addr)
            .collect::<Result<_, _>>()?;
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (end, count) = (stop.clone(), accepted.clone());
        let thread = std::thread::spawn(move || {
            if let Err(error) = run(&listeners, &end, &count) {
                eprintln!("the load's server ended: {error:#}");
            }
        });
        Ok(Self {
            addresses,
            stop,
            accepted,
            thread: Some(thread),
        })
    }

    /// Connections so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves until the process ends.
pub fn serve(addresses: &[SocketAddr]) -> Result<()> {
    run(&open(addresses)?, &AtomicBool::new(false), &AtomicU64::new(0))
}

fn open(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    let one = |a: &SocketAddr| -> Result<TcpListener> {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::for_address(*a), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&(*a).into()).with_context(|| a.to_string())?;
        socket.listen(65_535)?;
        Ok(socket.into())
    };
    addresses.iter().map(one).collect()
}

/// Where a connection is in its request.
#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    header: [u8; HEADER],
    have: usize,
    body: u64,
    answer: u64,
}

fn run(listeners: &[TcpListener], stop: &AtomicBool, accepted: &AtomicU64) -> Result<()> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    for (i, listener) in listeners.iter().enumerate() {
        epoll.add(listener, EpollEvent::new(EpollFlags::EPOLLIN, i as u64))?;
    }
    let mut peers: HashMap<u64, Peer> = HashMap::new();
    let mut next = listeners.len() as u64;
    let mut events = vec![EpollEvent::empty(); EVENTS];
    let mut buffer = vec![0u8; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        let n = match epoll.wait(&mut events, EpollTimeout::from(100u16)) {
            Ok(n) => n,
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for event in events.iter().take(n) {
            let data = event.data();
            if let Some(listener) = usize::try_from(data).ok().and_then(|i| listeners.get(i)) {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    epoll.add(&stream, EpollEvent::new(INTEREST, next))?;
                    accepted.fetch_add(1, Ordering::Relaxed);
                    peers.insert(next, Peer::new(stream));
                    next += 1;
                }
            } else if let Some(peer) = peers.get_mut(&data)
                && !peer.turn(&mut buffer)
            {
                peers.remove(&data);
            }
        }
    }
    Ok(())
}

impl Peer {
    const fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            header: [0; HEADER],
            have: 0,
            body: 0,
            answer: 0,
        }
    }

    /// Goes on until the socket will not. False at the end.
    fn turn(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            if self.have < HEADER {
                match self
                    .stream
                    .read(self.header.get_mut(self.have..).unwrap_or_default())
                {
                    Ok(0) => return false,
                    Ok(n) => self.have += n,
                    Err(e) => return again(&e),
                }
                if self.have == HEADER {
                    (self.answer, self.body) = parse(self.header);
                }
            } else if self.body > 0 {
                let room = buffer.len().min(usize::try_from(self.body).unwrap_or(usize::MAX));
                match self.stream.read(buffer.get_mut(..room).unwrap_or_default()) {
                    Ok(0) => return false,
                    Ok(n) => self.body -= n as u64,
                    Err(e) => return again(&e),
                }
            } else if self.answer > 0 {
                let room = buffer
                    .len()
                    .min(usize::try_from(self.answer).unwrap_or(usize::MAX));
                match self.stream.write(buffer.get(..room).unwrap_or_default()) {
                    Ok(n) => self.answer -= n as u64,
                    Err(e) => return again(&e),
                }
            } else {
                self.have = 0;
            }
        }
    }
}

fn again(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
