//! What the kernel says meanwhile.
use anyhow::{Result, bail};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// Words of a kernel that is not well.
const COMPLAINTS: &[&str] = &[
    "BUG:",
    "WARNING:",
    "Oops",
    "general protection fault",
    "Call Trace",
    "stall",
    "soft lockup",
    "Illegal XDP return value",
    "invalid XDP",
    "KASAN",
    "UBSAN",
];

/// The log from now on.
pub(crate) struct KernelLog(File);

impl KernelLog {
    /// `None` where it may not be read.
    pub(crate) fn open() -> Option<Self> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg");
        let mut file = opened.ok()?;
        file.seek(SeekFrom::End(0)).ok()?;
        Some(Self(file))
    }

    /// Fails if the kernel complained. The answer is how many lines it wrote.
    pub(crate) fn check(&mut self) -> Result<usize> {
        let mut lines = 0;
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(0) => return Ok(lines),
                Ok(len) => {
                    lines += 1;
                    let text = String::from_utf8_lossy(&record[..len]);
                    if COMPLAINTS.iter().any(|word| text.contains(word)) {
                        bail!("the kernel complains: {text}");
                    }
                }
                // Overwritten before it was read: what comes next is read.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(lines),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
