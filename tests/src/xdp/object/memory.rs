//! A map of 64-bit words, shared with the program by `mmap`, as the daemon shares it.
use anyhow::{Context, Result, bail};
use aya::maps::Map;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};

/// The words of an array map.
pub struct Words {
    start: ptr::NonNull<AtomicU64>,
    len: usize,
}

#[expect(unsafe_code, reason = "a pointer is not Send by itself")]
// SAFETY: the mapping belongs to this value alone, and what is behind it is only read and written atomically.
unsafe impl Send for Words {}

impl Words {
    /// Maps an array map that was made with `BPF_F_MMAPABLE` and holds `len` words.
    pub(super) fn map(map: &Map, len: usize) -> Result<Self> {
        let Map::Array(data) = map else {
            bail!("no array: {map:?}")
        };
        let fd = data.fd().as_fd();
        #[expect(unsafe_code, reason = "mmap")]
        // SAFETY: a new mapping, at an address that the kernel chooses, of a descriptor that is open.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len * 8,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("mmap of a map");
        }
        let start = ptr::NonNull::new(start.cast()).context("mmap gave nothing")?;
        Ok(Self { start, len })
    }

    fn words(&self) -> &[AtomicU64] {
        #[expect(unsafe_code, reason = "the mapping as a slice")]
        // SAFETY: `len` words are mapped, page aligned, until this value is dropped; the kernel writes whole words.
        unsafe {
            slice::from_raw_parts(self.start.as_ptr(), self.len)
        }
    }

    /// The word at a place.
    pub fn get(&self, at: usize) -> u64 {
        self.words()[at].load(Ordering::Relaxed)
    }

    /// Writes the word at a place.
    pub fn set(&self, at: usize, word: u64) {
        self.words()[at].store(word, Ordering::Relaxed);
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = u64> {
        self.words().iter().map(|word| word.load(Ordering::Relaxed))
    }

    /// Writes 0 everywhere.
    pub fn clear(&self) {
        for word in self.words() {
            if word.load(Ordering::Relaxed) != 0 {
                word.store(0, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "munmap")]
        // SAFETY: what was mapped, once; nothing borrows it any more.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len * 8) };
    }
}
