//! bpf-linker, built once for each rustc against that rustc's own libLLVM.
use super::route::Route;
use crate::apt::Apt;
use crate::{cmd, paths};
use anyhow::{Context, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Newer ones want an LLVM that stable does not have yet; older ones write type information that the kernel
/// refuses, and say nothing.
const VERSION: &str = "0.13.0";
/// The LLVM versions that it can be built for.
const LLVM: RangeInclusive<u32> = 21..=23;

/// Where the linker for this compiler is, if there is one.
pub(crate) fn find(route: &Route) -> Option<PathBuf> {
    let given = env::var_os("LB_BPF_LINKER").map(PathBuf::from);
    given
        .or_else(|| Some(home(route).join("bin/bpf-linker")))
        .filter(|path| path.is_file())
}

/// Builds it if it is not there.
pub(crate) fn ensure(route: &Route, apt: &Apt) -> Result<PathBuf> {
    if let Some(path) = find(route) {
        return Ok(path);
    }
    if !LLVM.contains(&route.llvm_major) {
        bail!(
            "bpf-linker {VERSION} is for LLVM {LLVM:?}, and rustc {} has {}",
            route.release,
            route.llvm_major
        );
    }
    let home = home(route);
    if apt.refuse {
        bail!(
            "--no-install: would build bpf-linker {VERSION} from crates.io in {}",
            home.display()
        );
    }
    cmd::say(format!(
        "building bpf-linker {VERSION} in {} (once, about a minute)",
        home.display()
    ));
    let prefix = home.join("llvm");
    link_llvm(&find_llvm(route)?, &prefix.join("lib"))?;
    let build = home.join("build");
    let mut cargo = cmd::clean("cargo");
    cargo
        .current_dir(paths::root())
        .args([
            "install",
            "bpf-linker",
            "--locked",
            "--version",
            VERSION,
            "--no-default-features",
            "--features",
        ])
        .arg(format!("llvm-{}", route.llvm_major))
        .arg("--root")
        .arg(&home)
        .arg("--target-dir")
        .arg(&build)
        .env("LLVM_PREFIX", &prefix)
        // 45 MB of debug information otherwise.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    cmd::run(&mut cargo)?;
    fs::remove_dir_all(&build).with_context(|| build.display().to_string())?;
    find(route).context("bpf-linker was built but is not where it should be")
}

/// One for each compiler: the binary has that compiler's libLLVM in its run path.
fn home(route: &Route) -> PathBuf {
    paths::tools().join(format!("bpf-linker-{VERSION}-rustc-{}", route.release))
}

/// The libLLVM that this rustc loads itself.
fn find_llvm(route: &Route) -> Result<PathBuf> {
    let wanted = format!("libLLVM.so.{}.", route.llvm_major);
    let lib = route.sysroot.join("lib");
    let multiarch = lib.join(format!("{}-linux-gnu", env::consts::ARCH));
    for dir in [&lib, &multiarch] {
        let Ok(entries) = fs::read_dir(dir) else { continue };
        for entry in entries.flatten() {
            // rustup also ships a linker script of a similar name, 42 bytes long.
            let real = fs::metadata(entry.path()).is_ok_and(|data| data.len() > 1 << 20);
            if real && entry.file_name().to_string_lossy().starts_with(&wanted) {
                return Ok(entry.path());
            }
        }
    }
    bail!(
        "rustc {} has no shared libLLVM {} below {}",
        route.release,
        route.llvm_major,
        lib.display()
    )
}

/// Both names are needed: the one that is linked with, and the one that the loader will look for.
fn link_llvm(library: &Path, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let soname = library.file_name().context("libLLVM without a name")?;
    for name in [OsStr::new("libLLVM.so"), soname] {
        let link = dir.join(name);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link)?;
        }
        symlink(library, &link).with_context(|| link.display().to_string())?;
    }
    Ok(())
}
