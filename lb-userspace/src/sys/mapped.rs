//! An array map that this process can read without a system call for each element.
#![expect(unsafe_code, reason = "mmap(2), and memory that the kernel changes meanwhile")]

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// A map of 64-bit words with `BPF_F_MMAPABLE`, for reading only.
#[derive(Debug)]
pub struct Words {
    at: NonNull<u64>,
    bytes: NonZeroUsize,
}

// SAFETY: it owns the mapping, which any thread may read.
unsafe impl Send for Words {}

impl Words {
    /// Maps `words` of `map`, which has at least so many.
    pub fn map(map: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let bytes = NonZeroUsize::new(words * size_of::<u64>()).ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: no address is asked for, so nothing that is mapped is replaced; the kernel checks the rest.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes.get(),
                libc::PROT_READ,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let at = NonNull::new(at.cast()).ok_or(io::ErrorKind::Other)?;
        Ok(Self { at, bytes })
    }

    /// The words, each as it is when it is read.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let count = self.bytes.get() / size_of::<u64>();
        // SAFETY: the place is within the mapping, which lives as long as `self`, and aligned, since a page is. The
        // kernel's program stores whole words there, and a volatile load of an aligned word reads one whole.
        (0..count).map(|i| unsafe { self.at.as_ptr().add(i).read_volatile() })
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that was made, and no reference into it outlives `self`.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.bytes.get()) };
    }
}
