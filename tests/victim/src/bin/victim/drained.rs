//! Whether a recovery has come to its end.

use quillet::{Client, Durability};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What files of the spool that hold events are called.
const EXTENSIONS: [&str; 2] = ["ring", "seg"];

/// What was in the spool before this process came.
#[derive(Debug)]
pub struct Found {
    root: Option<PathBuf>,
    before: BTreeSet<PathBuf>,
}

impl Found {
    /// Looks into the directory. To be called before a client is built on it.
    pub fn below(root: Option<&Path>) -> Self {
        let root = root.map(|root| root.join("posthog").join("v1"));
        let before = root.iter().flat_map(|root| folders_below(root)).flatten().collect();
        Self { root, before }
    }

    /// Whether there is nothing left to deliver: nothing is pending, and no file of our host and key but our own is there.
    ///
    /// A client that is in memory only has found nothing, and is done.
    pub fn is_drained(&self, clients: &[Client]) -> bool {
        let is_quiet = clients.iter().all(|client| client.stats().pending == 0);
        let is_spooling = clients.iter().any(|client| client.durability() != Durability::Memory);
        is_quiet && !(is_spooling && self.root.iter().any(|root| self.is_anything_left(root)))
    }

    /// NB: only names are looked at. Were a file opened here, closing it would give up the lock that the client has on it.
    ///
    /// A file's name ends in the process, `-<pid>-<random>.ring`, and those of one host and key share a folder. In a
    /// container every start may be the same process number: what was there before is never our own.
    fn is_anything_left(&self, root: &Path) -> bool {
        let number = format!("-{}-", std::process::id());
        let is_own = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().contains(&number)) && !self.before.contains(path)
        };
        let folders = folders_below(root);
        let mut ours = folders.iter().filter(|files| files.iter().any(is_own));
        ours.any(|files| files.iter().any(|path| !is_own(path)))
    }
}

fn folders_below(path: &Path) -> Vec<Vec<PathBuf>> {
    let folders = fs::read_dir(path).into_iter().flatten().flatten();
    folders.map(|folder| spool_files(&folder.path())).collect()
}

fn spool_files(folder: &Path) -> Vec<PathBuf> {
    let is_spool =
        |path: &PathBuf| path.extension().is_some_and(|found| EXTENSIONS.iter().any(|known| found == *known));
    fs::read_dir(folder).into_iter().flatten().flatten().map(|file| file.path()).filter(is_spool).collect()
}
