//! `cargo xtask bench`: figures, ours beside the peer's on the same work in the same run.
mod failover;
mod proxy;
mod xdp;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use std::process::{Command, ExitCode};

use crate::cmd;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How long an address is gone, beside keepalived's: cut cable, SIGTERM, kill -9; 254 instances; memory, CPU.
    Failover(failover::Failover),
    /// The userspace proxy beside HAProxy: connections, requests, bytes, latency, memory, processor time.
    Proxy(proxy::Proxy),
    /// What the XDP program costs: nanoseconds and instructions a packet, packets a second, beside Katran and IPVS.
    Xdp(xdp::Xdp),
}

impl Bench {
    pub(crate) fn run(&self) -> Result<ExitCode> {
        match &self.what {
            What::Failover(failover) => failover.run(),
            What::Proxy(proxy) => proxy.run(),
            What::Xdp(xdp) => xdp.run(),
        }
    }
}

/// Runs a measuring program with our terminal and ends as it did.
fn measure(command: &mut Command) -> Result<ExitCode> {
    let status = cmd::status(command).context("the measuring program")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
