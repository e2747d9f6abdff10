//! A namespace of network and mounts: what a node is made of.
//!
//! The network is also bound to `/run/netns/NAME`, so that `ip netns exec` works on a lab that is standing. The
//! mounts are private: `/sys` shows the node's interfaces, and `/run` is its own, so that two daemons may use the
//! same default paths. `/tmp` and the rest are the machine's.
use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Output, Stdio};
use std::sync::Once;
use std::thread;

/// Where `ip netns` looks.
const DIRECTORY: &str = "/run/netns";
/// Starts the name of every namespace of ours, followed by the process that made it.
const PREFIX: &str = "cplb-t-";

/// A namespace. Its interfaces go when it is dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
    net: File,
    mnt: File,
}

impl Netns {
    /// Makes one; `label` only has to be unique in this process.
    pub fn new(label: &str) -> Result<Self> {
        sweep();
        let name = format!("{PREFIX}{}-{label}", process::id());
        fs::create_dir_all(DIRECTORY).context(DIRECTORY)?;
        let place = Path::new(DIRECTORY).join(&name);
        File::create_new(&place).with_context(|| place.display().to_string())?;
        let made = on_a_thread(|| make(&place));
        if made.is_err() {
            remove(&place);
        }
        let (net, mnt) = made.with_context(|| format!("making namespace {name} (needs root)"))?;
        let netns = Self { name, net, mnt };
        netns.ip("link set lo up\n")?;
        Ok(netns)
    }

    /// As `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` in this namespace, on a thread of its own. Sockets and children made by it stay in here.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_a_thread(|| {
            self.enter()?;
            Ok(work())
        })
    }

    /// Starts a program in here.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let shown = format!("{command:?}");
        self.run(|| command.spawn())?
            .with_context(|| format!("cannot start in {}: {shown}", self.name))
    }

    /// Runs a program to its end and gives its standard output; anything but success is an error.
    pub fn output(&self, argv: &[&str]) -> Result<String> {
        let (program, args) = argv.split_first().context("a command without a program")?;
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        let out: io::Result<Output> = self.run(|| command.output())?;
        let out = out.with_context(|| format!("cannot start in {}: {}", self.name, argv.join(" ")))?;
        if !out.status.success() {
            bail!(
                "{} in {}: {}\n{}",
                out.status,
                self.name,
                argv.join(" "),
                String::from_utf8_lossy(&out.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Runs lines of `ip` in here. Other namespaces can be named, since `/run/netns` is the machine's for these.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = on_a_thread(|| {
            setns(&self.net, CloneFlags::CLONE_NEWNET)?;
            command.spawn().context("cannot start ip (package iproute2)")
        })?;
        child
            .stdin
            .take()
            .context("no standard input")?
            .write_all(lines.as_bytes())?;
        let out = child.wait_with_output()?;
        if !out.status.success() {
            bail!(
                "ip -batch in {}: {}{lines}",
                self.name,
                String::from_utf8_lossy(&out.stderr)
            );
        }
        Ok(())
    }

    /// Sets `net.KEY` in here, for example `ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = sysctl_path(key);
        self.run(|| fs::write(&path, value))?
            .with_context(|| format!("{} = {value}", path.display()))
    }

    /// Reads `net.KEY`.
    pub fn sysctl_value(&self, key: &str) -> Result<String> {
        let path = sysctl_path(key);
        let text = self
            .run(|| fs::read_to_string(&path))?
            .with_context(|| path.display().to_string())?;
        Ok(text.trim().to_owned())
    }

    fn enter(&self) -> Result<()> {
        // A thread that shares its idea of `/` with others may not change mount namespaces.
        unshare(CloneFlags::CLONE_FS)?;
        setns(&self.mnt, CloneFlags::CLONE_NEWNS)?;
        setns(&self.net, CloneFlags::CLONE_NEWNET)?;
        Ok(())
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        remove(&Path::new(DIRECTORY).join(&self.name));
    }
}

fn sysctl_path(key: &str) -> PathBuf {
    Path::new("/proc/sys/net").join(key.replace('.', "/"))
}

/// Namespaces belong to threads: the work gets one that nobody else uses.
fn on_a_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panicked) => panic::resume_unwind(panicked),
    })
}

fn make(place: &Path) -> Result<(File, File)> {
    const NONE: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNET).context("a new network namespace")?;
    mount(
        Some("/proc/thread-self/ns/net"),
        place,
        NONE,
        MsFlags::MS_BIND,
        NONE,
    )
    .context("binding it")?;
    let net = File::open("/proc/thread-self/ns/net")?;
    unshare(CloneFlags::CLONE_NEWNS).context("a new mount namespace")?;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).context("private mounts")?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), NONE).context("/sys")?;
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=755"),
    )
    .context("/run")?;
    // Pinned programs and maps are a node's own too; not every kernel has them.
    let _ = mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), NONE);
    let mnt = File::open("/proc/thread-self/ns/mnt")?;
    Ok((net, mnt))
}

fn remove(place: &Path) {
    let _ = umount2(place, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(place);
}

/// Removes the namespaces of runs that were killed, and ends what still runs in them.
fn sweep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Ok(entries) = fs::read_dir(DIRECTORY) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let owner = name
                .to_str()
                .and_then(|n| n.strip_prefix(PREFIX))
                .and_then(|n| n.split('-').next());
            let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else {
                continue;
            };
            if !Path::new("/proc").join(owner.to_string()).exists() {
                end_inhabitants(&entry.path());
                remove(&entry.path());
            }
        }
    });
}

/// Whoever is in a namespace of ours was started by us.
fn end_inhabitants(place: &Path) {
    let Ok(wanted) = fs::metadata(place).map(|m| m.ino()) else {
        return;
    };
    for pid in processes() {
        let inside = fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|m| m.ino() == wanted);
        if inside && pid.as_raw() != 1 {
            let _ = kill(pid, Signal::SIGKILL);
        }
    }
}

/// Every process there is.
pub(crate) fn processes() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let ids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.map(Pid::from_raw).collect()
}
