//! The eBPF object: which compiler can build it, the linker for that compiler, and the build.
//!
//! One stable compiler, no nightly. `RUSTC_BOOTSTRAP` is set for this build alone, because `aya-ebpf` asks for an
//! unstable assembler feature. The linker is built against the very libLLVM of the chosen rustc, so that the two
//! always read the same bitcode and no LLVM package is needed.
mod build;
mod linker;
mod route;

use crate::apt::Apt;
use crate::{cmd, paths};
use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

pub(crate) use build::build;
pub(crate) use linker::ensure as ensure_linker;
pub(crate) use route::{Route, candidates, pick};

/// What the program is compiled for.
const TARGET: &str = "bpfel-unknown-none";
/// A ready object to use instead of building one.
const OBJECT: &str = "LB_EBPF_OBJECT";
/// Debian 12's compiler of the browser's updates, and its `core` for BPF.
const PACKAGES: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf"];

/// Makes sure that there is a compiler and a linker.
pub(crate) fn set_up(apt: &Apt) -> Result<Route> {
    let route = match pick() {
        Ok(route) => route,
        Err(why) => fetch_compiler(apt, &why)?,
    };
    ensure_linker(&route, apt)?;
    Ok(route)
}

/// Builds the objects, with all set-up, or copies the one that `LB_EBPF_OBJECT` names and the `steer.o` beside it.
pub(crate) fn object(apt: &Apt) -> Result<()> {
    let place = paths::ebpf_object();
    if let Some(parent) = place.parent() {
        fs::create_dir_all(parent)?;
    }
    if let Some(ready) = env::var_os(OBJECT) {
        fs::copy(&ready, &place).with_context(|| format!("{OBJECT}={}", ready.display()))?;
        cmd::say(format!("{} is a copy of {}", place.display(), ready.display()));
        // The smaller one that belongs to it.
        let steer = paths::ebpf_steer_object();
        let beside = PathBuf::from(ready).with_file_name("steer.o");
        fs::copy(&beside, &steer).with_context(|| format!("{}, beside {OBJECT}", beside.display()))?;
        cmd::say(format!("{} is a copy of {}", steer.display(), beside.display()));
        return Ok(());
    }
    build(&set_up(apt)?)
}

/// The library's source by rustup where that can be had, else Debian's compiler.
fn fetch_compiler(apt: &Apt, why: &anyhow::Error) -> Result<Route> {
    let toolchain = route::active_toolchain();
    if apt.refuse {
        let rustup = toolchain.as_deref().map_or_else(String::new, |t| {
            format!("rustup component add rust-src --toolchain {t}, or ")
        });
        bail!(
            "{why:#}\n--no-install: would run {rustup}apt-get install {}",
            PACKAGES.join(" ")
        );
    }
    if let Some(toolchain) = toolchain {
        cmd::say(format!(
            "installing rustup component rust-src for {toolchain} (the eBPF program's core)"
        ));
        let mut rustup = cmd::clean("rustup");
        rustup.args(["component", "add", "rust-src", "--toolchain", &toolchain]);
        match cmd::run(&mut rustup).and_then(|()| pick()) {
            Ok(route) => return Ok(route),
            Err(error) => cmd::say(format!("that did not do: {error:#}")),
        }
    }
    apt.install(PACKAGES, "a compiler with a core for BPF")?;
    pick()
}

/// Says which compilers there are and what each lacks.
pub(crate) fn doctor() -> Result<()> {
    for (name, route) in candidates() {
        match route {
            Ok(route) => {
                let linker = linker::find(&route);
                let linker = linker.map_or_else(|| "not built yet".to_owned(), |p| p.display().to_string());
                println!("ok    {route}\n      bpf-linker: {linker}");
            }
            Err(error) => println!("no    {name}: {error:#}"),
        }
    }
    println!("pick  {}", pick()?);
    Ok(())
}

/// A rustup that never downloads a toolchain behind one's back.
fn rustup() -> Command {
    let mut rustup = cmd::clean("rustup");
    rustup.env("RUSTUP_AUTO_INSTALL", "0");
    rustup
}
