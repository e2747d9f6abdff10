//! `cplb guardian`: see [`crate::guardian`].
use super::RunDirArg;
use std::process::ExitCode;

/// What the daemon hands over; the rest comes on standard input and output.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    run_dir: RunDirArg,
}

/// Watches until the daemon ends.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    crate::guardian::watch_over(&args.run_dir.run_dir)?;
    Ok(ExitCode::SUCCESS)
}
