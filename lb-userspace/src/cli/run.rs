//! `cplb run`.
use super::{BAD_INPUT, ConfigArg, RunDirArg};
use crate::config;
use crate::daemon;
use std::process::ExitCode;

/// What to run.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    run_dir: RunDirArg,
}

/// Runs until told to stop. SIGHUP, or a change of the file, reads it again; SIGTERM leaves well.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let overrides = config::Overrides {
        backends: args.config.backends.clone(),
    };
    // Before it is read: what changes from here on is noticed.
    let file = daemon::files::Watcher::new(&args.config.config);
    let loaded = match config::load(&args.config.config, &overrides) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return Ok(ExitCode::from(BAD_INPUT));
        }
    };
    loaded.warn();
    let options = daemon::Options {
        config: args.config.config.clone(),
        overrides,
        run_dir: args.run_dir.run_dir.clone(),
    };
    daemon::run(options, loaded, file)?;
    Ok(ExitCode::SUCCESS)
}
