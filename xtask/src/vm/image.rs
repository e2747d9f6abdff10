//! What is in the guest: `vm-init`, the programs of this run with their shared libraries, and the modules.
use super::cpio::Archive;
use super::kernel::Kernel;
use super::modules::Modules;
use crate::{cmd, tools};
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

/// One program that `vm-init` runs.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// What the report calls it.
    pub(crate) name: String,
    /// Program and arguments, as the guest knows them.
    pub(crate) argv: Vec<String>,
    /// Added to the guest's environment.
    pub(crate) env: Vec<(String, String)>,
    /// After which the guest ends it.
    pub(crate) limit: Duration,
}

/// An image under way.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// Path in the guest to path here.
    files: BTreeMap<String, PathBuf>,
    modules: Vec<String>,
    commands: Vec<Command>,
}

impl Image {
    /// `vm_init` becomes the first process.
    pub(crate) fn new(vm_init: &Path) -> Result<Self> {
        let mut image = Self::default();
        image.program(vm_init, "/init")?;
        Ok(image)
    }

    /// A program and the shared libraries that the dynamic linker would load for it here.
    pub(crate) fn program(&mut self, path: &Path, guest: &str) -> Result<()> {
        for library in libraries(path)? {
            let place = tools::system_path(&library);
            self.file(&library, &place.to_string_lossy());
        }
        self.file(path, guest);
        Ok(())
    }

    /// A tool of this machine or one that was unpacked, at its usual place.
    pub(crate) fn tool(&mut self, name: &str) -> Result<()> {
        let path = tools::find(name).with_context(|| format!("no program {name} to put into the guest"))?;
        let guest = format!("/usr/bin/{name}");
        self.program(&path, &guest)
    }

    /// A file as it is.
    pub(crate) fn file(&mut self, path: &Path, guest: &str) {
        self.files.insert(merged(guest), path.to_owned());
    }

    /// A directory with all that is in it.
    pub(crate) fn tree(&mut self, dir: &Path, guest: &str) -> Result<()> {
        for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let place = format!("{guest}/{name}");
            if path.is_dir() {
                self.tree(&path, &place)?;
            } else {
                self.file(&path, &place);
            }
        }
        Ok(())
    }

    /// A module that the lab does not load anyway.
    pub(crate) fn module(&mut self, name: &str) {
        self.modules.push(name.to_owned());
    }

    /// Runs after those that were added before it.
    pub(crate) fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    pub(crate) fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// Writes the initramfs.
    pub(crate) fn write(&self, kernel: &Kernel, to: &Path) -> Result<()> {
        let modules = Modules::scan(&kernel.modules)?.closure(&self.modules)?;
        if let Some(dir) = to.parent() {
            fs::create_dir_all(dir)?;
        }
        let file = File::create(to).with_context(|| to.display().to_string())?;
        let mut archive = Archive::new(BufWriter::with_capacity(1 << 20, file));
        for dir in ["bin", "sbin", "lib", "lib64"] {
            archive.directory(&format!("/usr/{dir}"))?;
            archive.symlink(&format!("/{dir}"), &format!("usr/{dir}"))?;
        }
        for dir in [
            "/dev", "/proc", "/sys", "/run", "/tmp", "/root", "/var/run", "/etc",
        ] {
            archive.directory(dir)?;
        }
        archive.console()?;
        archive.file(
            "/etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
        )?;
        archive.file("/etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
        archive.file("/etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n")?;
        let mut order = Vec::new();
        for (name, bytes) in modules {
            let path = format!("/modules/{name}.ko");
            archive.file(&path, 0o644, &bytes)?;
            order.push(path);
        }
        for (guest, path) in &self.files {
            let bytes = fs::read(path).with_context(|| path.display().to_string())?;
            archive.file(guest, 0o755, &bytes)?;
        }
        archive.file("/vm/plan.json", 0o644, self.plan(&order).as_bytes())?;
        archive.finish()?;
        Ok(())
    }

    fn plan(&self, modules: &[String]) -> String {
        let commands: Vec<_> = self
            .commands
            .iter()
            .map(|c| json!({"name": c.name, "argv": c.argv, "env": c.env, "limitSeconds": c.limit.as_secs()}))
            .collect();
        json!({"modules": modules, "commands": commands}).to_string()
    }
}

/// The guest has merged `/usr`, whatever this machine has.
fn merged(guest: &str) -> String {
    let split = ["/bin/", "/sbin/", "/lib/", "/lib64/"]
        .iter()
        .any(|dir| guest.starts_with(dir));
    if split {
        format!("/usr{guest}")
    } else {
        guest.to_owned()
    }
}

/// What `ldd` finds; none for a static program.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let mut ldd = process::Command::new("ldd");
    ldd.arg(program).env("LC_ALL", "C").env_remove("LD_LIBRARY_PATH");
    let dirs = tools::library_dirs();
    if !dirs.is_empty() {
        let joined: OsString = std::env::join_paths(dirs)?;
        ldd.env("LD_LIBRARY_PATH", joined);
    }
    let out = ldd
        .output()
        .with_context(|| format!("cannot start: {}", cmd::shown(&ldd)))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let mut found = Vec::new();
    for line in text.lines() {
        if line.contains("not found") {
            bail!(
                "{} needs a library that is not here: {}",
                program.display(),
                line.trim()
            );
        }
        let place = line.split_once("=> ").map_or(line, |(_, place)| place).trim();
        let place = place.split(" (0x").next().unwrap_or_default();
        if place.starts_with('/') {
            found.push(PathBuf::from(place));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_has_merged_usr() {
        assert_eq!(
            merged("/lib64/ld-linux-x86-64.so.2"),
            "/usr/lib64/ld-linux-x86-64.so.2"
        );
        assert_eq!(merged("/init"), "/init");
    }
}
