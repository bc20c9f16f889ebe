//! Crash files of dead processes: found, read, removed.
//!
//! In: a directory with files of living and of dead processes, of this project and of others. Out: frames, for the recovery
//! that sends them, with a word to be said when the server has answered for all of them: then the file goes. A death before
//! that sends all of it again, the same bytes. Whatever is found is read as if an enemy had written it.
//!
//! ```text
//!  look ──▶ a living process's, in memory already ──▶ left alone
//!   │  ├──▶ another project's or version's ─────────▶ left alone until it is too old
//!   │  ├──▶ empty, and not just made ───────────────▶ removed
//!   │  ├──▶ no crash file ──────────────────────────▶ put aside; the last few are kept, until they are too old
//!   │  └──▶ ours
//!   ▼
//!  retain ──▶ too old, too many, too much: removed, the oldest first, and counted
//!   ▼
//!  load ───▶ a few at a time, the oldest first; the others at the next look
//! ```

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use core::time::Duration;
use std::fs::{Metadata, read_dir};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quillet_core::{CrashFile, CrashKind, Timestamp};

use super::CrashOptions;
use super::file::{PREFIX, SUFFIX};
use super::slots::SLOTS_BYTES;
use crate::spool::{Answered, Claim};
use crate::sys::WallClock;

/// Longest file that is read, in bytes. A client with larger queues than that needs a spool.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Most files kept of this project's dead processes. A program that crashes again and again, and whose events cannot be
/// delivered, loses the oldest.
const FILES_MAX: usize = 32;

/// Most bytes kept in them. The newest file is kept whatever its length.
const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How long a file waits, from the last time that something was written into it.
const AGE_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Files kept that could not be read, for whoever wants to look into it.
const BAD_FILES_MAX: usize = 3;

/// What those are called.
const BAD_SUFFIX: &str = ".bad";

/// How old an empty file that nobody has a lock on must be before it counts as one that was left behind. Its owner takes the
/// lock in the moment after making it.
const UNFINISHED_AGE: Duration = Duration::from_secs(2);

/// Files whose events are in memory at the same time, and their bytes; a single file may be longer.
const LOADED_FILES_MAX: usize = 16;
const LOADED_BYTES_MAX: u64 = 8 * 1024 * 1024;

const _: () = assert!(LOADED_FILES_MAX < FILES_MAX, "or no room would be left for the newest");

/// Where crash files are looked for.
pub(crate) struct Leftovers {
    dir: PathBuf,
    owner: u128,
    loaded: Arc<Loaded>,
}

/// What was read and is not answered for.
#[derive(Default)]
struct Loaded {
    files: AtomicUsize,
    bytes: AtomicU64,
}

/// A file of ours that nobody has.
struct Found {
    path: PathBuf,
    bytes: u64,
    written: Timestamp,
}

impl Leftovers {
    /// Those in the directory of the options, as far as they are `owner`'s. `None` if there is no directory.
    pub(crate) fn of(options: &CrashOptions, owner: u128) -> Option<Self> {
        Some(Self { dir: options.dir.clone()?, owner, loaded: Arc::default() })
    }

    /// What files hold whose processes are gone, the oldest first and as many as may be in memory; and how many events were
    /// in those that are too old or too many. Each file stays claimed until it was answered for, or forgotten.
    pub(crate) fn take(&self) -> (Vec<(Vec<u8>, Answered)>, u64) {
        self.take_at(WallClock.now())
    }

    fn take_at(&self, now: Timestamp) -> (Vec<(Vec<u8>, Answered)>, u64) {
        let mut ours = self.look(now);
        self.trim_bad(now);
        let kept = ours.split_off(self.surplus(&ours, now));
        let removed = ours.iter().fold(0u64, |sum, old| sum.wrapping_add(self.remove(&old.path)));
        let mut taken = Vec::new();
        for found in kept {
            // What is newer waits too, or the oldest would for ever.
            if !self.loaded.has_room(found.bytes) {
                break;
            }
            taken.extend(self.load(&found));
        }
        (taken, removed)
    }

