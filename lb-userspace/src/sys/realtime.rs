//! Real-time scheduling and locked memory for the election's thread.
//!
//! A host that swaps or is busy must not make a node late: a late holder loses its addresses, and a late backup takes
//! what nobody gave up. Everything here is an improvement, never a condition: what the kernel refuses comes back as a
//! sentence for the log, and the election runs without it.
#![expect(
    unsafe_code,
    reason = "scheduling and locking have no safe wrapper here, and musl's own of the former is a stub"
)]

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use std::io;
use std::time::Duration;

/// Something that would have helped and was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// `SCHED_FIFO`.
    #[error("no real-time scheduling (needs CAP_SYS_NICE or RLIMIT_RTPRIO)")]
    Scheduling(#[source] io::Error),
    /// The guard against a thread that spins at real-time priority: without it, no real-time scheduling either.
    #[error("no limit on real-time processor time, so no real-time scheduling")]
    RuntimeLimit(#[source] io::Error),
    /// `mlockall`.
    #[error("memory is not locked (needs CAP_IPC_LOCK or an unlimited RLIMIT_MEMLOCK)")]
    Memory(#[source] io::Error),
}

/// Gives the calling thread `SCHED_FIFO` at `priority` and locks the process's memory as it is touched. A real-time
/// thread that computes for `runaway` without ever sleeping makes the kernel end the process (`RLIMIT_RTTIME`): a
/// guardian can repair a dead daemon, nobody can log in to a host whose processor is taken.
pub fn engage(priority: u8, runaway: Duration) -> Vec<Refused> {
    let mut refused = Vec::new();
    match limit_runtime(runaway) {
        Ok(()) => refused.extend(fifo(priority).err().map(Refused::Scheduling)),
        Err(e) => refused.push(Refused::RuntimeLimit(e)),
    }
    refused.extend(lock_memory().err().map(Refused::Memory));
    refused
}

/// The soft limit ends the process by SIGXCPU, the hard one by SIGKILL a second later.
fn limit_runtime(runaway: Duration) -> io::Result<()> {
    let soft = u64::try_from(runaway.as_micros()).unwrap_or(RLIM_INFINITY);
    let (_, hard) = getrlimit(Resource::RLIMIT_RTTIME)?;
    let wanted = soft.saturating_add(1_000_000).min(hard);
    setrlimit(Resource::RLIMIT_RTTIME, soft.min(wanted), wanted)?;
    Ok(())
}

fn fifo(priority: u8) -> io::Result<()> {
    // Not by fields: musl's struct has more of them, for a policy that Linux has not.
    let mut param = ZERO_PARAM;
    param.sched_priority = i32::from(priority);
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the system call reads one `sched_param`, which lives until it returns; 0 names the calling thread. It is
    // called by number because musl's function always answers ENOSYS.
    let r = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const param) };
    if r == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

// SAFETY: `sched_param` is plain integers in every libc, for which all zeroes is a value.
const ZERO_PARAM: libc::sched_param = unsafe { std::mem::zeroed() };

/// Without CAP_IPC_LOCK, `MCL_FUTURE` makes every later allocation beyond RLIMIT_MEMLOCK fail, which would end the
/// daemon at some random moment: so it is asked for only where it cannot.
fn lock_memory() -> io::Result<()> {
    // Raising it needs CAP_SYS_RESOURCE; refused is no news, what counts is the value afterwards.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let (soft, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if soft != RLIM_INFINITY && !may_lock() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let flags = libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT;
    // SAFETY: it takes no pointer and changes only where pages may be, not what is in them.
    match unsafe { libc::mlockall(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether CAP_IPC_LOCK (14) is in effect.
fn may_lock() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|s| {
            let line = s.lines().find_map(|l| l.strip_prefix("CapEff:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .is_some_and(|caps| caps >> CAP_IPC_LOCK & 1 == 1)
}
