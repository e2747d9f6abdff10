//! `cargo xtask lint`: formatting, clippy and documentation, warnings being errors.
use crate::cargo::cargo;
use crate::cmd;
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

#[derive(Debug, Args)]
pub(crate) struct Lint {}

impl Lint {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        checks()?;
        Ok(ExitCode::SUCCESS)
    }
}

/// All of them; the first that fails is the error.
pub(crate) fn checks() -> Result<()> {
    let packages = ["--workspace", "--exclude", "lb-ebpf"];
    cmd::say("cargo fmt --check");
    cmd::run(cargo().args(["fmt", "--all", "--check"]))?;
    cmd::say("cargo clippy");
    cmd::run(
        cargo()
            .args(["clippy", "--quiet", "--all-targets"])
            .args(packages)
            .args(["--", "-D", "warnings"]),
    )?;
    cmd::say("cargo doc");
    let mut doc = cargo();
    doc.args(["doc", "--quiet", "--no-deps", "--document-private-items"])
        .args(packages);
    cmd::run(doc.env("RUSTDOCFLAGS", "-D warnings"))
}
