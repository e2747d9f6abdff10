//! `cplb man`.
use clap::CommandFactory;
use std::process::ExitCode;

/// Prints the manual page: the program's, then each verb's.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout();
    let mut command = super::Cli::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut out)?;
    for verb in command
        .get_subcommands()
        .filter(|c| !c.is_hide_set() && c.get_name() != "help")
    {
        let name = format!("cplb-{}", verb.get_name());
        clap_mangen::Man::new(verb.clone().name(name)).render(&mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}
