//! Kernel modules: load one that is missing, and say what to do where we cannot.
//!
//! The kernel loads most of what we use by itself through its own modprobe of the host (`request_module`), also for a process in a
//! container without one; asking first is for those it does not (`ip_vs` schedulers before they are named) and for
//! a clear answer.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a module is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was loaded already, or is a part of the kernel.
    There,
    /// It has been loaded now.
    Loaded,
}

/// A module is missing and could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// Not a name.
    #[error("{0:?} is not a module's name")]
    Name(String),
    /// There is no modprobe here, as in a minimal container.
    #[error(
        "module {module} is not loaded and there is no modprobe here: run `modprobe {module}` on the host"
    )]
    NoModprobe {
        /// The module.
        module: String,
    },
    /// modprobe cannot.
    #[error("loading module {module}: {cause}")]
    Failed {
        /// The module.
        module: String,
        /// In modprobe's words.
        cause: String,
    },
}

impl ModuleError {
    /// Whether the same call may succeed in a moment. It never does by itself.
    pub const fn is_transient(&self) -> bool {
        false
    }
}

/// Makes sure that the kernel has `module`. Blocks while modprobe runs: call it at the start, not in the loop.
///
/// An error means that it is not known to be there; the kernel may have the facility all the same (built in, without a trace
/// in `/sys/module` and `/lib/modules`), so try before giving up.
pub fn ensure(module: &str) -> Result<Presence, ModuleError> {
    if module.is_empty()
        || !module
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    {
        return Err(ModuleError::Name(module.to_owned()));
    }
    if is_there(module) {
        return Ok(Presence::There);
    }
    let Some(modprobe) = modprobe() else {
        return Err(ModuleError::NoModprobe {
            module: module.to_owned(),
        });
    };
    load(&modprobe, module)
}

/// Whether the kernel has it: loaded, or built in.
pub fn is_there(module: &str) -> bool {
    // Both have underscores whatever the file is called.
    let name = module.replace('-', "_");
    Path::new("/sys/module").join(&name).exists() || is_builtin(&name)
}

/// Modules without parameters leave no trace in `/sys/module` when they are built in.
fn is_builtin(name: &str) -> bool {
    let Ok(release) = fs::read_to_string("/proc/sys/kernel/osrelease") else {
        return false;
    };
    let list = Path::new("/lib/modules")
        .join(release.trim())
        .join("modules.builtin");
    fs::read_to_string(list).is_ok_and(|list| lists(&list, name))
}

/// A line is `kernel/net/netfilter/ipvs/ip_vs.ko`.
fn lists(list: &str, name: &str) -> bool {
    let file = |line: &str| {
        line.rsplit('/')
            .next()?
            .split('.')
            .next()
            .map(|f| f.replace('-', "_"))
    };
    list.lines().any(|line| file(line).as_deref() == Some(name))
}

fn modprobe() -> Option<PathBuf> {
    // A daemon's PATH may lack the directories of the administrator.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let fixed = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(fixed)
        .map(|directory| directory.join("modprobe"))
        .find(|file| file.is_file())
}

fn load(modprobe: &Path, module: &str) -> Result<Presence, ModuleError> {
    let failed = |cause: String| ModuleError::Failed {
        module: module.to_owned(),
        cause,
    };
    let output = Command::new(modprobe)
        .args(["--", module])
        .stdin(Stdio::null())
        .output()
        .map_err(|e: io::Error| failed(format!("{}: {e}", modprobe.display())))?;
    if output.status.success() {
        return Ok(Presence::Loaded);
    }
    // It may have come by another way meanwhile.
    if is_there(module) {
        return Ok(Presence::There);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    Err(failed(if said.is_empty() {
        format!("modprobe ended with {}", output.status)
    } else {
        said.to_owned()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builtin_module_is_found_in_the_list() {
        let list = "kernel/net/netfilter/ipvs/ip_vs.ko\nkernel/net/ipv4/tcp-x.ko.xz\n";
        assert!(lists(list, "ip_vs"));
        assert!(lists(list, "tcp_x"));
        assert!(!lists(list, "ip_vs_rr"));
    }

    #[test]
    fn what_is_no_name_is_not_given_to_modprobe() {
        for name in ["", "a b", "../x", "x;y"] {
            assert!(matches!(ensure(name), Err(ModuleError::Name(_))), "{name:?}");
        }
    }

    #[test]
    fn a_module_that_does_not_exist_is_explained() {
        let error = ensure("cplb_no_such_module").unwrap_err().to_string();
        assert!(error.contains("cplb_no_such_module"), "{error}");
    }
}
