//! A start that has to wait for the run directory.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use anyhow::{Context, Result};
use lb_tests::native::{Instance, configuration};
use lb_tests::wait;
use lb_userspace::rundir::RunDir;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

#[test]
fn a_start_that_waits_hears_signals() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (run_dir, config, log) = (
        dir.path().join("run"),
        dir.path().join("cplb.yaml"),
        dir.path().join("log"),
    );
    fs::write(
        &config,
        configuration(&[Instance::new(51, &["192.0.2.1/24"])], ""),
    )?;
    // As the guardian of the run before, which is still leaving.
    let _before = RunDir::open(&run_dir, Duration::ZERO)?;
    let mut child = Command::new(env!("CARGO_BIN_EXE_cplb"))
        .args(["run", "--config"])
        .arg(&config)
        .arg("--run-dir")
        .arg(&run_dir)
        .stderr(File::create(&log)?)
        .spawn()?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let said = || fs::read_to_string(&log).unwrap_or_default();
    let limit = Duration::from_secs(20);
    wait::until("it to wait", limit, || {
        said()
            .contains("waiting for the cplb before this one")
            .then_some(())
    })
    .with_context(said)?;
    kill(pid, Signal::SIGHUP)?;
    wait::steady("a SIGHUP ends nothing", Duration::from_millis(300), || {
        child.try_wait().is_ok_and(|end| end.is_none())
    })
    .with_context(said)?;
    kill(pid, Signal::SIGTERM)?;
    let end = wait::until("it to end", limit, || child.try_wait().ok().flatten())?;
    assert!(end.success(), "{}", said());
    assert!(
        said().contains("told to stop before anything was begun"),
        "{}",
        said()
    );
    Ok(())
}
