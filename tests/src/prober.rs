//! An ICMP echo every few milliseconds from a node, and the gaps in the answers.
//!
//! The kernel answers, so what is measured is the network: who has the address and whether the switch and the
//! neighbour tables know it.
use crate::topology::Node;
use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long an answer may take once the probing has ended.
const STRAGGLERS: Duration = Duration::from_millis(300);

/// A prober under way.
pub struct Prober {
    stop: Arc<AtomicBool>,
    started: Instant,
    sender: JoinHandle<Vec<Duration>>,
    receiver: JoinHandle<Vec<(u32, Duration)>>,
}

/// One echo, timed from the start of the probing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// When it was sent.
    pub sent: Duration,
    /// When the answer came.
    pub answered: Option<Duration>,
}

/// A run of probes without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// When the last probe before it that was answered was sent.
    pub start: Duration,
    /// Until the next that was answered was sent, or the end.
    pub length: Duration,
    /// Probes without an answer.
    pub lost: usize,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Report {
    /// When the probing began, to compare with other clocks.
    pub started: Instant,
    /// Every probe.
    pub probes: Vec<Probe>,
    /// Answers to probes that had been answered before: two nodes answer.
    pub duplicates: usize,
}

impl Prober {
    /// Starts probing `target` from the node.
    pub fn start(node: &Node, target: IpAddr, interval: Duration) -> Result<Self> {
        static IDS: AtomicU16 = AtomicU16::new(1);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        let socket = node
            .netns()
            .run(|| open(target))?
            .with_context(|| format!("probing {target} (needs root)"))?;
        let receiving = socket.try_clone()?;
        let stop = Arc::new(AtomicBool::new(false));
        let started = Instant::now();
        let flag = stop.clone();
        let sender =
            thread::spawn(move || send_loop(&socket, target.is_ipv6(), id, interval, started, &flag));
        let flag = stop.clone();
        let receiver = thread::spawn(move || receive_loop(receiving, target.is_ipv6(), id, started, &flag));
        Ok(Self {
            stop,
            started,
            sender,
            receiver,
        })
    }

    /// Ends it and reports.
    pub fn finish(self) -> Result<Report> {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.sender.join().ok().context("the prober's sender panicked")?;
        let answers = self
            .receiver
            .join()
            .ok()
            .context("the prober's receiver panicked")?;
        let mut probes: Vec<Probe> = sent
            .into_iter()
            .map(|sent| Probe { sent, answered: None })
            .collect();
        let mut duplicates = 0;
        for (sequence, at) in answers {
            let Some(probe) = probes.get_mut(sequence as usize) else {
                continue;
            };
            if probe.answered.replace(at).is_some() {
                duplicates += 1;
            }
        }
        Ok(Report {
            started: self.started,
            probes,
            duplicates,
        })
    }
}

impl Report {
    /// Probes without an answer.
    pub fn lost(&self) -> usize {
        self.probes
            .iter()
            .filter(|probe| probe.answered.is_none())
            .count()
    }

    /// Every run of them.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let mut start = Duration::ZERO;
        let mut lost = 0;
        for probe in &self.probes {
            if probe.answered.is_none() {
                lost += 1;
                continue;
            }
            if lost > 0 {
                gaps.push(Gap {
                    start,
                    length: probe.sent - start,
                    lost,
                });
            }
            (start, lost) = (probe.sent, 0);
        }
        if lost > 0 {
            let end = self.probes.last().map_or(start, |probe| probe.sent);
            gaps.push(Gap {
                start,
                length: end - start,
                lost,
            });
        }
        gaps
    }

    /// The longest gap; zero if every probe was answered.
    pub fn longest(&self) -> Duration {
        self.gaps().iter().map(|gap| gap.length).max().unwrap_or_default()
    }
}

fn open(target: IpAddr) -> std::io::Result<Socket> {
    let (domain, protocol) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.connect(&SocketAddr::new(target, 0).into())?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    socket.set_recv_buffer_size(1 << 20)?;
    Ok(socket)
}

