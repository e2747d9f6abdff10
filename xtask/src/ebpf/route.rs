//! A *route* is a rustc that can compile `core` for BPF: its sysroot has it ready made, or has the source of it.
use super::{TARGET, rustup};
use crate::cmd;
use anyhow::{Context, Result, bail};
use std::env;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

/// Tried after the toolchain that is in use.
const PINNED: &str = "1.95.0";
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";

/// Where `core` comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Core {
    /// Compiled with the program, from rust-src.
    Source,
    /// In the sysroot, as Debian ships it.
    Prebuilt,
}

/// A compiler that will do.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    name: String,
    pub(crate) rustc: PathBuf,
    pub(crate) sysroot: PathBuf,
    pub(crate) release: String,
    pub(crate) llvm_major: u32,
    pub(crate) core: Core,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let core = match self.core {
            Core::Source => "built from rust-src",
            Core::Prebuilt => "ready made",
        };
        let rustc = self.rustc.display();
        write!(
            f,
            "{}: rustc {} with LLVM {} at {rustc}, core {core}",
            self.name, self.release, self.llvm_major
        )
    }
}

/// Every compiler that is looked at, in order, and why it does not do.
pub(crate) fn candidates() -> Vec<(String, Result<Route>)> {
    if let Some(rustc) = env::var_os("LB_EBPF_RUSTC") {
        let name = "LB_EBPF_RUSTC".to_owned();
        return vec![(name.clone(), probe(&name, Path::new(&rustc)))];
    }
    if let Ok(toolchain) = env::var("LB_EBPF_TOOLCHAIN") {
        return vec![of_rustup(&toolchain)];
    }
    let mut list = Vec::new();
    let active = active_toolchain();
    list.extend(active.iter().map(|toolchain| of_rustup(toolchain)));
    if !active.is_some_and(|toolchain| toolchain.starts_with(PINNED)) {
        list.push(of_rustup(PINNED));
    }
    list.push(("system".to_owned(), probe("system", Path::new(SYSTEM_RUSTC))));
    list
}

/// The first that does.
pub(crate) fn pick() -> Result<Route> {
    let mut why = String::new();
    for (name, route) in candidates() {
        match route {
            Ok(route) => return Ok(route),
            Err(error) => why += &format!("\n  {name}: {error:#}"),
        }
    }
    bail!("no compiler here can build for {TARGET}:{why}")
}

/// What `rustc` stands for in this tree, if rustup decides it.
pub(crate) fn active_toolchain() -> Option<String> {
    let text = cmd::output(rustup().args(["show", "active-toolchain"])).ok()?;
    text.split_whitespace().next().map(str::to_owned)
}

fn of_rustup(toolchain: &str) -> (String, Result<Route>) {
    let name = format!("rustup {toolchain}");
    let rustc = cmd::output(rustup().args(["which", "--toolchain", toolchain, "rustc"]));
    let route = rustc.and_then(|path| probe(&name, Path::new(&path)));
    (name, route)
}

fn probe(name: &str, rustc: &Path) -> Result<Route> {
    if !rustc.is_file() {
        bail!("{} is not there", rustc.display());
    }
    let verbose = cmd::output(cmd::clean(rustc).arg("-vV"))?;
    let field = |key: &str| {
        verbose
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .map(str::trim)
    };
    let release = field("release:")
        .context("rustc -vV names no release")?
        .to_owned();
    let llvm = field("LLVM version:").context("rustc -vV names no LLVM")?;
    let llvm_major = llvm
        .split('.')
        .next()
        .unwrap_or(llvm)
        .parse()
        .with_context(|| format!("LLVM {llvm}"))?;
    let sysroot = PathBuf::from(cmd::output(cmd::clean(rustc).args(["--print", "sysroot"]))?);
    let rustlib = sysroot.join("lib/rustlib");
    let core = if has_core(&rustlib.join(TARGET).join("lib")) {
        Core::Prebuilt
    } else if rustlib.join("src/rust/library/Cargo.lock").is_file() {
        Core::Source
    } else {
        bail!("rustc {release} has neither rust-src nor a core for {TARGET}");
    };
    Ok(Route {
        name: name.to_owned(),
        rustc: rustc.to_owned(),
        sysroot,
        release,
        llvm_major,
        core,
    })
}

fn has_core(dir: &Path) -> bool {
    let Ok(entries) = fs::read_dir(dir) else {
        return false;
    };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libcore-") && name.ends_with(".rlib")
    })
}
