//! The eBPF object that `cargo xtask build-ebpf` made: the verifier takes it and it attaches natively.
use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use lb_common::abi::XDP_PROGRAM;
use lb_tests::skip;
use lb_tests::topology::Lab;
use std::env;
use std::fs;
use std::path::PathBuf;

/// `cargo xtask test` names it; without it the usual place below the workspace is tried.
fn object() -> PathBuf {
    let usual = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf/lb.o");
    env::var_os("CPLB_EBPF").map_or_else(usual, PathBuf::from)
}

#[test]
fn the_verifier_takes_the_program_and_a_veth_runs_it_natively() -> Result<()> {
    let Ok(bytes) = fs::read(object()) else {
        skip!("no eBPF object at {}: cargo xtask build-ebpf", object().display());
    };
    let lab = Lab::builder().node("a", &["10.0.0.1/24"]).build()?;
    lab.node("a")?.netns().run(|| -> Result<()> {
        let mut ebpf = Ebpf::load(&bytes).context("loading the object")?;
        let program: &mut Xdp = ebpf
            .program_mut(XDP_PROGRAM)
            .context("no such program")?
            .try_into()?;
        program.load().context("the verifier")?;
        program.attach("eth0", XdpMode::Driver).context("attaching")?;
        Ok(())
    })?
}
