//! `cplb status`.
use super::RunDirArg;
use crate::admin::{self, Status};
use crate::rundir::socket_in;
use anyhow::Context;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

/// How to show it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    run_dir: RunDirArg,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Again each second, until Ctrl-C.
    #[arg(long, short)]
    watch: bool,
}

/// Shows the daemon's status once, or for as long as it is watched.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting a runtime")?;
    runtime.block_on(async {
        let mut readings = Readings::default();
        loop {
            let shown = show(args, &mut readings).await;
            if !args.watch {
                return shown.map(|()| ExitCode::SUCCESS);
            }
            if let Err(error) = shown {
                println!("cplb: {error:#}");
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
}

/// The newest status, and the last one whose counters were read earlier.
#[derive(Default)]
struct Readings {
    now: Option<Status>,
    before: Option<Status>,
}

impl Readings {
    fn add(&mut self, status: Status) {
        let read = |s: &Status| s.kernel.xdp.as_ref().map(|x| x.read_ms);
        if self.now.as_ref().is_some_and(|old| read(old) != read(&status)) {
            self.before = self.now.take();
        }
        self.now = Some(status);
    }
}

async fn show(args: &Args, readings: &mut Readings) -> anyhow::Result<()> {
    let status = admin::fetch_status(&socket_in(&args.run_dir.run_dir)).await;
    let mut out = std::io::stdout().lock();
    if args.watch && !args.json {
        // Clears the screen and goes to its corner (ECMA-48 ED, CUP).
        write!(out, "\x1b[2J\x1b[H")?;
    }
    let status = status?;
    if args.json {
        serde_json::to_writer(&mut out, &status)?;
        writeln!(out)?;
    } else {
        readings.add(status);
        let page = readings
            .now
            .as_ref()
            .map(|now| admin::render(now, readings.before.as_ref()));
        write!(out, "{}", page.unwrap_or_default())?;
    }
    out.flush()?;
    Ok(())
}
