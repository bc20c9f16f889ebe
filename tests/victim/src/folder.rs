//! A directory of a round's own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Below `parent`, which everybody can enter if that can be brought about: some victims are other users.
    pub fn below(parent: &Path) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let path = parent.join(format!("torture-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Below the system's directory for such things.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The spool's root, which is not there yet.
    pub fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }

    /// Every file below the spool's root.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = everything_below(&self.spool());
        files.retain(|path| path.symlink_metadata().is_ok_and(|metadata| !metadata.is_dir()));
        files
    }

    /// Files whose name ends like this.
    pub fn files_with(&self, extension: &str) -> Vec<PathBuf> {
        self.files().into_iter().filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
    }

    /// What of the spool's files and directories somebody else could read. The root itself is as its maker made it.
    pub fn readable_by_others(&self) -> Vec<PathBuf> {
        let mut open = everything_below(&self.spool());
        open.retain(|path| path.symlink_metadata().is_ok_and(|metadata| metadata.mode() & 0o077 != 0));
        open
    }

    /// What the files take on the disk, in bytes.
    pub fn disk_bytes(&self) -> u64 {
        self.files()
            .iter()
            .filter_map(|path| path.symlink_metadata().ok())
            .map(|metadata| metadata.blocks() * 512)
            .sum()
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Files and directories. What vanishes meanwhile is not there.
fn everything_below(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(everything_below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}
