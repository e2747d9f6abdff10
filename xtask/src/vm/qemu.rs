//! QEMU: its options, its console and its end.
//!
//! The machine is a `q35` with the small `qboot` firmware. `microvm` would boot a second faster, but it has no clock
//! beside the TSC: where the host is busy the kernel fails to calibrate that and waits for ever.
//!
//! `/dev/kvm` may be there and answer and still hang every guest, so KVM is believed only after a guest with this
//! very kernel has booted and powered off under it within a time limit. The answer is kept until the next boot.
use super::console::{Line, Report};
use super::image::Image;
use super::kernel::Kernel;
use crate::apt::Apt;
use crate::{cmd, paths, tools};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

const QEMU: &str = "qemu-system-x86_64";
const PACKAGE: &str = "qemu-system-x86";
const PROBE_LIMIT: Duration = Duration::from_secs(12);

/// What the guest's time goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Clock {
    /// The machine's own.
    Host,
    /// A nanosecond is an instruction: what takes how long is the same at each run, and counts work. Always emulated.
    Instructions,
}

/// A machine to boot images on.
#[derive(Debug)]
pub(crate) struct Machine {
    qemu: PathBuf,
    kernel: Kernel,
    accel: &'static str,
    pub(crate) memory_mb: u32,
    pub(crate) cpus: u32,
    pub(crate) clock: Clock,
}

impl Machine {
    /// Finds, or fetches, all that it takes. `vm_init` is what the probe of KVM boots.
    pub(crate) fn prepare(apt: &Apt, vm_init: &Path) -> Result<Self> {
        if tools::find(QEMU).is_none() {
            apt.install(&[PACKAGE], "boots the guest")?;
        }
        let qemu = tools::find(QEMU).with_context(|| format!("{PACKAGE} has no {QEMU}"))?;
        let kernel = Kernel::find(apt)?;
        let mut machine = Self {
            qemu,
            kernel,
            accel: "tcg",
            memory_mb: 1536,
            cpus: 2,
            clock: Clock::Host,
        };
        machine.accel = machine.accelerator(vm_init)?;
        Ok(machine)
    }

    /// For the log: kernel and accelerator.
    pub(crate) fn describe(&self) -> String {
        format!("Linux {} under {}", self.kernel.version(), self.accelerated_by())
    }

    fn accelerated_by(&self) -> &'static str {
        match self.clock {
            Clock::Host => self.accel,
            Clock::Instructions => "tcg",
        }
    }

    /// Boots `image` and hands every line of the programs' output to `each`.
    pub(crate) fn boot(&self, image: &Image, limit: Duration, each: impl FnMut(&Line<'_>)) -> Result<Report> {
        sweep();
        let path = paths::vm().join(format!("image-{}.cpio", std::process::id()));
        image.write(&self.kernel, &path)?;
        let result = self.boot_file(&path, self.accelerated_by(), limit, each);
        let _ = fs::remove_file(&path);
        let report = result?;
        if !report.ready {
            bail!("the guest did not boot");
        }
        if !report.complete {
            bail!(
                "the guest stopped before its end: {} of {} commands ended",
                report.ended.len(),
                image.commands().len()
            );
        }
        Ok(report)
    }

    fn boot_file(
        &self,
        image: &Path,
        accel: &str,
        limit: Duration,
        mut each: impl FnMut(&Line<'_>),
    ) -> Result<Report> {
        let mut command = self.command(image, accel);
        let line = cmd::shown(&command);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start: {line}"))?;
        let mut guest = Guest(child);
        let (lines, stderr) = guest.readers()?;
        let deadline = Instant::now() + limit;
        let mut report = Report::default();
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(text) => {
                    let parsed = Line::parse(&text);
                    // After the end only the kernel's farewell comes.
                    if !report.complete {
                        report.take(&parsed);
                        each(&parsed);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("the guest took more than {} s: {line}", limit.as_secs())
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let status = guest.0.wait()?;
        let said = stderr.join().unwrap_or_default();
        if !status.success() {
            bail!("{status}: {line}\n{}", said.trim_end());
        }
        Ok(report)
    }

    fn command(&self, image: &Path, accel: &str) -> Command {
        let mut qemu = cmd::clean(&self.qemu);
        qemu.args([
            "-M",
            &format!("q35,accel={accel}"),
            "-bios",
            "qboot.rom",
            "-cpu",
            "max",
        ])
        .args(["-m", &self.memory_mb.to_string(), "-smp", &self.cpus.to_string()])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-nographic",
            "-no-reboot",
            "-serial",
            "stdio",
        ])
        .arg("-kernel")
        .arg(&self.kernel.vmlinuz)
        .arg("-initrd")
        .arg(image)
        .args(["-append", &self.kernel_line()]);
        if self.clock == Clock::Instructions {
            // Time that nobody spends is skipped.
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
        qemu
    }

    fn kernel_line(&self) -> String {
        let always = "console=ttyS0 quiet panic=-1 ipv6.autoconf=0";
        match self.clock {
            Clock::Host => always.to_owned(),
            // Each byte of a page that is cleared counts as an instruction here, which no processor takes: Debian's
            // clearing of all that is allocated would be most of what is counted.
            Clock::Instructions => format!("{always} init_on_alloc=0"),
        }
    }

    fn accelerator(&self, vm_init: &Path) -> Result<&'static str> {
        if !Path::new("/dev/kvm").exists() {
            return Ok("tcg");
        }
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let key = format!("{} {}", boot_id.trim(), self.kernel.version());
        let cache = paths::vm().join("kvm-probe");
        if let Some(works) = fs::read_to_string(&cache)
            .ok()
            .and_then(|t| t.strip_prefix(&key).map(str::to_owned))
        {
            return Ok(if works.trim() == "works" { "kvm" } else { "tcg" });
        }
        cmd::say(format!(
            "trying KVM with an empty guest (at most {} s)",
            PROBE_LIMIT.as_secs()
        ));
        let path = paths::vm().join(format!("probe-{}.cpio", std::process::id()));
        Image::new(vm_init)?.write(&self.kernel, &path)?;
        let result = self.boot_file(&path, "kvm", PROBE_LIMIT, |_| {});
        let _ = fs::remove_file(&path);
        let works = matches!(&result, Ok(report) if report.complete);
        cmd::say(if works {
            "KVM boots a guest"
        } else {
            "KVM does not boot a guest here: using emulation"
        });
        fs::write(
            &cache,
            format!("{key} {}\n", if works { "works" } else { "fails" }),
        )?;
        Ok(if works { "kvm" } else { "tcg" })
    }
}

/// Removes the images of runs that were interrupted.
fn sweep() {
    let Ok(entries) = fs::read_dir(paths::vm()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_suffix(".cpio")?.rsplit_once('-'))
            .map(|(_, pid)| pid);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// A QEMU that does not outlive us.
struct Guest(Child);

impl Guest {
    /// The console's lines, and what QEMU itself complains about.
    fn readers(&mut self) -> Result<(mpsc::Receiver<String>, thread::JoinHandle<String>)> {
        let stdout = self.0.stdout.take().context("QEMU has no standard output")?;
        let mut stderr = self.0.stderr.take().context("QEMU has no standard error")?;
        let (send, receive) = mpsc::channel();
        thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line)
                    .trim_end_matches(['\r', '\n'])
                    .to_owned();
                line.clear();
                if send.send(text).is_err() {
                    break;
                }
            }
        });
        let complaints = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        Ok((receive, complaints))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