    /// Overwrites and removes every file that no living process has and that is not another project's, those put aside too.
    pub(crate) fn erase(&self) {
        for path in self.paths(SUFFIX).into_iter().chain(self.paths(BAD_SUFFIX)) {
            let Ok(Some(claim)) = Claim::adopt(&path) else { continue };
            let is_theirs = match kind(&claim) {
                Some(CrashKind::Owned(owner)) => owner != self.owner,
                // Nobody can say whose it is.
                Some(CrashKind::Foreign) => true,
                _ => false,
            };
            if !is_theirs {
                zero(&claim);
                claim.unlink();
            }
        }
    }

    /// This project's files that nobody has, the oldest first. Deals with all others.
    fn look(&self, now: Timestamp) -> Vec<Found> {
        let mut ours: Vec<_> = self.paths(SUFFIX).into_iter().filter_map(|path| self.examine(path, now)).collect();
        ours.sort_by(|a, b| (a.written, &a.path).cmp(&(b.written, &b.path)));
        ours
    }

    fn examine(&self, path: PathBuf, now: Timestamp) -> Option<Found> {
        let mut claim = Claim::adopt(&path).ok().flatten()?;
        let metadata = claim.metadata().ok()?;
        let (bytes, written) = (metadata.len(), written(&metadata));
        if bytes == 0 {
            // Made in advance and never needed, by a process that did not get to removing it.
            if is_older(written, UNFINISHED_AGE, now) {
                claim.unlink();
            }
            return None;
        }
        match kind(&claim)? {
            CrashKind::Owned(owner) if owner == self.owner && bytes <= FILE_BYTES_MAX => {
                Some(Found { path, bytes, written })
            }
            CrashKind::Owned(owner) if owner == self.owner => {
                put_aside(&mut claim);
                None
            }
            CrashKind::Damaged => {
                put_aside(&mut claim);
                None
            }
            // Another project's, another version's: whoever wrote it may come for it. Its age decides.
            _ => {
                if is_older(written, AGE_MAX, now) {
                    claim.unlink();
                }
                None
            }
        }
    }

    /// How many of the oldest have to go.
    fn surplus(&self, ours: &[Found], now: Timestamp) -> usize {
        let mut files = self.loaded.files.load(Ordering::Relaxed);
        let mut bytes = self.loaded.bytes.load(Ordering::Relaxed);
        let mut is_newest = true;
        let stays = |found: &&Found| {
            files = files.saturating_add(1);
            bytes = bytes.saturating_add(found.bytes);
            let fits = core::mem::take(&mut is_newest) || (files <= FILES_MAX && bytes <= BYTES_MAX);
            fits && !is_older(found.written, AGE_MAX, now)
        };
        ours.len() - ours.iter().rev().take_while(stays).count()
    }

    /// Removes a file of ours. How many events were in it.
    fn remove(&self, path: &Path) -> u64 {
        let Ok(Some(claim)) = Claim::adopt(path) else { return 0 };
        let events = self.frames(&claim).map_or(0, |frames| frames.iter().filter(|byte| **byte == b'\n').count());
        claim.unlink();
        events as u64
    }

    fn load(&self, found: &Found) -> Option<(Vec<u8>, Answered)> {
        let mut claim = Claim::adopt(&found.path).ok().flatten()?;
        let Some(frames) = self.frames(&claim) else {
            put_aside(&mut claim);
            return None;
        };
        if frames.is_empty() {
            claim.unlink();
            return None;
        }
        let loan = Loan::new(claim, found.bytes, &self.loaded);
        Some((frames, Box::new(move || loan.claim.unlink())))
    }

    /// Every event of a file, the one that its signal makes first. `None` if it cannot be read or is no crash file of ours.
    fn frames(&self, claim: &Claim) -> Option<Vec<u8>> {
        let bytes = read(claim)?;
        let file = CrashFile::parse(&bytes).filter(|file| file.owner() == self.owner)?;
        let mut pages = [0; SLOTS_BYTES];
        let len = file.pages(&mut pages);
        let signal = super::crash_frame(pages.get(..len)?, (file.common(), file.person()), false);
        let mut frames = signal.unwrap_or_default();
        // No frame is longer than its line.
        frames.try_reserve_exact(bytes.len()).ok()?;
        for frame in file.frames() {
            frames.extend_from_slice(frame.as_bytes());
            frames.extend_from_slice(b",\n");
        }
        Some(frames)
    }

