//! The command line: one file a verb. `check`, `plan`, `schema`, `completions` and `man` change nothing.
pub mod check;
mod cleanup;
mod completions;
mod guardian;
mod man;
mod plan;
mod run;
pub mod schema;
mod status;

use crate::logging;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Exit code: something failed.
pub const FAILED: u8 = 1;
/// Exit code: the input is bad (the command line or the file).
pub const BAD_INPUT: u8 = 2;

/// Gives a Kubernetes control plane one address that does not die.
///
/// Every controller runs `cplb run` with the same file. The nodes elect a holder by VRRP; the holder carries the virtual
/// IP and spreads connections over the API servers. The file may be a k0s.yaml, a k0sctl.yaml or cplb's own.
///
/// Exit codes: 0 well, 1 failed, 2 bad input.
#[derive(Debug, Parser)]
#[command(name = "cplb", version, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    logging: logging::Args,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon: elect, hold the virtual IPs, balance.
    Run(run::Args),
    /// Validate a file without touching the kernel: every problem with its line, or what the file means.
    Check(check::Args),
    /// Show what `run` would change on this host; change nothing.
    Plan(plan::Args),
    /// Show what the daemon on this host does: roles, virtual servers, health, last transitions and why.
    Status(status::Args),
    /// Remove whatever a crashed daemon left on this host.
    Cleanup(cleanup::Args),
    /// Print the JSON Schema of the files, for editors.
    Schema(schema::Args),
    /// Print a completion script for a shell.
    Completions(completions::Args),
    /// Print the manual page (roff).
    Man,
    /// The process that leaves in a dead daemon's place. Started by `run`.
    #[command(hide = true)]
    Guardian(guardian::Args),
}

/// Which run directory.
#[derive(Clone, Debug, clap::Args)]
pub struct RunDirArg {
    /// Directory of the lock, the status socket and the journal; one per daemon.
    #[arg(long, env = "CPLB_RUN_DIR", value_name = "DIR", default_value = crate::rundir::DEFAULT)]
    pub run_dir: PathBuf,
}

/// Which file, and what the file does not say.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArg {
    /// The k0s.yaml, k0sctl.yaml or cplb file.
    #[arg(long, short, env = "CPLB_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// A real server for every virtual server; may be repeated. A plain k0s.yaml names none.
    #[arg(
        long = "backend",
        env = "CPLB_BACKENDS",
        value_name = "ADDR[:PORT]",
        value_delimiter = ','
    )]
    pub backends: Vec<String>,
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if !matches!(cli.verb, Verb::Run(_) | Verb::Guardian(_)) {
        // A reader that has seen enough (`| head`) ends us quietly.
        crate::sys::process::die_of_sigpipe();
    }
    logging::init(&cli.logging);
    let result = match cli.verb {
        Verb::Run(args) => run::run(&args),
        Verb::Check(args) => Ok(check::run(&args)),
        Verb::Plan(args) => plan::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Cleanup(args) => cleanup::run(&args),
        Verb::Schema(args) => Ok(schema::run(&args)),
        Verb::Completions(args) => completions::run(&args),
        Verb::Man => man::run(),
        Verb::Guardian(args) => guardian::run(&args),
    };
    logging::flush();
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("cplb: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}
