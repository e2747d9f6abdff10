//! `cargo xtask bench`: figures, ours beside the peer's on the same work in the same run.
use super::SetUp;
use crate::{cargo, cmd, ebpf, tools};
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How long an address is gone, beside keepalived's: cut cable, SIGTERM, kill -9; 254 instances; memory, CPU.
    Failover(Failover),
}

#[derive(Debug, Args)]
struct Failover {
    #[command(flatten)]
    set_up: SetUp,
    /// Arguments of the measuring program, such as `--repeat 3`.
    #[arg(last = true)]
    args: Vec<String>,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        match &self.what {
            What::Failover(failover) => failover.run(),
        }
    }
}

impl Failover {
    /// What is measured is what is released: the release profile, not the lab's with its checks.
    fn run(&self) -> Result<ExitCode> {
        let apt = self.set_up.apt();
        ebpf::object(&apt)?;
        tools::ensure(&apt, tools::SUITES, "measured beside ours")?;
        cmd::say("building cplb in the release profile");
        let cplb = cargo::static_cplb("release")?;
        let bench = cargo::lab_binary("lb-tests", "bench-failover")?;
        let mut command = cmd::clean(bench);
        command
            .args(&self.args)
            .envs(tools::environment()?)
            .env("CPLB_BIN", cplb);
        let status = cmd::status(&mut command).context("the measuring program")?;
        Ok(ExitCode::from(
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1),
        ))
    }
}
