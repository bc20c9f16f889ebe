//! Crash files of dead processes: found, read, removed.
//!
//! In: a directory with files of living and of dead processes. Out: frames, for the recovery that sends them, with a word
//! to be said when the server has answered for all of them: then the file goes. A death before that sends all of it again,
//! the same bytes. Whatever is found is read as if an enemy had written it.

use std::fs::read_dir;
use std::path::{Path, PathBuf};

use quillet_core::CrashFile;

use super::CrashOptions;
use super::file::{PREFIX, SUFFIX};
use super::slots::SLOTS_BYTES;
use crate::spool::{Answered, Claim};

/// Longest file that is read. A client with larger queues than that needs a spool.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Most files kept, those of living processes included. A program that crashes again and again, and whose events cannot
/// be delivered, loses the oldest.
const FILES_MAX: usize = 32;

/// Where crash files are looked for.
pub(crate) struct Leftovers {
    dir: PathBuf,
    owner: u128,
}

impl Leftovers {
    /// Those in the directory of the options, as far as they are `owner`'s. `None` if there is no directory.
    pub(crate) fn of(options: &CrashOptions, owner: u128) -> Option<Self> {
        Some(Self { dir: options.dir.clone()?, owner })
    }

    /// What every file holds whose process is gone, and how many events were in those that are too many. Each file stays
    /// claimed until it was answered for, or forgotten.
    pub(crate) fn take(&self) -> (Vec<(Vec<u8>, Answered)>, u64) {
        let files = self.files();
        let (oldest, kept) = files.split_at(files.len().saturating_sub(FILES_MAX));
        let mut removed = 0u64;
        for (frames, answered) in oldest.iter().filter_map(|path| self.load(path)) {
            removed = removed.wrapping_add(frames.iter().filter(|byte| **byte == b'\n').count() as u64);
            answered();
        }
        (kept.iter().filter_map(|path| self.load(path)).collect(), removed)
    }

    /// Removes every file of ours that no living process has.
    pub(crate) fn erase(&self) {
        for path in self.files() {
            if let Ok(Some(claim)) = Claim::adopt(&path) {
                let bytes = read(&claim).unwrap_or_default();
                if CrashFile::parse(&bytes).is_none_or(|file| file.owner() == self.owner) {
                    claim.unlink();
                }
            }
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = read_dir(&self.dir) else { return Vec::new() };
        let is_ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(PREFIX) && name.ends_with(SUFFIX)
        };
        let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_ours).collect();
        // Their names begin with the time at which they were made.
        files.sort();
        files
    }

    fn load(&self, path: &Path) -> Option<(Vec<u8>, Answered)> {
        let mut claim = Claim::adopt(path).ok().flatten()?;
        let Some(bytes) = read(&claim) else {
            put_aside(&mut claim);
            return None;
        };
        let file = CrashFile::parse(&bytes);
        match &file {
            // Made in advance and never needed, by a process that did not get to removing it.
            None if bytes.is_empty() => claim.unlink(),
            None => put_aside(&mut claim),
            Some(file) if file.owner() == self.owner => {
                let mut pages = [0; SLOTS_BYTES];
                let len = file.pages(&mut pages);
                let signal = super::crash_frame(pages.get(..len)?, (file.common(), file.person()), false);
                let mut frames = signal.unwrap_or_default();
                for frame in file.frames() {
                    frames.extend_from_slice(frame.as_bytes());
                    frames.extend_from_slice(b",\n");
                }
                if !frames.is_empty() {
                    return Some((frames, Box::new(move || claim.unlink())));
                }
                claim.unlink();
            }
            // Another project's: whoever wrote it may come for it.
            Some(_) => {}
        }
        None
    }
}

/// All of the file; `None` if it cannot be read or is too long.
fn read(claim: &Claim) -> Option<Vec<u8>> {
    let len = claim.metadata().ok()?.len();
    if len > FILE_BYTES_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    let len = usize::try_from(len).ok()?;
    bytes.try_reserve_exact(len).ok()?;
    bytes.resize(len, 0);
    claim.read(&mut bytes, 0).ok()?;
    Some(bytes)
}

/// Out of the way of later starts, and there for whoever wants to know.
fn put_aside(claim: &mut Claim) {
    if claim.rename(claim.path().with_extension("bad")).is_err() {
        claim.unlink();
    }
}
