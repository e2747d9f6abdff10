//! `cargo xtask setup`: everything that building takes, once.
use super::SetUp;
use crate::{cmd, ebpf};
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Setup {
    #[command(flatten)]
    set_up: SetUp,
}

impl Setup {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let route = ebpf::set_up(&self.set_up.apt())?;
        cmd::say(format!("eBPF by {route}"));
        Ok(ExitCode::SUCCESS)
    }
}
