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
    /// Take over from the daemon on the run directory, without a refused or broken connection; start as always where
    /// there is none.
    ///
    /// The virtual IPs stay on this node, and the proxy's listening sockets and connections go on in this process. The
    /// daemon before it ends then. It goes on as it was, and this one ends with an error, where that cannot go well: this
    /// file is wrong, lacks an instance that is held, or the other daemon's XDP program is on an interface.
    /// SIGUSR2 makes a daemon start whatever is in its program's place now, in this way.
    #[arg(long, env = "CPLB_TAKE_OVER", value_parser = clap::builder::FalseyValueParser::new())]
    take_over: bool,
}

/// Runs until told to stop. SIGHUP, or a change of the file, reads it again; SIGTERM leaves well; SIGUSR2
/// starts a new binary in this one's place.
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
        take_over: args.take_over,
    };
    daemon::run(options, loaded, file)?;
    Ok(ExitCode::SUCCESS)
}