fn send_loop(
    socket: &Socket,
    ipv6: bool,
    id: u16,
    interval: Duration,
    started: Instant,
    stop: &AtomicBool,
) -> Vec<Duration> {
    let mut sent = Vec::new();
    let mut due = started;
    while !stop.load(Ordering::Relaxed) {
        let sequence = u32::try_from(sent.len()).unwrap_or(u32::MAX);
        sent.push(started.elapsed());
        // An error (no route, no neighbour) is a probe without an answer like any other.
        let _ = socket.send(&echo(ipv6, id, sequence));
        // Late probes are not made up for: a burst would not be a probe every 2 ms either.
        due = (due + interval).max(Instant::now());
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    sent
}

fn receive_loop(
    mut socket: Socket,
    ipv6: bool,
    id: u16,
    started: Instant,
    stop: &AtomicBool,
) -> Vec<(u32, Duration)> {
    let mut answers = Vec::new();
    let mut buffer = [0; 256];
    let mut stopped = None;
    loop {
        if stop.load(Ordering::Relaxed) && stopped.get_or_insert_with(Instant::now).elapsed() > STRAGGLERS {
            return answers;
        }
        let Ok(length) = socket.read(&mut buffer) else {
            continue;
        };
        if let Some(sequence) = sequence(&buffer[..length], ipv6, id) {
            answers.push((sequence, started.elapsed()));
        }
    }
}

/// An echo request: the sequence number proper is in the payload, since 16 bits last for two minutes only.
fn echo(ipv6: bool, id: u16, sequence: u32) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = if ipv6 { 128 } else { 8 };
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes()[2..]);
    packet[8..12].copy_from_slice(b"cplb");
    packet[12..].copy_from_slice(&sequence.to_be_bytes());
    // The kernel does it for ICMPv6, whose checksum covers the addresses.
    if !ipv6 {
        let sum = checksum(packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn checksum(packet: [u8; 16]) -> u16 {
    let words = packet
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    // Eight words carry at most once more.
    !(u16::try_from(folded & 0xffff)
        .unwrap_or_default()
        .wrapping_add(u16::try_from(folded >> 16).unwrap_or_default()))
}

/// The number of an answer to one of ours. IPv4 comes with its header, IPv6 without.
fn sequence(packet: &[u8], ipv6: bool, id: u16) -> Option<u32> {
    let header = if ipv6 {
        0
    } else {
        usize::from(packet.first()? & 0x0f) * 4
    };
    let icmp = packet.get(header..)?;
    let ours = *icmp.first()? == if ipv6 { 129 } else { 0 };
    let ours = ours && icmp.get(4..6)? == id.to_be_bytes() && icmp.get(8..12)? == b"cplb";
    let number = icmp.get(12..16)?.try_into().ok()?;
    ours.then(|| u32::from_be_bytes(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_run_from_answer_to_answer() {
        let probe = |ms: u64, answered: bool| {
            let sent = Duration::from_millis(ms);
            Probe {
                sent,
                answered: answered.then_some(sent),
            }
        };
        let probes = vec![
            probe(0, true),
            probe(2, false),
            probe(4, false),
            probe(6, true),
            probe(8, false),
        ];
        let report = Report {
            started: Instant::now(),
            probes,
            duplicates: 0,
        };
        let gap = |start: u64, length: u64, lost: usize| Gap {
            start: Duration::from_millis(start),
            length: Duration::from_millis(length),
            lost,
        };
        assert_eq!(report.gaps(), [gap(0, 6, 2), gap(6, 2, 1)]);
        assert_eq!((report.lost(), report.longest()), (3, Duration::from_millis(6)));
    }

    #[test]
    fn an_echo_sums_up_to_nothing() {
        let packet = echo(false, 7, 70_000);
        assert_eq!(checksum(packet), 0);
        let mut reply = vec![0x45; 20];
        reply.extend(packet);
        reply[20] = 0;
        assert_eq!(sequence(&reply, false, 7), Some(70_000));
        assert_eq!(sequence(&reply, false, 8), None);
        assert_eq!(sequence(&reply[..30], false, 7), None);
    }
}
