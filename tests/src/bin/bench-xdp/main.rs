//! The XDP program beside the floor, a bare XDP_TX, Katran and IPVS. It is `cargo xtask bench xdp`.
//!
//! | part | measures |
//! | --- | --- |
//! | `testrun` | nanoseconds a packet by `BPF_PROG_TEST_RUN`, on one frame that a driver puts back |
//! | `wire` | packets a second across a veth pair, from end to end |
//! | `guest` | instructions a packet, where the clock counts them (QEMU's `-icount`), beside IPVS; only if named |
//!
//! Nothing here asserts that a reach is met. That the packets were counted as the row says is checked, since a figure of
//! something else would be worse than none: rows that fail it are listed, and the program ends with 1.
mod cases;
mod frames;
mod guest;
mod katran;
mod objects;
mod ours;
mod rate;
mod report;
mod spread;
mod testrun;
mod wire;

use anyhow::{Context, Result, bail};
use clap::Parser;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use report::Section;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// The XDP datapath in figures.
#[derive(Debug, Parser)]
struct Cli {
    /// Only these parts: testrun, wire; or guest.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// A balancer of Katran, built as an object: measured on the same packets.
    #[arg(long, value_name = "FILE")]
    katran: Option<PathBuf>,
    /// Of `testrun`, only rows whose name has this in it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    rows: String,
    /// How often each cell is measured.
    #[arg(long, default_value_t = 15)]
    rounds: u32,
    /// Seconds after which a part begins no more rounds, if it has had three.
    #[arg(long, default_value_t = 120)]
    limit: u64,
    /// Packets of each measurement.
    #[arg(long, default_value_t = 400_000)]
    repeat: u32,
    /// One line of JSON instead of tables.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<ExitCode> {
    let cli = Cli::parse();
    if cli.rounds == 0 || cli.repeat == 0 {
        bail!("--rounds 0 and --repeat 0 measure nothing");
    }
    stay()?;
    let katran = match &cli.katran {
        Some(path) => Some(fs::read(path).with_context(|| path.display().to_string())?),
        None => None,
    };
    let setting = testrun::Setting {
        rounds: cli.rounds,
        repeat: cli.repeat,
        katran: katran.as_deref(),
        rows: &cli.rows,
        limit: Duration::from_secs(cli.limit),
    };
    let wanted = |part: &str| cli.only.is_empty() || cli.only.iter().any(|o| o == part);
    let mut sections = Vec::new();
    if wanted("testrun") {
        sections.extend(testrun::measure(&setting)?);
    }
    if wanted("wire") {
        sections.push(rate::measure(&setting)?);
    }
    if cli.only.iter().any(|o| o == "guest") {
        sections.push(guest::measure()?);
    }
    report::print(&sections, cli.json);
    let complete = sections.iter().all(Section::is_measured);
    Ok(if complete {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// On one processor, the last that we may use: caches and per-processor maps are then the same ones.
fn stay() -> Result<()> {
    let own = Pid::from_raw(0);
    let allowed = sched_getaffinity(own)?;
    let last = (0..CpuSet::count())
        .rev()
        .find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.context("no processor to run on")?)?;
    sched_setaffinity(own, &one).context("staying on one processor")
}
