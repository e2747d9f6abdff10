//! Debian's packages: some are installed, most are only downloaded and unpacked under `target/`.
//!
//! Installing keepalived would start a service on the user's machine, and a kernel would end up in the boot menu,
//! so what can work from any directory is unpacked. Everything is named before it is fetched.
use crate::{cmd, paths};
use anyhow::{Context, Result, bail};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whether anything may be fetched.
#[derive(Debug, Default)]
pub(crate) struct Apt {
    /// `--no-install`: refuse, and say what it would have been.
    pub(crate) refuse: bool,
    updated: Cell<bool>,
}

impl Apt {
    pub(crate) fn new(refuse: bool) -> Self {
        Self {
            refuse,
            updated: Cell::new(false),
        }
    }

    /// Makes sure that `packages` are installed.
    pub(crate) fn install(&self, packages: &[&str], why: &str) -> Result<()> {
        let missing: Vec<&str> = packages.iter().copied().filter(|p| !installed(p)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let names = missing.join(" ");
        self.allowed(&format!("apt-get install {names}"), why)?;
        self.known(&missing)?;
        cmd::say(format!("installing {names} ({why})"));
        let mut apt = apt_get();
        apt.args(["install", "-y", "-q", "--no-install-recommends"])
            .args(&missing);
        cmd::run(&mut apt)
    }

    /// Unpacks `packages`, and what they need that this machine does not have, below `dir`.
    pub(crate) fn unpack(&self, packages: &[&str], why: &str, dir: &Path) -> Result<()> {
        let names = packages.join(" ");
        self.allowed(
            &format!("download {names} and unpack below {}", dir.display()),
            why,
        )?;
        self.known(packages)?;
        cmd::say(format!(
            "unpacking {names} below {} ({why}); nothing is installed",
            dir.display()
        ));
        let archives = paths::tools().join("archives");
        if archives.exists() {
            fs::remove_dir_all(&archives).context("emptying the download directory")?;
        }
        fs::create_dir_all(archives.join("partial"))?;
        let mut apt = apt_get();
        apt.args([
            "install",
            "-y",
            "-q",
            "--no-install-recommends",
            "--download-only",
        ])
        .args(["-o", "Debug::NoLocking=1"])
        .arg("-o")
        .arg(format!("Dir::Cache::archives={}", archives.display()))
        .args(packages);
        cmd::run(&mut apt)?;
        unpack_all(&archives, dir)
    }

    /// Downloads exactly this package, without what it depends on, and unpacks it below `dir`.
    pub(crate) fn unpack_alone(&self, package: &str, why: &str, dir: &Path) -> Result<()> {
        self.allowed(
            &format!("download {package} and unpack below {}", dir.display()),
            why,
        )?;
        self.known(&[package])?;
        cmd::say(format!(
            "unpacking {package} below {} ({why}); it is not installed",
            dir.display()
        ));
        let archives = paths::tools().join("archives");
        if archives.exists() {
            fs::remove_dir_all(&archives).context("emptying the download directory")?;
        }
        fs::create_dir_all(&archives)?;
        cmd::run(apt_get().current_dir(&archives).args(["download", "-q", package]))?;
        unpack_all(&archives, dir)
    }

    /// What the meta package stands for today: its first dependency whose name starts with `prefix`.
    pub(crate) fn dependency(&self, package: &str, prefix: &str) -> Result<String> {
        self.known(&[package])?;
        let text = cmd::output(Command::new("apt-cache").args(["depends", package]))?;
        text.lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .with_context(|| format!("{package} depends on no {prefix}*:\n{text}"))
    }

    fn allowed(&self, what: &str, why: &str) -> Result<()> {
        if self.refuse {
            bail!("--no-install: would {what} ({why})");
        }
        if !Path::new("/usr/bin/apt-get").exists() {
            bail!("this machine has no apt-get, and cplb's set-up knows only Debian: {what} ({why}) by hand");
        }
        Ok(())
    }

    /// A fresh machine may have no package lists yet.
    fn known(&self, packages: &[&str]) -> Result<()> {
        let unknown =
            |p: &&str| !cmd::output(Command::new("apt-cache").args(["show", p])).is_ok_and(|s| !s.is_empty());
        if !self.updated.get() && packages.iter().any(unknown) {
            self.allowed("apt-get update", "the package lists do not name what is needed")?;
            cmd::say("apt-get update (the package lists do not name what is needed)");
            cmd::run(apt_get().args(["update", "-q"]))?;
            self.updated.set(true);
        }
        Ok(())
    }
}

fn apt_get() -> Command {
    let mut apt = cmd::clean("apt-get");
    // The download user of apt may not enter the directory of whoever checked this tree out.
    apt.args(["-o", "APT::Sandbox::User=root", "-o", "Dpkg::Use-Pty=0"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null());
    apt
}

fn installed(package: &str) -> bool {
    let query = cmd::output(Command::new("dpkg-query").args(["-W", "-f=${Status}", package]));
    query.is_ok_and(|status| status.ends_with(" installed"))
}

fn unpack_all(archives: &Path, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    for deb in debs(archives)? {
        cmd::run(Command::new("dpkg").arg("-x").arg(&deb).arg(dir))?;
    }
    fs::remove_dir_all(archives).context("removing the downloaded packages")
}

fn debs(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "deb") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
