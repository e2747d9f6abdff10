//! The guest's first process: mounts, modules, loopback, the commands of the plan, power off.
//!
//! It is also the guest's `modprobe`-less everything: no shell, no daemon, no disk. Each command's end is marked on
//! the console, where `cargo xtask` reads it.
use anyhow::{Context, Result};
use lb_tests::guest::{Command, MARK, PLAN, Plan, VARIABLE};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::process;
use std::thread;
use std::time::{Duration, Instant};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn main() {
    if process::id() != 1 {
        eprintln!("vm-init is the first process of the guest that `cargo xtask vm` boots, and nothing else");
        process::exit(2);
    }
    if let Err(error) = work() {
        println!("vm-init: {error:#}");
    }
    println!("{MARK}off");
    // Should the machine not know how to power off, QEMU ends at the reboot.
    let _ = reboot(RebootMode::RB_POWER_OFF);
    let _ = reboot(RebootMode::RB_AUTOBOOT);
}

fn work() -> Result<()> {
    mounts()?;
    let plan = fs::read_to_string(PLAN).context(PLAN)?;
    let plan: Plan = serde_json::from_str(&plan).context(PLAN)?;
    for module in &plan.modules {
        load(module);
    }
    settings();
    println!("{MARK}ready");
    for command in &plan.commands {
        println!("{MARK}start {}", command.name);
        let started = Instant::now();
        let code = run(command).unwrap_or_else(|error| {
            println!("vm-init: {error:#}");
            127
        });
        println!(
            "{MARK}exit {code} {} {}",
            started.elapsed().as_millis(),
            command.name
        );
    }
    Ok(())
}

fn mounts() -> Result<()> {
    let none = MsFlags::empty();
    for (kind, place, options) in [
        ("devtmpfs", "/dev", ""),
        ("proc", "/proc", ""),
        ("sysfs", "/sys", ""),
        ("tmpfs", "/run", "mode=755"),
        ("tmpfs", "/tmp", "mode=1777"),
    ] {
        mount(Some(kind), place, Some(kind), none, Some(options))
            .with_context(|| format!("mounting {place}"))?;
    }
    // Neither is in every kernel, and only some suites want them.
    let _ = mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), none, None::<&str>);
    let _ = mount(
        Some("cgroup2"),
        "/sys/fs/cgroup",
        Some("cgroup2"),
        none,
        None::<&str>,
    );
    Ok(())
}

/// A module that does not load is said, and the suite that needs it will tell.
fn load(path: &str) {
    // `dummy` would start with a device that no test asked for.
    let parameters = if path.ends_with("/dummy.ko") {
        c"numdummies=0"
    } else {
        c""
    };
    let result = File::open(path)
        .map_err(anyhow::Error::from)
        .and_then(|file| Ok(finit_module(&file, parameters, ModuleInitFlags::empty())?));
    if let Err(error) = result {
        println!("vm-init: {path}: {error:#}");
    }
}

fn settings() {
    // fallback tunnels in every new namespace would double each node's list of links
    let _ = fs::write("/proc/sys/net/core/fb_tunnels_only_for_init_net", "1");
    let _ = nix::unistd::sethostname("guest");
    let up = process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .env("PATH", PATH)
        .status();
    if !up.is_ok_and(|status| status.success()) {
        println!("vm-init: the loopback interface could not be set up");
    }
}

/// Runs it in a process group of its own and collects orphans meanwhile, as the first process must.
fn run(command: &Command) -> Result<i32> {
    let (program, args) = command
        .argv
        .split_first()
        .context("a command without a program")?;
    let child = process::Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("HOME", "/root")
        .env("TERM", "dumb")
        .env(VARIABLE, "1")
        .envs(command.env.iter().cloned())
        .current_dir("/tmp")
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let pid = Pid::from_raw(i32::try_from(child.id())?);
    let deadline = Instant::now() + Duration::from_secs(command.limit_seconds);
    let mut killed = false;
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(ended, code)) if ended == pid => return Ok(code),
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == pid => return Ok(128 + signal as i32),
            Ok(WaitStatus::StillAlive) => thread::sleep(Duration::from_millis(5)),
            Ok(_) => {}
            Err(error) => return Err(error).context("waiting"),
        }
        if !killed && Instant::now() > deadline {
            println!(
                "vm-init: {} took more than {} s",
                command.name, command.limit_seconds
            );
            kill(Pid::from_raw(-pid.as_raw()), Signal::SIGKILL)?;
            killed = true;
        }
    }
}
