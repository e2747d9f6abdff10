//! The userspace proxy beside HAProxy: the same backends, the same client, the same run, in turns.
//!
//! Everything is in one namespace and over loopback, on purpose: there is no network whose speed would hide the
//! proxies'. Client and backends take their share of the processors, so what a proxy itself used is printed as well.
//! Nothing here asserts; it is `cargo xtask bench proxy`.
mod peer;
mod rows;

use anyhow::{Context, Result};
use clap::Parser;
use lb_tests::topology::Lab;
use peer::{Backends, Peer};
use rows::Row;
use std::time::Duration;

/// The proxy beside HAProxy.
#[derive(Debug, Parser)]
struct Cli {
    /// How often each row is measured.
    #[arg(long, default_value_t = 21)]
    repeat: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 0.6)]
    seconds: f64,
    /// Threads of each proxy.
    #[arg(long, default_value_t = 2)]
    threads: u16,
    /// Only the rows whose names contain one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Runs the backends and nothing else.
    #[arg(long, hide = true, num_args = 1..)]
    serve: Vec<std::net::SocketAddr>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if !cli.serve.is_empty() {
        return lb_tests::load::serve(&cli.serve);
    }
    let lab = Lab::builder().node("host", &["192.0.2.1/24"]).build()?;
    let host = lab.node("host")?;
    // Thousands of connections a second between the same addresses: ports of past ones are used again, by everybody.
    host.netns().sysctl("ipv4.tcp_tw_reuse", "1")?;
    host.netns().sysctl("ipv4.ip_local_port_range", "10000 65000")?;
    let backends = Backends::start(host)?;
    let mut peers = vec![Peer::cplb(host, &backends, cli.threads)?];
    for splice in [false, true] {
        peers.push(Peer::haproxy(host, &backends, cli.threads, splice)?);
    }
    let limit = Duration::from_secs_f64(cli.seconds);
    println!(
        "{} threads each, {} s a measurement, median (least - most) of {}, median of the rounds' ratios",
        cli.threads, cli.seconds, cli.repeat
    );
    for row in Row::ALL {
        if !cli.only.is_empty() && !cli.only.iter().any(|o| row.name().contains(o.as_str())) {
            continue;
        }
        let mut seen: Vec<Vec<rows::Figure>> = peers.iter().map(|_| Vec::new()).collect();
        for n in 0..cli.repeat {
            // Whoever comes first in a turn comes last in the next one.
            let mut order: Vec<usize> = (0..peers.len()).collect();
            if n % 2 == 1 {
                order.reverse();
            }
            for i in order {
                let peer = peers.get_mut(i).context("a peer")?;
                let figure = row
                    .measure(host, peer, limit)
                    .with_context(|| format!("{}, {}", row.name(), peer.name))?;
                if let Some(list) = seen.get_mut(i) {
                    list.push(figure);
                }
            }
        }
        rows::print(*row, &peers, &seen);
    }
    Ok(())
}
