//! Programs that the lab and the guest use: the machine's own where it has them, else unpacked below `target/`.
use crate::apt::Apt;
use crate::paths;
use anyhow::{Context, Result};
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A program and the package that has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

pub(crate) const IP: Tool = Tool {
    program: "ip",
    package: "iproute2",
};
pub(crate) const IPVSADM: Tool = Tool {
    program: "ipvsadm",
    package: "ipvsadm",
};
pub(crate) const KEEPALIVED: Tool = Tool {
    program: "keepalived",
    package: "keepalived",
};
pub(crate) const NFT: Tool = Tool {
    program: "nft",
    package: "nftables",
};

/// What the suites need.
pub(crate) const SUITES: &[Tool] = &[IP, IPVSADM, KEEPALIVED, NFT];

/// Where unpacked packages are.
fn unpacked() -> PathBuf {
    paths::tools().join("debian")
}

/// Makes sure that every one of them can be found.
pub(crate) fn ensure(apt: &Apt, tools: &[Tool], why: &str) -> Result<()> {
    let missing: Vec<&str> = tools
        .iter()
        .filter(|t| find(t.program).is_none())
        .map(|t| t.package)
        .collect();
    if !missing.is_empty() {
        apt.unpack(&missing, why, &unpacked())?;
    }
    for tool in tools {
        find(tool.program).with_context(|| format!("{} is not in package {}", tool.program, tool.package))?;
    }
    Ok(())
}

/// Looks in PATH, where an administrator's programs are, and among what was unpacked.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    search_path()
        .into_iter()
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut dirs: Vec<PathBuf> = env::split_paths(&path).collect();
    dirs.extend(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    dirs.extend(["usr/sbin", "sbin", "usr/bin", "bin"].map(|d| unpacked().join(d)));
    dirs
}

/// Directories of shared libraries that only unpacked programs need.
pub(crate) fn library_dirs() -> Vec<PathBuf> {
    let arch = format!("{}-linux-gnu", env::consts::ARCH);
    let lib = unpacked().join("usr/lib").join(&arch);
    let old = unpacked().join("lib").join(&arch);
    [lib, old].into_iter().filter(|dir| dir.is_dir()).collect()
}

/// `PATH` and, if anything was unpacked, `LD_LIBRARY_PATH` for the programs that use them.
pub(crate) fn environment() -> Result<Vec<(&'static str, OsString)>> {
    let mut vars = vec![("PATH", env::join_paths(search_path()).context("joining PATH")?)];
    let libraries = library_dirs();
    if !libraries.is_empty() {
        vars.push(("LD_LIBRARY_PATH", env::join_paths(libraries)?));
    }
    Ok(vars)
}

/// Where a file that was unpacked belongs in a whole system.
pub(crate) fn system_path(path: &Path) -> PathBuf {
    path.strip_prefix(unpacked())
        .map_or_else(|_| path.to_owned(), |rest| Path::new("/").join(rest))
}
