//! The verbs, one a file.
mod vm;

use crate::apt::Apt;
use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

/// cplb's build, test and demonstration commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 110)]
pub(crate) struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Runs a program in a guest whose kernel has IPVS.
    Vm(vm::Vm),
}

/// What may be fetched, for every verb that may fetch.
#[derive(Debug, Args)]
pub(crate) struct SetUp {
    /// Install and download nothing: fail, and say what is missing.
    #[arg(long)]
    no_install: bool,
}

impl SetUp {
    pub(crate) fn apt(&self) -> Apt {
        Apt::new(self.no_install)
    }
}

impl Cli {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.verb {
            Verb::Vm(verb) => verb.run(),
        }
    }
}
