//! A program that was started in a node, with all its descendants.
//!
//! Descendants are found by a mark in their environment rather than by parenthood: a guardian that outlives its
//! daemon has another parent by then.
use crate::netns::processes;
use crate::topology::Node;
use crate::wait;
use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

const MARK: &str = "CPLB_LAB_MARK";

/// A running program. Dropping it kills all of it.
#[derive(Debug)]
pub struct Daemon {
    label: String,
    child: Child,
    mark: String,
    log: PathBuf,
}

/// What a process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// Processor time since the start.
    pub cpu: Duration,
}

impl Daemon {
    /// Starts it in the node. Both outputs go to one log in the node's directory.
    pub fn start(node: &Node, label: &str, mut command: Command) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}", process::id());
        let log = node.dir().join(format!("{label}-{number}.log"));
        let file = File::create(&log).with_context(|| log.display().to_string())?;
        command
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = node.netns().spawn(&mut command)?;
        Ok(Self {
            label: format!("{label} on {}", node.name()),
            child,
            mark,
            log,
        })
    }

    /// The process that was started.
    pub fn pid(&self) -> Pid {
        // The kernel's ids fit: they end at 2^22.
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// It and all that came from it, as far as they still run.
    pub fn pids(&self) -> Vec<Pid> {
        let wanted = format!("{MARK}={}", self.mark);
        let marked = |pid: &Pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|entry| entry == wanted.as_bytes())
        };
        processes().into_iter().filter(marked).collect()
    }

    /// Sends a signal to the process that was started, and only to it.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("{signal} to {}", self.label))
    }

    /// Sends a signal to all of it at once.
    pub fn signal_all(&self, signal: Signal) -> Result<()> {
        for pid in self.pids() {
            match kill(pid, signal) {
                Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("{signal} to {pid} of {}", self.label));
                }
            }
        }
        Ok(())
    }

    /// Waits for the end of the process that was started.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.label);
        let child = &mut self.child;
        wait::until(&what, limit, || child.try_wait().ok().flatten())
    }

    /// Waits until nothing of it is left.
    pub fn wait_all(&mut self, limit: Duration) -> Result<()> {
        let what = format!("the end of all of {}", self.label);
        wait::until(&what, limit, || {
            // One that is ending has no environment any more and still has its sockets: the child is waited for.
            let ended = !matches!(self.child.try_wait(), Ok(None));
            (ended && self.pids().is_empty()).then_some(())
        })
    }

    /// Whether the process that was started still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it wrote so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Where it writes.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Resident memory of all of it in KiB, with what its processes share counted once.
    ///
    /// Of several processes the proportional shares are summed: what else maps their program's file would make them less.
    pub fn distinct_kib(&self) -> u64 {
        let pids = self.pids();
        let word = if pids.len() > 1 { "Pss:" } else { "Rss:" };
        let one = |pid: &Pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix(word))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        pids.iter().filter_map(one).sum()
    }

    /// Memory and processor time of all of it together.
    pub fn usage(&self) -> Usage {
        let mut sum = Usage::default();
        for pid in self.pids() {
            let one = usage(pid).unwrap_or_default();
            sum.resident_kib += one.resident_kib;
            sum.cpu += one.cpu;
        }
        sum
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("--- the last lines of {}", self.label);
            for line in tail.iter().rev() {
                eprintln!("    {line}");
            }
        }
        // Twice: one of them may have been starting another.
        for _ in 0..2 {
            let _ = self.signal_all(Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn usage(pid: Pid) -> Option<Usage> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kib = resident.split_whitespace().next()?.parse().ok()?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold blanks; utime and stime are the 12th and 13th word behind it.
    let mut words = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = words.next()?.parse().ok()?;
    let system: u64 = words.next()?.parse().ok()?;
    // USER_HZ is 100 on every architecture that the lab runs on.
    Some(Usage {
        resident_kib,
        cpu: Duration::from_millis((user + system) * 10),
    })
}
