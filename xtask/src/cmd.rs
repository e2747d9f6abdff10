//! Running other programs. A failure always carries the whole command line, so that it can be repeated by hand.
use anyhow::{Context, Result, bail};
use std::env;
use std::ffi::OsStr;
use std::process::{Command, ExitStatus, Stdio};

/// What `cargo xtask` leaks into its children: rustup's choice of toolchain, and the libraries of that rustc.
const LEAKED: &[&str] = &[
    "CARGO",
    "CARGO_ENCODED_RUSTFLAGS",
    "LD_LIBRARY_PATH",
    "RUSTC",
    "RUSTC_BOOTSTRAP",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];
const LEAKED_PREFIXES: &[&str] = &[
    "CARGO_BIN_",
    "CARGO_BUILD_",
    "CARGO_MANIFEST",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CARGO_TARGET_",
];

/// A command whose environment holds nothing of the cargo that started us.
pub(crate) fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (key, _) in env::vars_os() {
        let name = key.to_string_lossy();
        let leaked = LEAKED.contains(&&*name) || LEAKED_PREFIXES.iter().any(|p| name.starts_with(p));
        // The user's own choice of a build directory stays.
        if leaked && name != "CARGO_TARGET_DIR" {
            command.env_remove(&key);
        }
    }
    command
}

/// The command as one would type it, with what was added to its environment.
pub(crate) fn shown(command: &Command) -> String {
    let mut words = Vec::new();
    for (key, value) in command.get_envs() {
        if let Some(value) = value {
            words.push(format!("{}={}", key.to_string_lossy(), quoted(value)));
        }
    }
    words.push(quoted(command.get_program()));
    words.extend(command.get_args().map(quoted));
    let line = words.join(" ");
    match command.get_current_dir() {
        Some(dir) if dir != crate::paths::root() => format!("(cd {} && {line})", dir.display()),
        _ => line,
    }
}

fn quoted(word: &OsStr) -> String {
    let word = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=/.,:+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into_owned();
    }
    format!("'{}'", word.replace('\x1f', " ").replace('\'', r"'\''"))
}

/// Runs it with our terminal; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{status}: {}", shown(command));
    }
    Ok(())
}

/// Runs it with our terminal and hands back how it ended.
pub(crate) fn status(command: &mut Command) -> Result<ExitStatus> {
    command
        .status()
        .with_context(|| format!("cannot start: {}", shown(command)))
}

/// Its standard output, trimmed, while what it says on standard error is seen as it comes.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let out = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start: {}", shown(command)))?;
    if !out.status.success() {
        bail!("{}: {}", out.status, shown(command));
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Its standard output, trimmed; what it wrote to standard error is part of the error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start: {}", shown(command)))?;
    if !out.status.success() {
        let stderr = String::from_utf8_lossy(&out.stderr);
        bail!("{}: {}\n{}", out.status, shown(command), stderr.trim_end());
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Says what is being done, as a line of its own that stands out in a long log.
pub(crate) fn say(what: impl AsRef<str>) {
    eprintln!("==> {}", what.as_ref());
}
