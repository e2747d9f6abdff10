//! The verbs, one a file.
mod bench;
mod build;
mod build_ebpf;
mod lint;
mod run;
mod setup;
mod test;
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
    /// Fetches and builds what building takes: a compiler for eBPF and its linker.
    Setup(setup::Setup),
    /// Builds the eBPF object.
    BuildEbpf(build_ebpf::BuildEbpf),
    /// Builds a static `cplb` with the eBPF object in it.
    Build(build::Build),
    /// The demonstration: three controllers elect a holder, carry requests, and lose it. With `-- ARGS`: `cplb ARGS`.
    Run(run::Run),
    /// Runs every suite: unit, properties, simulation, namespaces with keepalived, and the guest with IPVS.
    Test(test::Test),
    /// Figures beside the peers'.
    Bench(bench::Bench),
    /// Formatting, clippy and documentation.
    Lint(lint::Lint),
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
            Verb::Setup(verb) => verb.run(),
            Verb::BuildEbpf(verb) => verb.run(),
            Verb::Build(verb) => verb.run(),
            Verb::Run(verb) => verb.run(),
            Verb::Test(verb) => verb.run(),
            Verb::Bench(verb) => verb.run(),
            Verb::Lint(verb) => verb.run(),
            Verb::Vm(verb) => verb.run(),
        }
    }
}
