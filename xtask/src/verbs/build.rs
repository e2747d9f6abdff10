//! `cargo xtask build`: one static `cplb` with the eBPF object in it.
use super::SetUp;
use crate::{cargo, cmd, ebpf};
use anyhow::Result;
use clap::Args;
use std::fs;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Build {
    #[command(flatten)]
    set_up: SetUp,
    /// The lab's profile: a quick build, a larger and slower binary.
    #[arg(long)]
    lab: bool,
}

impl Build {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        ebpf::object(&self.set_up.apt())?;
        let profile = if self.lab { cargo::LAB_PROFILE } else { "release" };
        let path = cargo::static_cplb(profile)?;
        let size = fs::metadata(&path)?.len();
        cmd::say(format!(
            "{} ({:.1} MB, static)",
            path.display(),
            size as f64 / 1e6
        ));
        Ok(ExitCode::SUCCESS)
    }
}
