//! A writer of `newc` archives, which is what the kernel takes as an initramfs.
//!
//! Left uncompressed on purpose: under emulation, unpacking costs far more than reading.
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::io::Write;

const DIRECTORY: u32 = 0o040_755;
const SYMLINK: u32 = 0o120_777;
const CONSOLE: u32 = 0o020_600;

/// An archive under way. Parents are made as needed; a path that was written already is left as it is.
pub(crate) struct Archive<W: Write> {
    out: W,
    inode: u32,
    seen: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            inode: 0,
            seen: BTreeSet::new(),
        }
    }

    /// A directory and those above it. Paths are absolute.
    pub(crate) fn directory(&mut self, path: &str) -> Result<()> {
        let path = path.trim_matches('/');
        if path.is_empty() || self.seen.contains(path) {
            return Ok(());
        }
        self.parents(path)?;
        self.entry(path, DIRECTORY, (0, 0), &[])
    }

    /// A file. `mode` are its permissions.
    pub(crate) fn file(&mut self, path: &str, mode: u32, data: &[u8]) -> Result<()> {
        let path = path.trim_matches('/');
        self.parents(path)?;
        self.entry(path, 0o100_000 | mode, (0, 0), data)
    }

    /// A symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, to: &str) -> Result<()> {
        let path = path.trim_matches('/');
        self.parents(path)?;
        self.entry(path, SYMLINK, (0, 0), to.as_bytes())
    }

    /// `/dev/console`, which the kernel opens before init can mount anything.
    pub(crate) fn console(&mut self) -> Result<()> {
        self.directory("/dev")?;
        self.entry("dev/console", CONSOLE, (5, 1), &[])
    }

    /// Writes the end and hands the writer back.
    pub(crate) fn finish(mut self) -> Result<W> {
        self.header("TRAILER!!!", 0, (0, 0), 0)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        path.rsplit_once('/')
            .map_or(Ok(()), |(parent, _)| self.directory(parent))
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), data: &[u8]) -> Result<()> {
        if !self.seen.insert(path.to_owned()) {
            return Ok(());
        }
        self.header(path, mode, device, data.len())?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    fn header(&mut self, path: &str, mode: u32, device: (u32, u32), size: usize) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(size).context("a file of 4 GB does not fit into an initramfs")?;
        let name = u32::try_from(path.len() + 1)?;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        let fields = [
            self.inode, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name, 0,
        ];
        self.out.write_all(b"070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(path.as_bytes())?;
        self.out.write_all(b"\0")?;
        self.pad(6 + 13 * 8 + path.len() + 1)
    }

    /// Header with name, and data, each end on a multiple of four.
    fn pad(&mut self, len: usize) -> Result<()> {
        Ok(self.out.write_all(&[0; 3][..len.next_multiple_of(4) - len])?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_aligned_and_ends_with_the_trailer() {
        let mut archive = Archive::new(Vec::new());
        archive.file("/etc/a", 0o644, b"hello").unwrap();
        archive.file("/etc/a", 0o644, b"not written twice").unwrap();
        archive.symlink("/bin", "usr/bin").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(
            text.matches("070701").count(),
            4,
            "etc, etc/a, bin and the trailer"
        );
        assert!(text.contains("TRAILER!!!") && text.contains("hello") && !text.contains("twice"));
    }
}
