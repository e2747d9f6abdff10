//! `cplb completions SHELL`.
use clap::CommandFactory;
use clap_complete::Shell;
use std::process::ExitCode;

/// Which shell.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// For which shell.
    shell: Shell,
}

/// Prints the script.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    clap_complete::generate(
        args.shell,
        &mut super::Cli::command(),
        "cplb",
        &mut std::io::stdout(),
    );
    Ok(ExitCode::SUCCESS)
}
