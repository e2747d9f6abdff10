//! Frames that are nearly right.
use crate::rng::Rng;
use anyhow::Result;
use lb_tests::xdp::fixture;
use lb_tests::xdp::scene::Scene;
use std::net::IpAddr;

/// Frames longer than this are cut: what is behind it matters only as a length.
const LONGEST: usize = 1600;

/// Where frames come from.
pub(crate) struct Corpus {
    frames: Vec<Vec<u8>>,
    addresses: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Corpus {
    /// Everything that the tables send.
    pub(crate) fn of(scene: &Scene) -> Result<Self> {
        let mut frames = Vec::new();
        for table in fixture::tables()? {
            for case in fixture::table(&table)? {
                for step in case.steps()? {
                    frames.push(step.frame()?.bytes(&scene.names)?);
                }
            }
        }
        Ok(Self {
            frames,
            addresses: scene.vips.iter().map(|vip| vip.address).collect(),
            ports: scene.services.iter().map(|service| service.port).collect(),
        })
    }

    /// The next frame.
    pub(crate) fn next(&self, rng: &mut Rng, frame: &mut Vec<u8>) {
        frame.clear();
        if rng.once_in(100) {
            frame.resize(14 + rng.below(200), 0);
            frame.iter_mut().for_each(|byte| *byte = rng.byte());
            return;
        }
        frame.extend(&self.frames[rng.below(self.frames.len())]);
        frame.truncate(LONGEST);
        self.client(rng, frame);
        for _ in 0..rng.pick(&[0, 0, 1, 1, 1, 2, 2, 3, 6]) {
            self.change(rng, frame);
        }
        if frame.len() < 14 {
            frame.resize(14, 0);
        }
        if rng.once_in(2) {
            correct(frame);
        }
    }

    /// Another client and another port of it, of not so many that they would not meet again.
    fn client(&self, rng: &mut Rng, frame: &mut [u8]) {
        let Some(at) = Layout::of(frame) else { return };
        if rng.once_in(2) {
            set16(frame, at.ip + if at.v6 { 22 } else { 14 }, rng.below(500));
        }
        if rng.once_in(2) {
            set16(frame, at.transport, 40_000 + rng.below(8));
        }
    }

    fn change(&self, rng: &mut Rng, frame: &mut Vec<u8>) {
        let Some(at) = Layout::of(frame) else {
            return anywhere(rng, frame);
        };
        match rng.below(16) {
            0..=3 => anywhere(rng, frame),
            4..=7 => network(rng, frame, &at),
            8 => self.destination(rng, frame, &at),
            9 => set16(
                frame,
                at.transport + 2,
                self.ports[rng.below(self.ports.len())].into(),
            ),
            10..=12 => transport(rng, frame, &at),
            13 => extend(rng, frame, &at),
            14 => tag(rng, frame),
            _ => link(rng, frame),
        }
    }

    fn destination(&self, rng: &mut Rng, frame: &mut [u8], at: &Layout) {
        let start = at.ip + if at.v6 { 24 } else { 16 };
        match self.addresses[rng.below(self.addresses.len())] {
            IpAddr::V4(ip) => set(frame, start, &ip.octets()),
            IpAddr::V6(ip) => set(frame, start, &ip.octets()),
        }
    }
}

/// Where headers begin, as far as that can be guessed.
struct Layout {
    ip: usize,
    v6: bool,
    transport: usize,
}

impl Layout {
    fn of(frame: &[u8]) -> Option<Self> {
        let mut at = 12;
        while matches!(frame.get(at..at + 2)?, [0x81, 0] | [0x88, 0xa8]) {
            at += 4;
        }
        let v6 = frame[at..at + 2] == [0x86, 0xdd];
        let ip = at + 2;
        let header = if v6 {
            40
        } else {
            usize::from(frame.get(ip)? & 15) * 4
        };
        Some(Self {
            ip,
            v6,
            transport: ip + header,
        })
    }
}

fn set(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn set16(frame: &mut [u8], at: usize, value: usize) {
    set(frame, at, &(value as u16).to_be_bytes());
}

/// A length near to what is there, or far from it.
fn length(rng: &mut Rng, frame: &[u8], at: usize) -> usize {
    let now = frame
        .get(at..at + 2)
        .map_or(0, |b| usize::from(b[0]) << 8 | usize::from(b[1]));
    match rng.below(6) {
        0 => now + 1,
        1 => now.wrapping_sub(1),
        2 => now + rng.below(64),
        3 => now.saturating_sub(rng.below(64)),
        4 => rng.pick(&[0, 1, 7, 8, 19, 20, 39, 40, 0xffff]),
        _ => rng.below(0x1_0000),
    }
}

fn anywhere(rng: &mut Rng, frame: &mut Vec<u8>) {
    let at = rng.below(frame.len().clamp(1, 140));
    match rng.below(5) {
        0 => set(frame, at, &[rng.pick(&[0, 1, 0x7f, 0x80, 0xff])]),
        1 => {
            let byte = rng.byte();
            set(frame, at, &[byte]);
        }
        2 => {
            let bit = 1 << rng.below(8);
            if let Some(byte) = frame.get_mut(at) {
                *byte ^= bit;
            }
        }
        3 => frame.truncate(14 + rng.below(frame.len().max(15) - 14)),
        _ => frame.resize((frame.len() + rng.below(80)).min(LONGEST), rng.byte()),
    }
}

const NEXT: &[u8] = &[
    0, 1, 4, 6, 17, 41, 43, 44, 47, 50, 51, 58, 59, 60, 89, 112, 132, 135, 139, 140, 253, 254,
];
const TTL: &[u8] = &[0, 1, 3, 4, 5, 6, 63, 64, 255];

fn network(rng: &mut Rng, frame: &mut [u8], at: &Layout) {
    let (ip, which) = (at.ip, rng.below(6));
    let (len, ttl, next) = if at.v6 { (4, 7, 6) } else { (2, 8, 9) };
    match which {
        0 => set(frame, ip, &[rng.byte()]),
        1 => set16(frame, ip + len, length(rng, frame, ip + len)),
        2 => set(frame, ip + ttl, &[rng.pick(TTL)]),
        3 => set(frame, ip + next, &[rng.pick(NEXT)]),
        // A source of any kind.
        4 => set(frame, ip + if at.v6 { 8 } else { 12 }, &[rng.byte(), rng.byte()]),
        _ if at.v6 => set(frame, ip, &[0x60 | rng.byte() >> 4, rng.byte()]),
        _ => {
            set16(frame, ip + 4, rng.below(16));
            set16(
                frame,
                ip + 6,
                rng.pick(&[0x2000, 0x4000, 0x00b9, 0x20b9, 0x8000, 0x6000, 0x1fff]),
            );
        }
    }
}

const FLAGS: &[u8] = &[0, 1, 2, 3, 4, 0x10, 0x11, 0x12, 0x14, 0x18, 0x29, 0xc2, 0xff];

fn transport(rng: &mut Rng, frame: &mut [u8], at: &Layout) {
    let start = at.transport;
    match rng.below(6) {
        0 | 1 => set(frame, start + 13, &[rng.pick(FLAGS)]),
        2 => set(frame, start + 12, &[rng.byte()]),
        3 => set16(frame, start + 4, length(rng, frame, start + 4)),
        4 => set(
            frame,
            start,
            &[rng.pick(&[0, 1, 2, 3, 4, 5, 8, 11, 12, 128, 129, 135])],
        ),
        // What an ICMP error quotes.
        _ => {
            let at = start + 8 + rng.below(48);
            let byte = rng.byte();
            set(frame, at, &[byte]);
        }
    }
}

/// Puts an extension header in front of what is there; or words of options, where there can be options.
fn extend(rng: &mut Rng, frame: &mut Vec<u8>, at: &Layout) {
    if at.ip + 40 > frame.len() {
        return;
    }
    let words = if at.v6 { 2 } else { 1 + rng.below(10) };
    let len = at.ip + if at.v6 { 4 } else { 2 };
    let now = usize::from(frame[len]) << 8 | usize::from(frame[len + 1]);
    set16(frame, len, now + 4 * words);
    let mut new = vec![1; 4 * words];
    if at.v6 {
        let kind = rng.pick(&[0, 43, 44, 51, 60]);
        let place = rng.pick(&[[0, 0], [0, 1], [0, 0x58], [5, 0xc9]]);
        let (next, id) = (frame[at.ip + 6], rng.below(8) as u8);
        new = vec![next, 0, place[0], place[1], 0, 0, 0, id];
        frame[at.ip + 6] = kind;
    } else {
        frame[at.ip] = frame[at.ip].wrapping_add(words as u8);
    }
    frame.splice(at.transport.min(frame.len())..at.transport.min(frame.len()), new);
}

/// One tag more, or one less.
fn tag(rng: &mut Rng, frame: &mut Vec<u8>) {
    if rng.once_in(3) && frame.len() > 18 {
        frame.drain(12..16);
    } else {
        let id = rng.pick(&[0, 100, 200, 101]);
        let kind = rng.pick(&[[0x81, 0], [0x88, 0xa8], [0x91, 0]]);
        frame.splice(12..12, [kind[0], kind[1], rng.byte() & 0xf0, id]);
    }
}

fn link(rng: &mut Rng, frame: &mut [u8]) {
    match rng.below(3) {
        0 => set(frame, 0, &[0xff; 6]),
        1 => set(frame, rng.below(6), &[rng.byte()]),
        _ => set(
            frame,
            12,
            &rng.pick(&[[8, 0], [0x86, 0xdd], [8, 6], [0x81, 0], [0, 0x26]]),
        ),
    }
}

/// Makes an IPv4 header's checksum right, if there is a header.
fn correct(frame: &mut [u8]) {
    let Some(Layout {
        ip,
        v6: false,
        transport,
    }) = Layout::of(frame)
    else {
        return;
    };
    let Some(header) = frame.get_mut(ip..transport).filter(|header| header.len() >= 20) else {
        return;
    };
    header[10..12].fill(0);
    let mut sum: u32 = header
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}
