//! The directory of one running daemon: its lock, its socket, and the journal of what it changed.
//!
//! `lock` is held by the daemon and, through inheritance, by its guardian: while either lives, a second daemon on this
//! directory waits, and `cplb cleanup` refuses.
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where it is unless told otherwise.
pub const DEFAULT: &str = "/run/cplb";

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// It cannot be made or written.
    #[error(
        "the run directory {path} cannot be used (it holds the lock, the socket and the journal; --run-dir names another)"
    )]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else is there.
    #[error("another cplb{} runs or is still leaving on {path}: stop it, or wait until it has left; --run-dir names another directory", owner_text(.owner))]
    Locked {
        /// Which.
        path: PathBuf,
        /// Its process id as it wrote it.
        owner: Option<String>,
    },
}

fn owner_text(owner: &Option<String>) -> String {
    owner
        .as_ref()
        .map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

/// The locked directory.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Given up by closing it, and never by unlocking: that would take it from those who share it.
    lock: File,
}

impl RunDir {
    /// Makes and locks it; while it is locked by somebody else, tries for `patience`.
    pub fn open(path: &Path, patience: Duration) -> Result<Self, RunDirError> {
        let unusable = |source| RunDirError::Unusable {
            path: path.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(unusable)?;
        let deadline = crate::clock::now() + patience;
        let mut said = false;
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(path.join("lock"))
                .map_err(unusable)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {
                    write_pid(&file).map_err(unusable)?;
                    return Ok(Self {
                        path: path.to_owned(),
                        lock: file,
                    });
                }
                Err(_) if crate::clock::now() >= deadline => {
                    let mut owner = String::new();
                    let _ = file.read_to_string(&mut owner);
                    let owner = Some(owner.trim().to_owned()).filter(|o| !o.is_empty());
                    return Err(RunDirError::Locked {
                        path: path.to_owned(),
                        owner,
                    });
                }
                Err(_) => {
                    if !said {
                        tracing::info!(path = %path.display(), "waiting for the cplb before this one to finish leaving");
                        said = true;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    /// With a lock that was inherited as `file`.
    pub fn inherited(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            lock: file,
        }
    }

    /// Writes this process into the lock: the guardian, once it has taken over.
    pub fn sign(&self) {
        if let Err(error) = write_pid(&self.lock) {
            tracing::debug!(%error, "the run directory's lock cannot be written");
        }
    }

    /// The open lock, for a child to inherit.
    pub fn lock_file(&self) -> &File {
        &self.lock
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The journal's file.
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal.json")
    }

    /// The daemon's socket.
    pub fn socket(&self) -> PathBuf {
        socket_in(&self.path)
    }
}

/// The daemon's socket in `run_dir`.
pub fn socket_in(run_dir: &Path) -> PathBuf {
    run_dir.join("cplb.sock")
}

fn write_pid(mut file: &File) -> io::Result<()> {
    use std::io::Seek;
    file.set_len(0)?;
    file.seek(io::SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_with_the_process_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunDir::open(dir.path(), Duration::ZERO).unwrap();
        let error = RunDir::open(dir.path(), Duration::ZERO).unwrap_err().to_string();
        assert!(
            error.contains(&format!("(process {})", std::process::id())),
            "{error}"
        );
        drop(first);
        assert!(RunDir::open(dir.path(), Duration::ZERO).is_ok());
    }
}
