//! The guest's kernel: downloaded and unpacked, never installed.
use crate::apt::Apt;
use crate::paths;
use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// A meta package: what it depends on is the kernel of the day.
const META_PACKAGE: &str = "linux-image-cloud-amd64";

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// What QEMU boots.
    pub(crate) vmlinuz: PathBuf,
    /// `lib/modules/VERSION`.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// `CPLB_VM_KERNEL` with `CPLB_VM_MODULES`, else the one that was unpacked earlier, else Debian's.
    pub(crate) fn find(apt: &Apt) -> Result<Self> {
        if let Some(vmlinuz) = env::var_os("CPLB_VM_KERNEL") {
            let modules = env::var_os("CPLB_VM_MODULES")
                .context("CPLB_VM_KERNEL is set but CPLB_VM_MODULES (its lib/modules/VERSION) is not")?;
            return Ok(Self {
                vmlinuz: vmlinuz.into(),
                modules: modules.into(),
            });
        }
        if env::consts::ARCH != "x86_64" {
            bail!(
                "the guest is x86_64 and this machine is {}: set CPLB_VM_KERNEL",
                env::consts::ARCH
            );
        }
        let dir = paths::vm().join("kernel");
        if let Some(kernel) = Self::unpacked(&dir) {
            return Ok(kernel);
        }
        let package = apt.dependency(META_PACKAGE, "linux-image-")?;
        apt.unpack_alone(&package, "the guest's kernel, 27 MB", &dir)?;
        Self::unpacked(&dir).with_context(|| format!("{package} has no boot/vmlinuz-*"))
    }

    fn unpacked(dir: &Path) -> Option<Self> {
        for entry in fs::read_dir(dir.join("boot")).ok()?.flatten() {
            let name = entry.file_name();
            let Some(version) = name.to_str().and_then(|n| n.strip_prefix("vmlinuz-")) else {
                continue;
            };
            let modules = dir.join("lib/modules").join(version);
            let modules = if modules.is_dir() {
                modules
            } else {
                dir.join("usr/lib/modules").join(version)
            };
            if modules.is_dir() {
                return Some(Self {
                    vmlinuz: entry.path(),
                    modules,
                });
            }
        }
        None
    }

    /// The version, for the log.
    pub(crate) fn version(&self) -> String {
        self.modules
            .file_name()
            .map_or_else(String::new, |n| n.to_string_lossy().into_owned())
    }
}
