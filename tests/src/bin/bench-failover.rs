//! How long an address is gone, ours beside keepalived's on the same bridge in the same run.
//!
//! A prober asks the virtual IP every 2 ms. What is printed is the longest run of unanswered probes around the fault:
//! medians with the least and the most, and the ratio of the medians. Nothing here asserts; it is `cargo xtask bench
//! failover`.
use anyhow::{Context, Result, bail};
use clap::Parser;
use lb_tests::bench::{Fault, Pair, Side, Spread, table};
use std::time::Duration;

/// Failover, cplb beside keepalived.
#[derive(Debug, Parser)]
struct Cli {
    /// How often each case is measured.
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// Only these parts: gaps, many, usage.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

const ADVERTS: [(&str, Duration); 3] = [
    ("1 s", Duration::from_secs(1)),
    ("100 ms", Duration::from_millis(100)),
    ("10 ms", Duration::from_millis(10)),
];

fn main() -> Result<()> {
    let cli = Cli::parse();
    if cli.repeat == 0 {
        bail!("--repeat 0 measures nothing");
    }
    let wanted = |part: &str| cli.only.is_empty() || cli.only.iter().any(|o| o == part);
    if wanted("gaps") {
        gaps(cli.repeat)?;
    }
    if wanted("many") {
        many(cli.repeat)?;
    }
    if wanted("usage") {
        usage()?;
    }
    Ok(())
}

fn gaps(repeat: usize) -> Result<()> {
    let mut rows = Vec::new();
    for (label, interval) in ADVERTS {
        for fault in Fault::ALL {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            let (mut our_double, mut their_double) = (Vec::new(), Vec::new());
            // In turns, so that what else the machine does is spread over both.
            for n in 0..repeat {
                eprint!(
                    "\radverts {label}, {}: {} of {repeat}        ",
                    fault.name(),
                    n + 1
                );
                for (side, gaps, doubles) in [
                    (Side::Cplb, &mut ours, &mut our_double),
                    (Side::Keepalived, &mut theirs, &mut their_double),
                ] {
                    let seen = Pair::start(side, interval, 1)
                        .and_then(|pair| pair.fail(fault))
                        .with_context(|| format!("{side:?}, adverts {label}, {}", fault.name()))?;
                    gaps.push(seen.gap);
                    doubles.push(seen.both_held);
                }
            }
            let (ours, theirs) = (Spread::of(&ours), Spread::of(&theirs));
            rows.push(vec![
                label.into(),
                fault.name().into(),
                ours.to_string(),
                theirs.to_string(),
                ours.ratio(&theirs),
                if fault == Fault::Cut {
                    "-".into()
                } else {
                    Spread::held(&our_double)
                },
                if fault == Fault::Cut {
                    "-".into()
                } else {
                    Spread::held(&their_double)
                },
            ]);
        }
    }
    eprintln!();
    let head = [
        "adverts",
        "fault",
        "cplb ms",
        "keepalived ms",
        "ratio",
        "cplb: both hold ms",
        "keepalived: both hold ms",
    ];
    println!(
        "Gap that a prober of 2 ms sees, median (least - most) of {repeat}:\n{}",
        table(&head, &rows)
    );
    Ok(())
}

fn many(repeat: usize) -> Result<()> {
    let mut rows = Vec::new();
    for fault in [Fault::Cut, Fault::KillAll, Fault::Term] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for n in 0..repeat {
            eprint!("\r254 instances, {}: {} of {repeat}        ", fault.name(), n + 1);
            for (side, list) in [(Side::Cplb, &mut ours), (Side::Keepalived, &mut theirs)] {
                let pair = Pair::start(side, Duration::from_millis(100), 254)?;
                list.push(
                    pair.last_takeover(fault)
                        .with_context(|| format!("{side:?}, {}", fault.name()))?,
                );
            }
        }
        let (ours, theirs) = (Spread::of(&ours), Spread::of(&theirs));
        rows.push(vec![
            fault.name().into(),
            ours.to_string(),
            theirs.to_string(),
            ours.ratio(&theirs),
        ]);
    }
    eprintln!();
    println!(
        "254 instances at 100 ms, from the fault to the last announced takeover, median (least - most) of {repeat}:\n{}",
        table(&["fault", "cplb ms", "keepalived ms", "ratio"], &rows)
    );
    Ok(())
}

fn usage() -> Result<()> {
    let mut rows = Vec::new();
    for (label, interval, count) in [
        ("1 at 1 s", Duration::from_secs(1), 1),
        ("254 at 100 ms", Duration::from_millis(100), 254),
    ] {
        for side in [Side::Cplb, Side::Keepalived] {
            eprint!("\rmemory and processor, {label}        ");
            let pair = Pair::start(side, interval, count)?;
            let (holder, backup) = pair.usage(Duration::from_secs(8))?;
            rows.push(vec![
                label.into(),
                side.name().into(),
                holder.to_string(),
                backup.to_string(),
            ]);
        }
    }
    eprintln!();
    println!(
        "Resident memory and processor time of all processes, over 8 s (holder; backup):\n{}",
        table(&["instances", "who", "holder", "backup"], &rows)
    );
    Ok(())
}
