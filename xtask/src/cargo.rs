//! Cargo: building our packages and finding what was built.
use crate::{cmd, paths};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the lab and the guest run: optimised, without the minutes of a fat LTO.
pub(crate) const LAB_PROFILE: &str = "lab";

/// Something that cargo built.
#[derive(Debug, Clone)]
pub(crate) struct Artifact {
    pub(crate) package: String,
    /// Of the package.
    pub(crate) directory: PathBuf,
    /// Of the target: a binary's or a suite's name.
    pub(crate) name: String,
    /// `bin`, `test`, `lib`, ...
    pub(crate) kind: String,
    /// Whether it is a test program rather than the thing itself.
    pub(crate) test: bool,
    pub(crate) path: PathBuf,
}

/// The cargo that started us, in the workspace, as if it had been typed.
pub(crate) fn cargo() -> Command {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(paths::root());
    // Cargo sets these for us and they would make every package look changed.
    for (key, _) in env::vars_os().filter(|(key, _)| set_by_cargo(key)) {
        command.env_remove(key);
    }
    command
}

fn set_by_cargo(key: &OsStr) -> bool {
    let key = key.to_string_lossy();
    key.starts_with("CARGO_PKG_") || key.starts_with("CARGO_MANIFEST") || key.starts_with("CARGO_BIN_")
}

/// Runs a `cargo build` or `cargo test --no-run` and lists the executables of it.
pub(crate) fn artifacts(command: &mut Command) -> Result<Vec<Artifact>> {
    command
        .args(["--message-format", "json-render-diagnostics"])
        .stdout(Stdio::piped());
    let child = command
        .spawn()
        .with_context(|| format!("cannot start: {}", cmd::shown(command)))?;
    let out = child.wait_with_output()?;
    if !out.status.success() {
        bail!("{}: {}", out.status, cmd::shown(command));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    Ok(text.lines().filter_map(artifact).collect())
}

fn artifact(line: &str) -> Option<Artifact> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = message.get("executable")?.as_str()?.into();
    let target = message.get("target")?;
    let name = target.get("name")?.as_str()?.to_owned();
    let kind = target.get("kind")?.get(0)?.as_str()?.to_owned();
    let test = message.get("profile")?.get("test")?.as_bool()?;
    let directory = Path::new(message.get("manifest_path")?.as_str()?)
        .parent()?
        .to_owned();
    // Packages of this workspace are in directories of their names, but for one.
    let package = match directory.file_name()?.to_str()? {
        "tests" => "lb-tests".to_owned(),
        name => name.to_owned(),
    };
    Some(Artifact {
        package,
        directory,
        name,
        kind,
        test,
        path,
    })
}

/// Builds one binary of one package in the lab's profile.
pub(crate) fn lab_binary(package: &str, binary: &str) -> Result<PathBuf> {
    let mut command = static_cargo("build");
    command.args(["--profile", LAB_PROFILE, "--package", package, "--bin", binary]);
    let built = artifacts(&mut command)?;
    let found = built.into_iter().find(|a| a.name == binary && a.kind == "bin");
    found
        .map(|a| a.path)
        .with_context(|| format!("{package} has no binary {binary}"))
}

/// A `cargo build` or `cargo test` whose programs need nothing of the machine they run on.
///
/// The C library is linked in, which takes no more than gcc. With `--target` the flag stays away from build scripts
/// and procedural macros, which are shared libraries.
pub(crate) fn static_cargo(verb: &str) -> Command {
    let target = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let variable = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        target.replace('-', "_").to_uppercase()
    );
    let mut command = cargo();
    command
        .args([verb, "--target", &target])
        .env(variable, "-C target-feature=+crt-static");
    command
}

/// Builds `cplb` alone, static.
pub(crate) fn static_cplb(profile: &str) -> Result<PathBuf> {
    let mut command = static_cargo("build");
    command.args(["--profile", profile, "--package", "lb-userspace", "--bin", "cplb"]);
    let found = artifacts(&mut command)?
        .into_iter()
        .find(|a| a.name == "cplb" && a.kind == "bin");
    found.map(|a| a.path).context("lb-userspace has no binary cplb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_in_cargos_messages() {
        let line = r#"{"manifest_path":"/x/tests/Cargo.toml","target":{"kind":["test"],"name":"lab"},
            "profile":{"test":true},"executable":"/x/lab-1"}"#;
        let found = artifact(line).unwrap();
        assert_eq!(
            (found.package.as_str(), found.name.as_str(), found.test),
            ("lb-tests", "lab", true)
        );
        assert!(artifact(r#"{"reason":"compiler-artifact","executable":null}"#).is_none());
        assert!(artifact("not json").is_none());
    }
}
