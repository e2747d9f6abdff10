//! Our own daemon in a node.
use crate::daemon::Daemon;
use crate::topology::Node;
use crate::wait;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::env;
use std::fs;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

/// Names the binary; `cargo xtask` sets it, in the guest it is in PATH.
const VARIABLE: &str = "CPLB_BIN";

/// A running `cplb run`.
#[derive(Debug)]
pub struct Cplb<'lab> {
    daemon: Daemon,
    node: &'lab Node,
    config: PathBuf,
}

/// The binary under test.
pub fn binary() -> PathBuf {
    env::var_os(VARIABLE).map_or_else(|| "cplb".into(), PathBuf::from)
}

/// Runs `cplb ARGS` in the node to its end.
pub fn run(node: &Node, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary());
    command.args(args);
    node.netns()
        .run(|| command.output())?
        .with_context(|| format!("cannot start {}", binary().display()))
}

impl<'lab> Cplb<'lab> {
    /// Writes the file and starts the daemon with it and these `--backend`s.
    pub fn start(node: &'lab Node, config: &str, backends: &[String]) -> Result<Self> {
        Self::start_with(node, config, backends, |_| {})
    }

    /// The same, with a last word on the command.
    pub fn start_with(
        node: &'lab Node,
        config: &str,
        backends: &[String],
        adjust: impl FnOnce(&mut Command),
    ) -> Result<Self> {
        let path = node.dir().join("cplb.yaml");
        fs::write(&path, config).with_context(|| path.display().to_string())?;
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(&path);
        for backend in backends {
            command.arg("--backend").arg(backend);
        }
        adjust(&mut command);
        Self::started(node, command, path)
    }

    /// Starts a command of one's own that comes to `cplb run` with the file at `config`.
    pub fn started(node: &'lab Node, command: Command, config: PathBuf) -> Result<Self> {
        Ok(Self {
            daemon: Daemon::start(node, "cplb", command)?,
            node,
            config,
        })
    }

    /// The file it was started with; rewrite it to reload.
    pub fn config(&self) -> &PathBuf {
        &self.config
    }

    /// The process alone, for whoever keeps the node elsewhere.
    pub fn into_daemon(self) -> Daemon {
        self.daemon
    }

    /// Where it runs.
    pub fn node(&self) -> &'lab Node {
        self.node
    }

    /// What `cplb status --json` prints.
    pub fn status(&self) -> Result<Value> {
        let out = run(self.node, &["status", "--json"])?;
        if !out.status.success() {
            bail!(
                "cplb status: {}: {}",
                out.status,
                String::from_utf8_lossy(&out.stderr)
            );
        }
        serde_json::from_slice(&out.stdout).context("cplb status --json")
    }

    /// Waits until the status fits.
    pub fn wait_status(&self, what: &str, limit: Duration, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = wait::until(what, limit, || self.status().ok().filter(|status| fits(status)));
        found.with_context(|| format!("status of {} now: {:?}", self.node.name(), self.status()))
    }
}

impl Deref for Cplb<'_> {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

impl DerefMut for Cplb<'_> {
    fn deref_mut(&mut self) -> &mut Daemon {
        &mut self.daemon
    }
}
