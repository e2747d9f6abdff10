//! Processes: notice the end of another, and be the last that the kernel kills for memory.
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// An operation on a process failed.
#[derive(Debug, thiserror::Error)]
#[error("{action}: {source}")]
pub struct ProcessError {
    action: String,
    #[source]
    source: io::Error,
}

impl ProcessError {
    fn new(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self {
            action: action.into(),
            source: source.into(),
        }
    }

    /// Whether the process is not there (any more).
    pub fn is_gone(&self) -> bool {
        self.source.raw_os_error() == Some(libc::ESRCH)
    }

    /// Whether the same call may succeed in a moment.
    pub fn is_transient(&self) -> bool {
        matches!(
            self.source.raw_os_error(),
            Some(libc::EINTR | libc::EAGAIN | libc::EMFILE | libc::ENFILE)
        )
    }
}

/// A descriptor of a process (`pidfd_open(2)`, kernel 5.3): it goes on naming that process and no later one of its number.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Of the process `pid`, a child or not. Close-on-exec.
    #[allow(unsafe_code, reason = "nix has no pidfd_open")]
    pub fn open(pid: Pid) -> Result<Self, ProcessError> {
        // SAFETY: the call takes two numbers; what it returns, unless negative, is a descriptor that nobody else has.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
        let action = || format!("opening process {pid}");
        let fd = Errno::result(fd).map_err(|e| ProcessError::new(action(), e))?;
        let fd = RawFd::try_from(fd).map_err(|e| ProcessError::new(action(), io::Error::other(e)))?;
        // SAFETY: as above: it was just opened, and this is its only owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Whether it has ended already. A zombie has.
    pub fn has_ended(&self) -> bool {
        let mut fds = [nix::poll::PollFd::new(
            self.0.as_fd(),
            nix::poll::PollFlags::POLLIN,
        )];
        matches!(nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO), Ok(n) if n > 0)
    }

    /// Waits until it has ended. Needs a tokio runtime with I/O; may be dropped at any time.
    #[allow(
        unsafe_code,
        reason = "registering a descriptor with tokio's reactor is unsafe"
    )]
    pub async fn ended(&self) -> Result<(), ProcessError> {
        let failed = |e: io::Error| ProcessError::new("waiting for the end of a process", e);
        // SAFETY: the borrow keeps the descriptor open until the registration is dropped at the end of this function.
        let fd = unsafe { AsyncFd::register_with_interest(self.0.as_fd(), Interest::READABLE) };
        let fd = fd.map_err(|e| failed(e.into()))?;
        let _ready = fd.readable().await.map_err(failed)?;
        Ok(())
    }

    /// Sends it a signal; never to another process that has its number by now (`pidfd_send_signal(2)`, kernel 5.1).
    #[allow(unsafe_code, reason = "nix has no pidfd_send_signal")]
    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let no_info = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open as long as self is, and a null siginfo means that of kill(2).
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal as libc::c_int,
                no_info,
                0,
            )
        };
        match Errno::result(sent) {
            Ok(_) => Ok(()),
            Err(e) => Err(ProcessError::new(format!("sending {signal} to a process"), e)),
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// How ready the kernel is to kill this process for memory: -1000 never, 1000 first. Lowering it needs CAP_SYS_RESOURCE.
/// Children inherit it.
pub fn set_oom_score_adj(adjustment: i16) -> Result<(), ProcessError> {
    fs::write("/proc/self/oom_score_adj", adjustment.to_string())
        .map_err(|e| ProcessError::new(format!("setting oom_score_adj to {adjustment}"), e))
}

/// Has the kernel send this process `signal` when the *thread* that started it ends (`PR_SET_PDEATHSIG`). Where that
/// thread has ended before this call, nothing comes: compare the parent's id afterwards.
pub fn set_parent_death_signal(signal: Signal) -> Result<(), ProcessError> {
    nix::sys::prctl::set_pdeathsig(signal)
        .map_err(|e| ProcessError::new("setting the signal at the parent's death", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn child() -> std::process::Child {
        Command::new("sleep").arg("60").spawn().unwrap()
    }

    fn pid(child: &std::process::Child) -> Pid {
        Pid::from_raw(child.id().cast_signed())
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_seen_before_it_is_reaped() {
        let mut child = child();
        let fd = PidFd::open(pid(&child)).unwrap();
        assert!(!fd.has_ended());
        let waiting = tokio::time::timeout(std::time::Duration::from_millis(50), fd.ended()).await;
        assert!(waiting.is_err());
        fd.signal(Signal::SIGKILL).unwrap();
        fd.ended().await.unwrap();
        assert!(fd.has_ended());
        child.wait().unwrap();
        assert!(fd.signal(Signal::SIGTERM).unwrap_err().is_gone());
    }

    #[test]
    fn a_process_that_is_not_there_is_said_to_be_gone() {
        let mut child = child();
        child.kill().unwrap();
        let pid = pid(&child);
        child.wait().unwrap();
        assert!(PidFd::open(pid).unwrap_err().is_gone());
    }

    #[test]
    fn the_score_may_be_raised_by_anybody() {
        let before = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
        let before: i16 = before.trim().parse().unwrap();
        set_oom_score_adj(before).unwrap();
    }
}
