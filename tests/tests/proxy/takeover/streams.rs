//! Connections on which both sides send numbered bytes all the time, some to a slow reader: not one byte may be lost,
//! doubled or changed.
use anyhow::{Context, Result, bail};
use lb_tests::topology::Node;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const STREAMS: usize = 6;
const CHUNK: usize = 64 * 1024;
/// Between two chunks.
const PAUSE: Duration = Duration::from_millis(4);

/// Bytes written and bytes read, of one end.
type Counts = (u64, u64);

pub(super) struct Streams {
    stop: Arc<AtomicBool>,
    servers: JoinHandle<Result<Vec<JoinHandle<Result<Counts>>>>>,
    clients: Vec<JoinHandle<Result<Counts>>>,
}

impl Streams {
    /// From `client` through `via` to a server on `back`.
    pub(super) fn start(back: &Node, client: &Node, via: SocketAddr) -> Result<Self> {
        let here = SocketAddr::new(back.ipv4()?, via.port());
        let listener = back.netns().run(|| TcpListener::bind(here))??;
        let stop = Arc::new(AtomicBool::new(false));
        let servers = {
            let stop = stop.clone();
            thread::spawn(move || {
                // Whoever checks the server's health says nothing and leaves.
                let mut ends = Vec::new();
                while ends.len() < STREAMS {
                    let (stream, _) = listener.accept()?;
                    let mut first = [0];
                    if matches!(stream.peek(&mut first), Ok(1)) {
                        let slow = ends.len() % 3 == 1;
                        ends.push(end(stream, slow, stop.clone()));
                    }
                }
                // It goes on being healthy.
                thread::spawn(move || listener.incoming().for_each(drop));
                Ok(ends)
            })
        };
        let clients = (0..STREAMS)
            .map(|n| {
                let stream = client
                    .netns()
                    .run(|| TcpStream::connect(via))?
                    .context("a stream")?;
                Ok(end(stream, n % 3 == 2, stop.clone()))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            stop,
            servers,
            clients,
        })
    }

    /// Ends them well. How many bytes came.
    pub(super) fn end(self) -> Result<u64> {
        self.stop.store(true, Relaxed);
        let joined = |end: JoinHandle<Result<Counts>>| match end.join() {
            Ok(counts) => counts,
            Err(_) => bail!("an end panicked"),
        };
        let servers = match self.servers.join() {
            Ok(servers) => servers?,
            Err(_) => bail!("the server panicked"),
        };
        let sum = |ends: Vec<JoinHandle<Result<Counts>>>| -> Result<Counts> {
            ends.into_iter().try_fold((0, 0), |(wrote, read), one| {
                let (w, r) = joined(one)?;
                Ok((wrote + w, read + r))
            })
        };
        let (clients, servers) = (sum(self.clients), sum(servers));
        let (clients, servers) = (clients.context("clients")?, servers.context("servers")?);
        assert_eq!(clients, (servers.1, servers.0), "what was written was read");
        Ok(clients.1 + servers.1)
    }
}

/// Writes and reads until `stop`, then what is left.
fn end(stream: TcpStream, slow: bool, stop: Arc<AtomicBool>) -> JoinHandle<Result<Counts>> {
    thread::spawn(move || {
        let mut to = stream.try_clone()?;
        let writer = thread::spawn(move || -> Result<u64> {
            let (mut at, mut chunk) = (0, vec![0; CHUNK]);
            while !stop.load(Relaxed) {
                fill(&mut chunk, at);
                to.write_all(&chunk).context("writing")?;
                at += chunk.len() as u64;
                thread::sleep(PAUSE);
            }
            to.shutdown(Shutdown::Write)?;
            Ok(at)
        });
        let read = read_all(stream, slow);
        let wrote = writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))?;
        Ok((wrote?, read?))
    })
}

fn read_all(mut from: TcpStream, slow: bool) -> Result<u64> {
    let size = if slow { CHUNK / 8 } else { CHUNK };
    let (mut at, mut chunk, mut wanted) = (0u64, vec![0; size], vec![0; size]);
    loop {
        let n = match from.read(&mut chunk) {
            Ok(0) => return Ok(at),
            Ok(n) => n,
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e).with_context(|| format!("reading after {at} bytes")),
        };
        fill(&mut wanted, at);
        if chunk.get(..n) != wanted.get(..n) {
            bail!("other bytes than were written, after {at}");
        }
        at += n as u64;
        if slow {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The bytes of a stream from `at` on: each eight are their own place, turned so that no two look alike.
fn fill(chunk: &mut [u8], at: u64) {
    for (place, byte) in (at..).zip(chunk) {
        let word = (place / 8).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        *byte = word[usize::try_from(place % 8).unwrap_or(0)];
    }
}
