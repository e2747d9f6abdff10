//! Whether made-up flows push out those that are real.
use crate::rng::Rng;
use crate::setting;
use anyhow::{Result, ensure};
use lb_common::abi::XDP_PROGRAM;
use lb_common::abi::flow::{self, STALE, STAMPS, WAYS};
use lb_tests::xdp::fixture;
use lb_tests::xdp::frame::Frame;
use lb_tests::xdp::image::Places;
use lb_tests::xdp::model::{Flow, Verdict};
use lb_tests::xdp::object::{Globals, Loan};
use lb_tests::xdp::scene::Scene;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

/// Connections that were open before.
const OPEN: u32 = 20_000;
/// Packets of each flood.
const FLOOD: u32 = 500_000;

/// A director with open connections.
struct Director {
    object: Loan,
    scene: Scene,
    rng: Rng,
    /// Packets sent since the counters were read.
    sent: u64,
}

/// One packet of many.
struct Template {
    bytes: Vec<u8>,
    v6: bool,
}

fn template(scene: &Scene, text: &str) -> Result<Template> {
    Ok(Template {
        bytes: Frame::parse(text)?.bytes(&scene.names)?,
        v6: text.contains("ip6"),
    })
}

impl Director {
    fn new() -> Result<Self> {
        let mut object = Loan::of(XDP_PROGRAM, Globals::default())?;
        let scene = fixture::scene()?;
        object.install(&scene, Places::Usual)?;
        Ok(Self {
            object,
            scene,
            rng: Rng::new(setting("CPLB_HOSTILE_SEED").unwrap_or(1), 7),
            sent: 0,
        })
    }

    /// Sends a packet from this address and port.
    fn send(&mut self, template: &mut Template, source: u32, port: u16) -> Result<(u32, [u8; 6])> {
        let bytes = &mut template.bytes;
        let (at, transport) = if template.v6 { (14 + 20, 54) } else { (14 + 12, 34) };
        bytes[at..at + 4].copy_from_slice(&source.to_be_bytes());
        bytes[transport..transport + 2].copy_from_slice(&port.to_be_bytes());
        let mut out = [0; 256];
        let ran = self.object.run(bytes, &mut out)?;
        self.sent += 1;
        Ok((ran.verdict, std::array::from_fn(|i| out[i])))
    }

    /// Opens connections: two packets of each, as after a handshake. The answer is which of them are remembered.
    fn open(&mut self, port: u16) -> Result<Vec<Open>> {
        let mut ack = template(&self.scene, &format!("ether / ip / tcp dport={port}"))?;
        let mut open = Vec::new();
        for i in 0..OPEN {
            let source = u32::from(Ipv4Addr::new(10, 64, 0, 0)) + i;
            self.send(&mut ack, source, 50_000)?;
            let (_, mac) = self.send(&mut ack, source, 50_000)?;
            let flow = Flow {
                src: IpAddr::V4(source.into()),
                dst: self.scene.names.ip("vip")?,
                src_port: 50_000,
                dst_port: port,
                protocol: 6,
            };
            let hash = flow.hash(&self.scene.key);
            open.push(Open { source, hash, mac });
        }
        open.retain(|o| {
            self.word(o.hash)
                .is_some_and(|word| flow::class(word) == flow::ESTABLISHED)
        });
        Ok(open)
    }

    /// The word of a hash.
    fn word(&self, hash: u64) -> Option<u64> {
        let set = flow::set_of(hash) as usize * WAYS;
        let mut words = (0..WAYS).map(|way| self.object.flows.get(set + way));
        words.find(|word| flow::is_of(*word, hash))
    }

    /// How many of them are remembered.
    fn kept(&self, open: &[Open]) -> usize {
        open.iter().filter(|o| self.word(o.hash).is_some()).count()
    }

    /// Makes their words of this class and age.
    fn rewrite(&mut self, open: &[Open], class: u64, age: u64) {
        for o in open {
            let set = flow::set_of(o.hash) as usize * WAYS;
            let mut ways = set..set + WAYS;
            if let Some(place) = ways.find(|at| flow::is_of(self.object.flows.get(*at), o.hash)) {
                let backend = flow::backend(self.object.flows.get(place));
                let word = flow::word(o.hash, STAMPS - age, class, backend);
                self.object.flows.set(place, word);
            }
        }
    }

    /// Sends a flood from made-up sources, each of which sends `times` packets.
    fn flood(&mut self, text: &str, times: u32) -> Result<f64> {
        let mut template = template(&self.scene, text)?;
        let started = Instant::now();
        for _ in 0..FLOOD / times {
            // From 20.0.0.0 to 63.255.255.255, where no client of ours is.
            let source = 0x1400_0000 | self.rng.next() as u32 & 0x2fff_ffff;
            let source_port = self.rng.next() as u16;
            for _ in 0..times {
                self.send(&mut template, source, source_port)?;
            }
        }
        Ok(f64::from(FLOOD) / started.elapsed().as_secs_f64())
    }

