//! A place to pin things for a moment, that nobody else sees.
//!
//! A program that replaces another is to use its maps, and the loader takes a map from a path. So the maps are pinned on
//! a BPF filesystem that is mounted nowhere (`fsopen`, `fsmount`: kernel 5.2) and reached through its descriptor; it goes
//! when that is closed. Mounting needs CAP_SYS_ADMIN; without it, a folder of ours in `/sys/fs/bpf` does, removed when
//! it is no longer needed.
#![expect(
    unsafe_code,
    reason = "fsopen(2), fsconfig(2) and fsmount(2) have no safe wrapper"
)]

use std::ffi::{CStr, c_long};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where systemd, and most distributions without it, mount it.
const USUAL: &str = "/sys/fs/bpf";
/// `FSOPEN_CLOEXEC`, and `FSMOUNT_CLOEXEC` is the same.
const CLOEXEC: u32 = 1;
/// `FSCONFIG_CMD_CREATE`
const CREATE: u32 = 6;

/// Such a place.
#[derive(Debug)]
pub struct Pins {
    path: PathBuf,
    mounted: Option<OwnedFd>,
}

impl Pins {
    /// Makes one.
    pub fn new() -> io::Result<Self> {
        match detached() {
            Ok(mount) => Ok(Self {
                path: PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())),
                mounted: Some(mount),
            }),
            Err(error) => {
                tracing::debug!(%error, "no BPF filesystem of our own: using {USUAL}");
                let path = Path::new(USUAL).join(format!("cplb-{}", std::process::id()));
                match fs::create_dir(&path) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(io::Error::new(
                            e.kind(),
                            format!(
                                "there is no BPF filesystem to use: {USUAL} has none ({e}; `mount -t bpf bpf {USUAL}`), and \
                                 mounting one of our own is refused ({error}; CAP_SYS_ADMIN)"
                            ),
                        ));
                    }
                    Ok(()) | Err(_) => {}
                }
                Ok(Self { path, mounted: None })
            }
        }
    }

    /// Where a thing of that name is pinned. The filesystem takes no dots.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name.replace('.', "_"))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.mounted.is_none() {
            let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
            for entry in entries {
                let _ = fs::remove_file(entry.path());
            }
            if let Err(error) = fs::remove_dir(&self.path) {
                tracing::warn!(path = %self.path.display(), %error, "a folder of ours could not be removed");
            }
        }
    }
}

fn detached() -> io::Result<OwnedFd> {
    const BPF: &CStr = c"bpf";
    // SAFETY: fsopen(2) reads a string that ends with NUL.
    let filesystem = owned(unsafe { libc::syscall(libc::SYS_fsopen, BPF.as_ptr(), CLOEXEC) })?;
    // SAFETY: this command of fsconfig(2) takes neither key nor value.
    let made = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            filesystem.as_raw_fd(),
            CREATE,
            0_usize,
            0_usize,
            0,
        )
    };
    if made != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: fsmount(2) takes no pointer.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, filesystem.as_raw_fd(), CLOEXEC, 0) })
}

fn owned(answer: c_long) -> io::Result<OwnedFd> {
    match i32::try_from(answer) {
        // SAFETY: the system call that gave it made a new descriptor, which nobody else knows.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
