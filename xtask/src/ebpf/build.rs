//! Compiles `lb-ebpf` and leaves the object where `lb-userspace/build.rs` embeds it from.
use super::route::{Core, Route};
use super::{TARGET, linker};
use crate::{cmd, paths};
use anyhow::{Context, Result};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Builds it. The object is written only if it changed, so that an unchanged one relinks nothing.
pub(crate) fn build(route: &Route) -> Result<()> {
    let linker = linker::find(route).context("bpf-linker is not built: cargo xtask setup")?;
    let target_dir = paths::root().join("target/ebpf-build");
    let mut cargo = cmd::clean(cargo(route));
    cargo
        .current_dir(paths::root())
        .args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--package",
            "lb-ebpf",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&linker))
        .env("RUSTC", &route.rustc)
        .env("LD_LIBRARY_PATH", route.sysroot.join("lib"))
        .env("RUSTC_BOOTSTRAP", "1");
    if route.core == Core::Source {
        cargo.args(["-Z", "build-std=core"]);
    }
    cmd::run(&mut cargo).with_context(|| format!("with {route}"))?;
    let release = target_dir.join(TARGET).join("release");
    take(&release.join("lb"), &paths::ebpf_object())?;
    take(&release.join("lb-steer"), &paths::ebpf_steer_object())?;
    take(&release.join("lb-bench"), &paths::ebpf_bench_object())
}

fn take(built: &Path, place: &Path) -> Result<()> {
    let new = fs::read(built).with_context(|| built.display().to_string())?;
    if fs::read(place).ok().as_deref() != Some(&new[..]) {
        fs::write(place, &new).with_context(|| place.display().to_string())?;
    }
    cmd::say(format!("{} ({} bytes)", place.display(), new.len()));
    Ok(())
}

/// The library's source wants the cargo that it came with.
fn cargo(route: &Route) -> PathBuf {
    let own = route.sysroot.join("bin/cargo");
    if route.core == Core::Source && own.is_file() {
        return own;
    }
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

fn flags(linker: &Path) -> String {
    let root = paths::root();
    let flags = [
        format!("--cfg=bpf_target_arch=\"{}\"", env::consts::ARCH),
        "-Cdebuginfo=2".to_owned(),
        // 32-bit arithmetic (Linux 5.1).
        "-Ctarget-cpu=v3".to_owned(),
        // A header's fields lie where they lie: one load each, not one for each byte.
        "-Clink-arg=--cpu-features=+allows-misaligned-mem-access".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker.display()),
        // An object that is embedded says nothing of where it was built.
        format!("--remap-path-prefix={}=cplb", root.display()),
    ];
    flags.join("\x1f")
}
