//! `cargo xtask build-ebpf`: the eBPF object, with set-up if there was none.
use super::SetUp;
use crate::ebpf;
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct BuildEbpf {
    #[command(flatten)]
    set_up: SetUp,
    /// Only say which compilers there are and what they lack.
    #[arg(long)]
    doctor: bool,
}

impl BuildEbpf {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        if self.doctor {
            ebpf::doctor()?;
        } else {
            ebpf::object(&self.set_up.apt())?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
