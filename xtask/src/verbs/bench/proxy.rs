//! `cargo xtask bench proxy`: the userspace proxy beside Debian's HAProxy, over loopback in one namespace.
use crate::tools::{self, Tool};
use crate::verbs::SetUp;
use crate::{cargo, cmd, ebpf};
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

const HAPROXY: Tool = Tool {
    program: "haproxy",
    package: "haproxy",
};

#[derive(Debug, Args)]
pub(crate) struct Proxy {
    #[command(flatten)]
    set_up: SetUp,
    /// Arguments of the measuring program, such as `--repeat 3` or `--only requests`.
    #[arg(last = true)]
    args: Vec<String>,
}

impl Proxy {
    /// What is measured is what is released: the release profile, not the lab's with its checks.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let apt = self.set_up.apt();
        ebpf::object(&apt)?;
        tools::ensure(&apt, &[tools::IP, HAPROXY], "measured beside ours")?;
        cmd::say("building cplb in the release profile");
        let cplb = cargo::static_cplb("release")?;
        let bench = cargo::lab_binary("lb-tests", "bench-proxy")?;
        let mut command = cmd::clean(bench);
        command
            .args(&self.args)
            .envs(tools::environment()?)
            .env("CPLB_BIN", cplb);
        super::measure(&mut command)
    }
}