    /// How many of them still go where they went, when the table would send them elsewhere.
    fn survivors(&mut self, open: &[Open], port: u16) -> Result<usize> {
        for (name, pattern) in &mut self.scene.pools {
            if name == "one" || name == "three" {
                *pattern = vec![8];
            }
        }
        self.object.write_rings(&self.scene)?;
        let mut ack = template(&self.scene, &format!("ether / ip / tcp dport={port}"))?;
        let mut alive = 0;
        for o in open {
            let (verdict, mac) = self.send(&mut ack, o.source, 50_000)?;
            alive += usize::from(verdict == Verdict::Tx as u32 && mac == o.mac);
        }
        Ok(alive)
    }
}

/// An open connection.
struct Open {
    source: u32,
    hash: u64,
    mac: [u8; 6],
}

fn share(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of as f64
}

/// Floods, and how many packets each made-up source sends.
const FLOODS: &[(&str, &str, u32)] = &[
    ("SYNs", "ether / ip / tcp flags=S", 1),
    ("SYNs, IPv6", "ether / ip6 / tcp flags=S", 1),
    ("ACKs", "ether / ip / tcp", 1),
    ("ACKs, IPv6", "ether / ip6 / tcp", 1),
    (
        "ACKs of clients that keep their backend",
        "ether / ip / tcp dport=8133",
        1,
    ),
    ("UDP", "ether / ip / udp", 1),
    ("ACKs, two of each", "ether / ip / tcp", 2),
    (
        "ACKs of clients that keep their backend, two of each",
        "ether / ip / tcp dport=8133",
        2,
    ),
    ("first fragments", "ether / ip mf=1 / udp len=3000 / data 64", 1),
];

#[test]
fn no_flood_of_made_up_sources_pushes_out_an_established_flow() -> Result<()> {
    for port in [6443, 8133] {
        let mut director = Director::new()?;
        let before = director.object.all_counters()?;
        let open = director.open(port)?;
        let part = share(open.len(), OPEN as usize);
        println!("port {port}: {OPEN} connections, of which {part:.2} % are remembered");
        ensure!(part > 99.0, "{part} %");
        for (name, text, times) in FLOODS {
            let rate = director.flood(text, *times)?;
            let kept = director.kept(&open);
            println!(
                "{FLOOD} {name}: {:.2} % left ({rate:.0} packets/s)",
                share(kept, open.len())
            );
            ensure!(
                kept == open.len(),
                "{name}: {} of {} are gone",
                open.len() - kept,
                open.len()
            );
        }
        let alive = director.survivors(&open, port)?;
        ensure!(
            alive == open.len(),
            "{} of {} go elsewhere",
            open.len() - alive,
            open.len()
        );
        let counted = director.object.all_counters()?.total() - before.total();
        ensure!(
            counted == director.sent,
            "{} sent, {counted} counted",
            director.sent
        );
    }
    Ok(())
}

#[test]
fn what_a_flood_may_push_out_is_what_was_seen_once_or_not_for_long() -> Result<()> {
    let mut director = Director::new()?;
    let open = director.open(443)?;
    let (quiet, once) = open.split_at(open.len() / 2);
    director.rewrite(quiet, flow::ESTABLISHED, STALE);
    director.rewrite(once, flow::PROBATION, 0);
    director.flood("ether / ip / tcp flags=S", 1)?;
    ensure!(director.kept(&open) == open.len(), "a SYN is never remembered");
    director.flood("ether / ip / tcp", 2)?;
    let kept = director.kept(quiet);
    ensure!(
        kept == quiet.len(),
        "{} within their time are gone",
        quiet.len() - kept
    );
    let once_kept = director.kept(once);
    director.rewrite(quiet, flow::ESTABLISHED, STALE + 1);
    director.flood("ether / ip / tcp", 2)?;
    let late = director.kept(quiet);
    println!(
        "after {FLOOD} made-up ACKs, two of each: 100 % of flows not seen for {STALE} units are left, {:.2} % of those \
         seen once; after as many more {:.2} % of flows not seen for {} units",
        share(once_kept, once.len()),
        share(late, quiet.len()),
        STALE + 1
    );
    ensure!(
        once_kept < once.len() && late < quiet.len(),
        "the table would stay full for ever"
    );
    Ok(())
}

#[test]
fn a_flood_makes_no_more_words_than_may_be_made() -> Result<()> {
    let mut director = Director::new()?;
    director.scene.inserts = 1000;
    let scene = director.scene.clone();
    director.object.install(&scene, Places::Usual)?;
    director.flood("ether / ip / tcp", 1)?;
    let words = director.object.flows.all().filter(|word| *word != 0).count();
    let processors = std::thread::available_parallelism()?.get();
    println!("{FLOOD} made-up ACKs: {words} words");
    // Some find another newcomer in their place, and are not put there.
    ensure!((900..=1000 * processors).contains(&words), "{words} words");
    Ok(())
}
