//! A network that loses, doubles, delays and splits. Packets are bytes: what arrives was encoded and must be received.
use crate::rng::Rng;
use lb_common::time::{Duration, Instant};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::rc::Rc;

/// The longest way of a packet when nothing is wrong.
pub(crate) const DELAY: Duration = Duration::from_millis(5);
/// What may be added to that in bad weather; packets overtake each other then.
const STORM_DELAY: Duration = Duration::from_millis(60);

/// A packet on its way.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) instance: usize,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) hop_limit: u8,
    pub(crate) bytes: Rc<Vec<u8>>,
}

#[derive(Debug)]
struct Flight {
    at: Instant,
    order: u64,
    to: usize,
    packet: Packet,
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Flight {}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Flight {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// How bad it is, in per cent of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    pub(crate) lost: usize,
    pub(crate) doubled: usize,
    pub(crate) delayed: usize,
    pub(crate) damaged: usize,
}

#[derive(Debug)]
pub(crate) struct Net {
    /// Which part of the network each node is in.
    pub(crate) part: Vec<usize>,
    pub(crate) weather: Weather,
    flights: BinaryHeap<Reverse<Flight>>,
    order: u64,
    /// When the last packet from one node to another arrives: in good weather none overtakes it.
    last: Vec<Vec<Instant>>,
}

impl Net {
    pub(crate) fn new(nodes: usize) -> Self {
        Self {
            part: vec![0; nodes],
            weather: Weather::default(),
            flights: BinaryHeap::new(),
            order: 0,
            last: vec![vec![Instant::ZERO; nodes]; nodes],
        }
    }

    pub(crate) fn connected(&self, a: usize, b: usize) -> bool {
        self.part[a] == self.part[b]
    }

    /// From one node to another; what the weather makes of it.
    pub(crate) fn send(&mut self, rng: &mut Rng, now: Instant, from: usize, to: usize, packet: &Packet) {
        if !self.connected(from, to) || rng.chance(self.weather.lost) {
            return;
        }
        let copies = if rng.chance(self.weather.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            let mut at = now + Duration::from_micros(50) + rng.duration(DELAY - Duration::from_micros(50));
            if rng.chance(self.weather.delayed) {
                at += rng.duration(STORM_DELAY);
            } else {
                at = at.max(self.last[from][to]);
                self.last[from][to] = at;
            }
            let mut packet = packet.clone();
            if rng.chance(self.weather.damaged) {
                damage(rng, &mut packet);
            }
            self.order += 1;
            self.flights.push(Reverse(Flight {
                at,
                order: self.order,
                to,
                packet,
            }));
        }
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.flights.peek().map(|Reverse(f)| f.at)
    }

    /// What has arrived, and where.
    pub(crate) fn arrive(&mut self, now: Instant) -> Option<(usize, Packet)> {
        if self.next()? > now {
            return None;
        }
        self.flights.pop().map(|Reverse(f)| (f.to, f.packet))
    }
}

/// In a way that reception must notice.
fn damage(rng: &mut Rng, packet: &mut Packet) {
    let mut bytes = packet.bytes.to_vec();
    match rng.below(4) {
        0 => packet.hop_limit = 254,
        1 => bytes.truncate(rng.below(bytes.len())),
        2 => bytes.extend_from_slice(&[0; 8]),
        _ => bytes[6] ^= 0xa5,
    }
    packet.bytes = Rc::new(bytes);
}
