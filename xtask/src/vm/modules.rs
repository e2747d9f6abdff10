//! Which modules the guest loads, and in what order.
//!
//! A package that was only unpacked has no `modules.dep` (its post-install script would have run depmod), so the
//! dependencies are read from the modules themselves: `depends=` in their `.modinfo` section.
use crate::cmd;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the lab uses. A trailing `*` takes every module whose name starts so, and none is no error.
const WANTED: &[&str] = &[
    "crc32c_generic*",
    "af_packet*",
    "bridge",
    "veth",
    "dummy",
    "macvlan",
    "8021q",
    "bonding",
    "ip_vs",
    "ip_vs_*",
    "nf_conntrack",
    "nf_tables",
    "nft_chain_nat",
    "nft_compat*",
    "nft_counter*",
    "nft_ct",
    "nft_fib*",
    "nft_hash*",
    "nft_limit*",
    "nft_numgen*",
    "nft_objref*",
    "nft_quota*",
    "nft_log*",
    "nft_masq",
    "nft_meta*",
    "nft_nat",
    "nft_redir",
    "nft_reject*",
    "xt_ipvs*",
    "ipip",
    "ip_gre",
    "ip6_gre*",
    "ip6_tunnel*",
    "sit*",
    "fou",
    "fou6*",
    "sch_netem*",
];

/// The modules of a kernel, by name.
pub(crate) struct Modules {
    files: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Looks below `lib/modules/VERSION`.
    pub(crate) fn scan(dir: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        walk(&dir.join("kernel"), &mut files)?;
        let list = fs::read_to_string(dir.join("modules.builtin"))
            .with_context(|| format!("{}: modules.builtin", dir.display()))?;
        let builtin = list
            .lines()
            .filter_map(|line| module_name(Path::new(line)))
            .collect();
        Ok(Self { files, builtin })
    }

    /// [`WANTED`] and `extra` with all that they depend on: dependencies first, each with its bytes.
    pub(crate) fn closure(&self, extra: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for wanted in WANTED.iter().copied().chain(extra.iter().map(String::as_str)) {
            match wanted.strip_suffix('*') {
                Some(prefix) => {
                    for name in self.files.keys().filter(|name| name.starts_with(prefix)) {
                        self.add(name, &mut seen, &mut order)?;
                    }
                }
                None => self.add(wanted, &mut seen, &mut order)?,
            }
        }
        Ok(order)
    }

    fn add(&self, name: &str, seen: &mut BTreeSet<String>, order: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
        if self.builtin.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else {
            bail!("the guest's kernel has no module {name}")
        };
        let bytes = read(path)?;
        for dependency in depends(&bytes) {
            self.add(&dependency, seen, order)?;
        }
        order.push((name.to_owned(), bytes));
        Ok(())
    }
}

fn walk(dir: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if let Some(name) = module_name(&path) {
            files.insert(name, path);
        }
    }
    Ok(())
}

/// `kernel/net/ipv4/ip_vs.ko.xz` is `ip_vs`; the kernel spells `-` as `_`.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    let (name, rest) = file.split_once(".ko")?;
    ["", ".xz", ".zst", ".gz"]
        .contains(&rest)
        .then(|| name.replace('-', "_"))
}

/// Debian 12 ships plain modules, later releases compressed ones.
fn read(path: &Path) -> Result<Vec<u8>> {
    let tool = match path.extension().and_then(|e| e.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| path.display().to_string()),
    };
    let mut command = Command::new(tool);
    command.arg("-dc").arg(path);
    let out = command
        .output()
        .with_context(|| format!("cannot start: {}", cmd::shown(&command)))?;
    if !out.status.success() {
        bail!("{}: {}", out.status, cmd::shown(&command));
    }
    Ok(out.stdout)
}

/// `.modinfo` is a run of NUL-terminated `key=value`.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[at + KEY.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let value = String::from_utf8_lossy(value);
    value
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module() {
        assert_eq!(
            depends(b"x\0license=GPL\0depends=nf_conntrack,lib-crc\0name=y\0"),
            ["nf_conntrack", "lib_crc"]
        );
        assert!(depends(b"x\0depends=\0name=y\0").is_empty());
        assert!(depends(b"nothing").is_empty());
    }

    #[test]
    fn names_of_module_files() {
        assert_eq!(module_name(Path::new("a/ip-vs.ko.xz")).as_deref(), Some("ip_vs"));
        assert_eq!(module_name(Path::new("a/veth.ko")).as_deref(), Some("veth"));
        assert_eq!(module_name(Path::new("a/modules.order")), None);
    }
}
