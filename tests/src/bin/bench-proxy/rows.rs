//! What is measured.
use crate::peer::Peer;
use anyhow::Result;
use lb_tests::load::{Client, Kind, Tally};
use lb_tests::topology::Node;
use std::time::Duration;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Row {
    Connects,
    Requests,
    Download,
    Upload,
    Latency,
    ConnectLatency,
    Memory,
}

/// One measurement: some numbers, each with its own unit.
#[derive(Clone, Debug)]
pub(crate) struct Figure(pub(crate) Vec<f64>);

/// Of kept connections and of those at one time.
const CONNECTIONS: usize = 64;
const REQUEST: u64 = 256;
const ANSWER: u64 = 1024;
const STREAMS: usize = 4;
const IDLE: usize = 4000;
const GIB: f64 = 1_073_741_824.0;

impl Row {
    pub(crate) const ALL: &'static [Self] = &[
        Self::Connects,
        Self::Requests,
        Self::Download,
        Self::Upload,
        Self::Latency,
        Self::ConnectLatency,
        Self::Memory,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connects => "connections",
            Self::Requests => "requests",
            Self::Download => "download",
            Self::Upload => "upload",
            Self::Latency => "latency",
            Self::ConnectLatency => "connect-latency",
            Self::Memory => "memory",
        }
    }

    /// What the numbers of a [`Figure`] are, and whether more is better.
    const fn units(self) -> &'static [(&'static str, bool)] {
        match self {
            Self::Connects => &[("connections/s", true), ("proxy's us each", false)],
            Self::Requests => &[("requests/s", true), ("proxy's us each", false)],
            Self::Download | Self::Upload => &[("GiB/s", true), ("proxy's s per GiB", false)],
            Self::Latency | Self::ConnectLatency => {
                &[("p50 us", false), ("p99 us", false), ("proxy's us each", false)]
            }
            Self::Memory => &[
                ("MiB at start", false),
                ("MiB at 4000", false),
                ("KiB each", false),
                ("RSS summed, MiB", false),
            ],
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn measure(self, host: &Node, peer: &mut Peer<'_>, limit: Duration) -> Result<Figure> {
        let us = |d: Duration| d.as_secs_f64() * 1e6;
        Ok(Figure(match self {
            Self::Connects => {
                let (t, cpu) = load(host, peer, Kind::Connect, CONNECTIONS, limit)?;
                vec![
                    t.answers as f64 / t.elapsed.as_secs_f64(),
                    us(cpu) / t.answers as f64,
                ]
            }
            Self::Requests => {
                let (t, cpu) = load(host, peer, Kind::Ask, CONNECTIONS, limit)?;
                vec![
                    t.answers as f64 / t.elapsed.as_secs_f64(),
                    us(cpu) / t.answers as f64,
                ]
            }
            Self::Download | Self::Upload => {
                let kind = if self == Self::Upload {
                    Kind::Upload
                } else {
                    Kind::Download
                };
                let (t, cpu) = load(host, peer, kind, STREAMS, limit)?;
                let gib = t.bytes as f64 / GIB;
                vec![gib / t.elapsed.as_secs_f64(), cpu.as_secs_f64() / gib]
            }
            Self::Latency => {
                let (t, cpu) = load(host, peer, Kind::Paced(4000.0), CONNECTIONS, limit)?;
                vec![
                    us(t.latencies.at(0.5)),
                    us(t.latencies.at(0.99)),
                    us(cpu) / t.answers as f64,
                ]
            }
            Self::ConnectLatency => {
                let (t, cpu) = load(host, peer, Kind::PacedConnect(1500.0), CONNECTIONS, limit)?;
                vec![
                    us(t.latencies.at(0.5)),
                    us(t.latencies.at(0.99)),
                    us(cpu) / t.answers as f64,
                ]
            }
            Self::Memory => memory(host, peer)?,
        }))
    }
}

/// Load on a peer, and the processor time that the peer took meanwhile.
fn load(
    host: &Node,
    peer: &Peer<'_>,
    kind: Kind,
    connections: usize,
    limit: Duration,
) -> Result<(Tally, Duration)> {
    let address = peer.address;
    let (tally, used) = host.netns().run(|| -> Result<_> {
        let mut client = Client::new(address, kind, connections, REQUEST, ANSWER)?;
        client.run(limit / 10)?;
        let before = peer.daemon.usage().cpu;
        let tally = client.run(limit)?;
        Ok((tally, peer.daemon.usage().cpu - before))
    })??;
    if tally.failed > 0 {
        eprintln!("{}: {} failed", peer.name, tally.failed);
    }
    Ok((tally, used))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn memory(host: &Node, peer: &mut Peer<'_>) -> Result<Vec<f64>> {
    peer.restart()?;
    let before = peer.daemon.distinct_kib() as f64;
    let address = peer.address;
    host.netns().run(|| -> Result<_> {
        let mut client = Client::new(address, Kind::Ask, IDLE, REQUEST, ANSWER)?;
        client.ask_once(Duration::from_secs(30))?;
        let after = peer.daemon.distinct_kib() as f64;
        Ok(vec![
            before / 1024.0,
            after / 1024.0,
            (after - before) / IDLE as f64,
            peer.daemon.usage().resident_kib as f64 / 1024.0,
        ])
    })?
}

/// Medians, spread, and the ratio of ours to each: the median of the rounds' ratios, since what else the machine does changes
/// from round to round and within one hardly.
pub(crate) fn print(row: Row, peers: &[Peer<'_>], seen: &[Vec<Figure>]) {
    for (n, (unit, more)) in row.units().iter().enumerate() {
        let spreads: Vec<[f64; 3]> = seen.iter().map(|f| spread(f, n)).collect();
        print!("{:16} {unit:18}", row.name());
        for (i, (peer, [least, median, most])) in peers.iter().zip(&spreads).enumerate() {
            print!(" | {} {median:.2} ({least:.2} - {most:.2})", peer.name);
            if i > 0 {
                let ratio = ratio(seen.first(), seen.get(i), n);
                let good = if *more { ratio >= 1.0 } else { ratio <= 1.0 };
                print!(" x{ratio:.2}{}", if good { "" } else { " !" });
            }
        }
        println!();
    }
}

fn ratio(ours: Option<&Vec<Figure>>, theirs: Option<&Vec<Figure>>, n: usize) -> f64 {
    let pairs = ours.into_iter().flatten().zip(theirs.into_iter().flatten());
    let ratios = pairs.filter_map(|(a, b)| Some(Figure(vec![a.0.get(n)? / b.0.get(n)?])));
    spread(&ratios.collect::<Vec<_>>(), 0)[1]
}

fn spread(figures: &[Figure], n: usize) -> [f64; 3] {
    let mut values: Vec<f64> = figures.iter().filter_map(|f| f.0.get(n).copied()).collect();
    values.sort_by(f64::total_cmp);
    let at = |i: usize| values.get(i).copied().unwrap_or(f64::NAN);
    [at(0), at(values.len() / 2), at(values.len().saturating_sub(1))]
}
