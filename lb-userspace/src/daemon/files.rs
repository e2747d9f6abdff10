//! Notices that the file changed.
//!
//! By looking twice a second, not by inotify: a ConfigMap is a symbolic link to a directory that is swapped, an editor
//! writes another file and renames it, and both end one watch and need another.
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

/// One file.
pub struct Watcher {
    path: PathBuf,
    seen: Option<u64>,
    next: Option<u64>,
}

impl Watcher {
    /// As it is now.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            seen: fingerprint(path),
            next: None,
        }
    }

    /// Whether its content is another than at the last [`Self::note`], twice in a row: half a write is no change. A
    /// file that is gone is no change either: what is in force stays.
    pub fn changed(&mut self) -> bool {
        let Some(now) = fingerprint(&self.path) else {
            return false;
        };
        let settled = self.next == Some(now);
        self.next = Some(now);
        settled && self.seen != Some(now)
    }

    /// What is there now has been read.
    pub fn note(&mut self) {
        self.seen = fingerprint(&self.path);
        self.next = self.seen;
    }
}

fn fingerprint(path: &Path) -> Option<u64> {
    let bytes = std::fs::read(path).ok()?;
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_change_is_told_once_and_a_missing_file_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k0s.yaml");
        std::fs::write(&path, "a").unwrap();
        let mut watcher = Watcher::new(&path);
        assert!(!watcher.changed());
        std::fs::write(&path, "b").unwrap();
        assert!(!watcher.changed(), "it may be half a write");
        assert!(watcher.changed());
        watcher.note();
        assert!(!watcher.changed());
        std::fs::remove_file(&path).unwrap();
        assert!(!watcher.changed() && !watcher.changed());
    }
}