    /// Of the files that were put aside, removes those that are too old or too many.
    fn trim_bad(&self, now: Timestamp) {
        let modified = |path: PathBuf| {
            let metadata = path.symlink_metadata().ok().filter(Metadata::is_file)?;
            Some((written(&metadata), path))
        };
        let mut bad: Vec<_> = self.paths(BAD_SUFFIX).into_iter().filter_map(modified).collect();
        bad.sort();
        for (at, (written, path)) in bad.iter().rev().enumerate() {
            if at >= BAD_FILES_MAX || is_older(*written, AGE_MAX, now) {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// What is in the directory under such a name.
    fn paths(&self, suffix: &str) -> Vec<PathBuf> {
        let Ok(entries) = read_dir(&self.dir) else { return Vec::new() };
        let is_one = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(PREFIX) && name.ends_with(suffix)
        };
        entries.flatten().map(|entry| entry.path()).filter(is_one).collect()
    }
}

impl Loaded {
    /// Whether so many bytes more may be read. One file always may.
    fn has_room(&self, bytes: u64) -> bool {
        let (files, loaded) = (self.files.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        files == 0 || (files < LOADED_FILES_MAX && loaded.saturating_add(bytes) <= LOADED_BYTES_MAX)
    }
}

/// A file whose events are in memory.
struct Loan {
    claim: Claim,
    bytes: u64,
    loaded: Arc<Loaded>,
}

impl Loan {
    fn new(claim: Claim, bytes: u64, loaded: &Arc<Loaded>) -> Self {
        loaded.files.fetch_add(1, Ordering::Relaxed);
        loaded.bytes.fetch_add(bytes, Ordering::Relaxed);
        Self { claim, bytes, loaded: Arc::clone(loaded) }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.loaded.files.fetch_sub(1, Ordering::Relaxed);
        self.loaded.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// When something was written into the file for the last time. Its name only says when its process began.
fn written(metadata: &Metadata) -> Timestamp {
    let seconds = u64::try_from(metadata.mtime()).unwrap_or(0);
    let micros = u64::try_from(metadata.mtime_nsec()).unwrap_or(0) / 1_000;
    Timestamp::from_unix_micros(seconds.saturating_mul(1_000_000).saturating_add(micros))
}

fn is_older(written: Timestamp, age: Duration, now: Timestamp) -> bool {
    Duration::from_micros(now.as_unix_micros().saturating_sub(written.as_unix_micros())) > age
}

/// What the first bytes of the file say; `None` if it cannot be read.
fn kind(claim: &Claim) -> Option<CrashKind> {
    let mut bytes = [0; CrashFile::PEEK_BYTES];
    let len = usize::try_from(claim.metadata().ok()?.len()).unwrap_or(usize::MAX).min(bytes.len());
    let bytes = bytes.get_mut(..len)?;
    claim.read(bytes, 0).ok()?;
    Some(CrashFile::peek(bytes))
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
    if claim.rename(claim.path().with_extension(BAD_SUFFIX.trim_start_matches('.'))).is_err() {
        claim.unlink();
    }
}

/// Overwrites everything in the file.
fn zero(claim: &Claim) {
    const ZEROS: &[u8] = &[0; 64 * 1024];
    let len = claim.metadata().map_or(0, |metadata| usize::try_from(metadata.len()).unwrap_or(0));
    for at in (0..len).step_by(ZEROS.len()) {
        let _ = claim.write(ZEROS.get(..len - at).unwrap_or(ZEROS), at);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;
    use quillet_core::{Common, CrashHead, Event, Property, Stamper};
    use std::fs::File;
    use std::time::{Duration as Age, SystemTime, UNIX_EPOCH};

    const OURS: u128 = 7;

    /// A directory of a test's own, and who looks through it.
    struct Place(Leftovers);

    impl Place {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("quillet-leftover-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(Leftovers { dir, owner: OURS, loaded: Arc::default() })
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.dir.join(format!("{PREFIX}{name}"))
        }

        /// A file with these bytes, last written so long ago.
        fn put(&self, name: &str, bytes: &[u8], age: Age) -> PathBuf {
            let path = self.path(name);
            std::fs::write(&path, bytes).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(now() - age).unwrap();
            path
        }

        fn names(&self) -> Vec<String> {
            let entries = read_dir(&self.0.dir).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<_> = entries.map(|name| name.to_str().unwrap()[PREFIX.len()..].to_owned()).collect();
            names.sort();
            names
        }

        fn take(&self) -> (Vec<(Vec<u8>, Answered)>, u64) {
            let since = now().duration_since(UNIX_EPOCH).unwrap();
            self.0.take_at(Timestamp::from_unix_micros(since.as_micros() as u64))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0.dir);
        }
    }

    /// One moment for all tests, so that ages are exact.
    fn now() -> SystemTime {
        UNIX_EPOCH + Age::from_secs(1_795_000_000)
    }

    const MINUTE: Age = Age::from_secs(60);

    /// A crash file of so many events, whose texts are so long.
    fn file(owner: u128, events: usize, text: usize) -> Vec<u8> {
        let common = Common::default();
        let mut file = vec![0; CrashHead::bytes_for("", &common)];
        let head = CrashHead::render(&mut file, owner, "", &common).unwrap();
        let (mut out, text) = (vec![0; text + 512], "x".repeat(text));
        let properties = [Property::new("text", text.as_str())];
        let event = Event::new("before the end", "somebody").properties(&properties);
        let len = event.encode(&mut Stamper::new([1, 2]), &common, Timestamp::from_unix_ms(1), &mut out).unwrap().len;
        for _ in 0..events {
            file.extend_from_slice(&out[..len]);
            file.extend_from_slice(b",\n");
        }
        let total = file.len();
        head.set_total(&mut file, total);
        file
    }

    #[test]
    fn files_of_others_and_of_living_processes_do_not_count() {
        let place = Place::new("others");
        let ours = place.put("a.jsonl", &file(OURS, 1, 1), 10 * MINUTE);
        let living: Vec<_> = (0..FILES_MAX)
            .map(|n| {
                place.put(&format!("other-{n:02}.jsonl"), &file(8, 1, 1), MINUTE);
                Claim::create(&place.path(&format!("living-{n:02}.jsonl"))).unwrap()
            })
            .collect();
        place.put("later.jsonl", b"{\"quillet_crash\":2,\"says\":\"who knows\"}\n", MINUTE);
        let (taken, removed) = place.take();
        assert_eq!((taken.len(), removed), (1, 0));
        for (frames, answered) in taken {
            assert!(frames.ends_with(b"},\n") && frames.iter().filter(|byte| **byte == b'\n').count() == 1);
            answered();
        }
        assert!(!ours.exists());
        assert_eq!(place.names().len(), 2 * FILES_MAX + 1, "nobody else's went: {:?}", place.names());
        drop(living);
    }

    #[test]
    fn too_old_too_many_and_too_much_go_and_are_counted() {
        let place = Place::new("limits");
        let old = AGE_MAX + Age::from_secs(1);
        place.put("0.jsonl", &file(OURS, 1, 1), old);
        place.put("other.jsonl", &file(8, 1, 1), old);
        place.put("later.jsonl", b"{\"quillet_crash\":2}\n", old);
        // A name tells nothing: a process that lived for a year was killed just now.
        let long_lived = place.put("00000000.jsonl", &file(OURS, 1, 1), Age::ZERO);
        for n in 0..FILES_MAX {
            place.put(&format!("{n:02}-new.jsonl"), &file(OURS, 1, 1), 2 * MINUTE - Age::from_secs(n as u64));
        }
        let (taken, removed) = place.take();
        assert_eq!((taken.len(), removed), (LOADED_FILES_MAX, 2), "the old one, and the oldest of those too many");
        assert!(long_lived.exists() && !place.path("00-new.jsonl").exists() && !place.path("other.jsonl").exists());
        assert_eq!(place.names().len(), FILES_MAX);
        // One that alone is more than all may be is kept, and nothing besides it.
        drop(taken);
        let large = [&file(OURS, 1, 1)[..], &vec![b' '; BYTES_MAX as usize]].concat();
        place.put("large.jsonl", &large, Age::ZERO);
        std::fs::remove_file(long_lived).unwrap();
        let (taken, removed) = place.take();
        assert_eq!((taken.len(), removed as usize), (1, FILES_MAX - 1));
        assert_eq!(place.names(), ["large.jsonl"]);
    }

    #[test]
    fn only_so_much_is_in_memory_at_a_time_and_all_of_it_has_its_turn() {
        let place = Place::new("turns");
        let large = file(OURS, 100, LOADED_BYTES_MAX as usize / 300);
        for n in 0..6 {
            place.put(&format!("{n}.jsonl"), &large, MINUTE - Age::from_secs(n));
        }
        let mut all = 0;
        while !place.names().is_empty() {
            let (taken, removed) = place.take();
            assert!(!taken.is_empty() && removed == 0);
            let bytes: usize = taken.iter().map(|(frames, _)| frames.len()).sum();
            assert!(taken.len() == 1 || bytes as u64 <= LOADED_BYTES_MAX, "{bytes} bytes of {} files", taken.len());
            let (more, _) = place.take();
            assert!(more.is_empty(), "what is not answered for is in memory");
            all += taken.len();
            taken.into_iter().for_each(|(_, answered)| answered());
        }
        assert_eq!(all, 6);
    }

    #[test]
    fn an_empty_file_waits_for_its_owner() {
        let place = Place::new("empty");
        let fresh = place.put("fresh.jsonl", b"", Age::from_secs(1));
        let left = place.put("left.jsonl", b"", Age::from_secs(3));
        let claim = Claim::create(&place.path("owned.jsonl")).unwrap();
        assert!(place.take().0.is_empty());
        assert!(fresh.exists() && claim.path().exists() && !left.exists());
    }

    #[test]
    fn what_was_put_aside_does_not_stay_for_ever() {
        let place = Place::new("bad");
        for n in 0..5 {
            place.put(&format!("{n}.jsonl"), &[0xff; 100], MINUTE - Age::from_secs(n));
        }
        assert!(place.take().0.is_empty());
        assert_eq!(place.names(), ["2.bad", "3.bad", "4.bad"], "the last few");
        place.put("4.bad", &[0xff; 100], AGE_MAX + MINUTE);
        place.take();
        assert_eq!(place.names(), ["2.bad", "3.bad"]);
    }

    #[test]
    fn what_is_erased_is_gone_but_not_what_others_have() {
        let place = Place::new("erase");
        for name in ["ours.jsonl", "aside.bad"] {
            place.put(name, &file(OURS, 1, 1), MINUTE);
        }
        place.put("garbage.jsonl", &[0xff; 100], MINUTE);
        place.put("garbage.bad", &[0xff; 200_000], MINUTE);
        place.put("empty.jsonl", b"", MINUTE);
        for name in ["theirs.jsonl", "theirs.bad"] {
            place.put(name, &file(8, 1, 1), MINUTE);
        }
        place.put("later.jsonl", b"{\"quillet_crash\":2}\n", MINUTE);
        let living = Claim::create(&place.path("living.jsonl")).unwrap();
        place.0.erase();
        assert_eq!(place.names(), ["later.jsonl", "living.jsonl", "theirs.bad", "theirs.jsonl"]);
        drop(living);
    }

    #[test]
    fn erasing_overwrites() {
        let place = Place::new("zero");
        let path = place.put("ours.jsonl", &file(OURS, 4, 50_000), MINUTE);
        let claim = Claim::adopt(&path).unwrap().unwrap();
        zero(&claim);
        let bytes = read(&claim).unwrap();
        assert!(bytes.len() > 200_000 && bytes.iter().all(|byte| *byte == 0));
    }
}
