//! `cargo xtask bench failover`: two nodes of one kind and a client, ours beside keepalived.
use crate::verbs::SetUp;
use crate::{cargo, cmd, ebpf, tools};
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Failover {
    #[command(flatten)]
    set_up: SetUp,
    /// Arguments of the measuring program, such as `--repeat 3`.
    #[arg(last = true)]
    args: Vec<String>,
}

impl Failover {
    /// What is measured is what is released: the release profile, not the lab's with its checks.
    pub(crate) fn run(&self) -> Result<ExitCode> {
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
        super::measure(&mut command)
    }
}
