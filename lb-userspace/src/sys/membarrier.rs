//! Waiting until no processor reads what was taken out of use.
#![expect(unsafe_code, reason = "membarrier(2) has no safe wrapper")]

use std::io;

/// `MEMBARRIER_CMD_GLOBAL`
const GLOBAL: i32 = 1;

/// Returns when every processor has been through a point where it ran no BPF program that had begun before the call:
/// the command is `synchronize_rcu()` (`kernel/sched/membarrier.c`), and programs run in a read-side section. Tens of
/// milliseconds. EINVAL on a kernel with isolated processors (`nohz_full`), ENOSYS without the system call.
pub fn wait_for_readers() -> io::Result<()> {
    // SAFETY: it takes no pointer and changes nothing of ours.
    match unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
