//! Without a spool: everything that is pending goes into a file, in one write, at the last moment.
//!
//! In: rings that threads may be working in, and a descriptor opened when the client was built. Out: a crash file, written
//! from its beginning, that the next start delivers. Async-signal-safe: stores, atomics, `lseek`, `writev`.
//!
//! While it is written no tail may move, or producers would overwrite what is being read. So whoever writes sets `frozen`,
//! and the worker, before it may release anything, says so and looks: one of the two sees the other. When the frames
//! written were answered after all, because the process lives on, the worker empties the file.

#![allow(unsafe_code, reason = "memory that is read while others work beside it, and two system calls")]

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};
use std::fs::DirBuilder;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use quillet_core::{CrashHead, Gauge, Uuid, crash_pages_bytes, write_crash_pages};

use super::slots::{SLOTS_BYTES, Slots, State};
use super::{signal, slots};
use crate::arena::Held;
use crate::lanes::{OwnedCommon, RINGS};
use crate::spool::Claim;

/// How long a writer waits for the worker to get out of the way, in seconds. It is there for microseconds; only a worker
/// that was stopped for good stays.
const WORKER_SECONDS: libc::time_t = 1;

/// Head, pages, and two stretches of each ring.
const CHUNKS_MAX: usize = 2 + 2 * RINGS;

/// A file that waits for the worst.
pub(crate) struct CrashFile {
    claim: Claim,
    descriptor: RawFd,
    /// A forked child shares the descriptor and must not touch it.
    process: u32,
    owner: u128,
    gauges: [Held<Gauge<'static>>; RINGS],
    person: String,
    slots: OnceLock<Arc<Slots>>,
    /// The thread that writes; 0 if none does. Nothing is released meanwhile.
    frozen: AtomicI32,
    /// The thread that may release frames at this moment; 0 if none may.
    releasing: AtomicI32,
    /// Used by the thread that `frozen` names.
    text: UnsafeCell<Text>,
    /// The worker came to its end.
    is_closed: AtomicBool,
    /// Something is in the file.
    is_written: AtomicBool,
    /// What each ring had ever committed when it was.
    committed: [AtomicUsize; RINGS],
}

/// The lines that are ready in advance.
struct Text {
    head: Vec<u8>,
    layout: Option<CrashHead>,
    pages: Box<[u8]>,
}

// SAFETY: `text` is used by the thread that set `frozen`, and by nobody else; the rest is shared by itself.
unsafe impl Sync for CrashFile {}

impl CrashFile {
    /// A new, empty file in `dir`, which is made if it is not there. It belongs to this process, which is what its lock
    /// says, and to this user alone.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub(crate) fn create(
        dir: &Path,
        name: Uuid,
        (owner, person): (u128, &str),
        common: &OwnedCommon,
        gauges: [Held<Gauge<'static>>; RINGS],
    ) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let claim = Claim::create(&dir.join(format!("{PREFIX}{name}{SUFFIX}")))?;
        let descriptor = claim.descriptor().ok_or(io::ErrorKind::NotFound)?;
        let file = Self {
            claim,
            descriptor,
            process: std::process::id(),
            owner,
            gauges,
            person: person.to_owned(),
            slots: OnceLock::new(),
            frozen: AtomicI32::new(0),
            releasing: AtomicI32::new(0),
            text: UnsafeCell::new(Text {
                head: Vec::new(),
                layout: None,
                pages: vec![0; crash_pages_bytes(SLOTS_BYTES)].into_boxed_slice(),
            }),
            is_closed: AtomicBool::new(false),
            is_written: AtomicBool::new(false),
            committed: [const { AtomicUsize::new(0) }; RINGS],
        };
        // Beyond its limit, a write does not fail but kills. The head is the rest of the megabyte.
        let rings = file.gauges.iter().fold(1 << 20, |sum: usize, gauge| sum.saturating_add(gauge.capacity()));
        if file_limit() < rings as u64 {
            file.claim.unlink();
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        file.set_common(common);
        Ok(file)
    }

    /// What every event says from now on, for the head.
    pub(crate) fn set_common(&self, common: &OwnedCommon) {
        let common = common.as_common();
        let mut head = vec![0; CrashHead::bytes_for(&self.person, &common)];
        let layout = CrashHead::render(&mut head, self.owner, &self.person, &common);
        while !self.freeze() {
            std::thread::yield_now();
        }
        // SAFETY: frozen by this thread.
        let text = unsafe { &mut *self.text.get() };
        let old = core::mem::replace(&mut text.head, head);
        text.layout = layout;
        self.thaw();
        drop(old);
    }

    /// Pages that a signal handler writes to, for the second line.
    pub(crate) fn set_slots(&self, slots: Arc<Slots>) {
        let _ = self.slots.set(slots);
    }

    /// Writes everything that is committed and not released. Async-signal-safe. Whether all of it is in the file; not if
    /// another thread is writing and does not come to an end.
    pub(crate) fn write(&self) -> bool {
        if signal::process() != self.process as i32 || !self.freeze() {
            return false;
        }
        // Asked now: whoever closes the file does so while nobody writes it.
        let written = !self.is_closed.load(Ordering::SeqCst) && self.write_frozen();
        self.thaw();
        written
    }

    /// Empties the file: somebody dealt with the signal that it was written for. Async-signal-safe.
    pub(super) fn clear(&self) {
        if signal::process() == self.process as i32 && self.freeze() {
            // SAFETY: a descriptor of ours.
            if unsafe { libc::ftruncate(self.descriptor, 0) } == 0 {
                self.is_written.store(false, Ordering::Relaxed);
            }
            self.thaw();
        }
    }

    fn write_frozen(&self) -> bool {
        // SAFETY: frozen by this thread.
        let text = unsafe { &mut *self.text.get() };
        let mut chunks = [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; CHUNKS_MAX];
        let (mut count, mut total) = (0, 0);
        let mut push = |chunk: &[u8]| {
            if let Some(place) = chunks.get_mut(count).filter(|_| !chunk.is_empty()) {
                *place = libc::iovec { iov_base: chunk.as_ptr().cast_mut().cast(), iov_len: chunk.len() };
                count += 1;
                total += chunk.len();
            }
        };
        push(&text.head);
        if let Some(slots) = self.slots.get() {
            // SAFETY: pages that `slots` keeps. The owner of the signal, if there is one, has said how far it is.
            let bytes = unsafe {
                let is_in_use = slots::state(slots.start()).load(Ordering::Acquire) != State::Empty as u32;
                if is_in_use { core::slice::from_raw_parts(slots.start().as_ptr(), SLOTS_BYTES) } else { &[] }
            };
            if !bytes.is_empty() {
                push(write_crash_pages(&mut text.pages, bytes));
            }
        }
        for (gauge, committed) in self.gauges.iter().zip(&self.committed) {
            committed.store(gauge.committed(), Ordering::Relaxed);
            // SAFETY: nothing is released while this thread has frozen the rings. Should a thread that was about to release
            // have had no turn for a second, it does so later: what is read of it then is no frame, and recovery looks.
            let (first, second) = unsafe { gauge.pending_bytes() };
            push(first);
            push(second);
        }
        if let Some(layout) = &text.layout {
            layout.set_total(&mut text.head, total);
        }
        self.is_written.store(true, Ordering::Relaxed);
        // Time enough for rings that are not frozen to change, so that a test would see it.
        #[cfg(test)]
        std::thread::sleep(core::time::Duration::from_millis(1));
        // SAFETY: `count` chunks, each of memory that stays as it is until this returns. The head's digits were changed
        // through the same vector, whose memory does not move.
        let written = unsafe {
            libc::lseek(self.descriptor, 0, libc::SEEK_SET);
            libc::writev(self.descriptor, chunks.as_ptr(), count as libc::c_int)
        };
        usize::try_from(written) == Ok(total)
    }

    /// As long as the result lives, frames may be released, and nobody writes the file.
    pub(crate) fn releasing(&self) -> Releasing<'_> {
        let thread = signal::thread();
        loop {
            // SeqCst, with the load behind it: of a worker and a writer that begin at the same time, one sees the other.
            self.releasing.store(thread, Ordering::SeqCst);
            if self.frozen.load(Ordering::SeqCst) == 0 {
                return Releasing { file: self };
            }
            self.releasing.store(0, Ordering::SeqCst);
            std::thread::sleep(core::time::Duration::from_millis(1));
        }
    }

    /// Takes the exclusive use of the rings' tails. Not if another thread has it.
    fn freeze(&self) -> bool {
        let thread = signal::thread();
        let started = signal::seconds();
        while let Err(owner) = self.frozen.compare_exchange(0, thread, Ordering::SeqCst, Ordering::SeqCst) {
            if owner == thread || signal::seconds() - started > WORKER_SECONDS {
                return false;
            }
            signal::let_others_run();
        }
        loop {
            let releasing = self.releasing.load(Ordering::SeqCst);
            // The worker itself: whatever it was about to release, it does not while it is here.
            if releasing == 0 || releasing == thread || signal::seconds() - started > WORKER_SECONDS {
                return true;
            }
            signal::let_others_run();
        }
    }

    fn thaw(&self) {
        self.frozen.store(0, Ordering::SeqCst);
    }

    /// Removes the file, unless something in it was not answered: then the next start finds it. What is to be discarded
    /// goes in any case.
    pub(crate) fn close(&self, is_discarded: bool) {
        self.is_closed.store(true, Ordering::SeqCst);
        drop(self.releasing());
        if is_discarded && std::process::id() == self.process {
            let _ = self.claim.set_len(0);
            self.is_written.store(false, Ordering::Relaxed);
        }
        if !self.is_written.load(Ordering::Relaxed) {
            self.claim.unlink();
        }
    }

    /// Empties the file if every frame in it was answered. Called with the right to release.
    fn empty_if_answered(&self) {
        if !self.is_written.load(Ordering::Relaxed) || std::process::id() != self.process {
            return;
        }
        let is_answered = |(gauge, committed): (&Held<Gauge<'static>>, &AtomicUsize)| {
            gauge.released().wrapping_sub(committed.load(Ordering::Relaxed)) <= usize::MAX / 2
        };
        if self.gauges.iter().zip(&self.committed).all(is_answered) && self.claim.set_len(0).is_ok() {
            self.is_written.store(false, Ordering::Relaxed);
        }
    }
}

impl core::fmt::Debug for CrashFile {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CrashFile").field("path", &self.claim.path()).finish_non_exhaustive()
    }
}

/// The right to release frames.
pub(crate) struct Releasing<'a> {
    file: &'a CrashFile,
}

impl Drop for Releasing<'_> {
    fn drop(&mut self) {
        self.file.empty_if_answered();
        self.file.releasing.store(0, Ordering::SeqCst);
    }
}

/// What crash files are called.
pub(super) const PREFIX: &str = "quillet-crash-";
pub(super) const SUFFIX: &str = ".jsonl";

/// Bytes a file of this process may have.
fn file_limit() -> u64 {
    // SAFETY: a place for the answer.
    unsafe {
        let mut limit: libc::rlimit = core::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) == 0 { limit.rlim_cur as u64 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test that fails should stop")]
    use super::*;
    use crate::arena::{self, Ends};
    use quillet_core::{Common, CrashFile as Found, Event, Prng, Stamper, Timestamp, props};

    /// A file over rings of which the first is as small as can be, and that ring's ends.
    fn file_and_ring() -> (PathOnly, CrashFile, Ends) {
        let [first, rest @ ..] = arena::lanes::<RINGS>(4096).unwrap();
        let mut gauges = vec![first.gauge.clone()];
        gauges.extend(rest.into_iter().map(|ends| ends.gauge));
        let dir =
            PathOnly(std::env::temp_dir().join(format!("quillet-file-{}-{}", std::process::id(), signal::thread())));
        let common = OwnedCommon::render(&[]).unwrap();
        let name = Uuid::v7(1, [1, 2]);
        let file = CrashFile::create(&dir.0, name, (7, ""), &common, gauges.try_into().ok().unwrap()).unwrap();
        (dir, file, first)
    }

    /// Removes the directory at the end.
    struct PathOnly(std::path::PathBuf);

    impl Drop for PathOnly {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// An event whose text is as long as its number says, so that one spliced from two gives itself away.
    fn frame(stamper: &mut Stamper, n: u64, out: &mut [u8]) -> usize {
        let text = "x".repeat((n % 300) as usize);
        let event = Event::new("numbered", "somebody");
        let now = Timestamp::from_unix_micros(1_795_000_000_000_000 + n);
        let written = event.properties(props! { "n": n, "text": text.as_str(), "again": n }).encode(
            stamper,
            &Common::default(),
            now,
            out,
        );
        let len = written.unwrap().len;
        out.get_mut(len..len + 2).unwrap().copy_from_slice(b",\n");
        len + 2
    }

    fn is_whole(frame: &str) -> bool {
        let number = |key: &str| frame.split(key).nth(1)?.split([',', '}']).next()?.parse::<u64>().ok();
        let n = number("\"n\":").unwrap();
        let text = frame.split("\"text\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        number("\"again\":") == Some(n) && text.len() as u64 == n % 300 && text.bytes().all(|byte| byte == b'x')
    }

    #[test]
    fn nothing_is_released_while_the_file_is_written() {
        let (_dir, file, ends) = file_and_ring();
        let Ends { mut producer, mut consumer, .. } = ends;
        let is_over = AtomicBool::new(false);
        let written = std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut stamper, mut n, mut memory) = (Stamper::new([3, 4]), 0, [0; 1024]);
                while !is_over.load(Ordering::Relaxed) {
                    let len = frame(&mut stamper, n, &mut memory);
                    let Ok(mut grant) = producer.grant(len) else { continue };
                    grant.bytes_mut().get_mut(..len).unwrap().copy_from_slice(memory.get(..len).unwrap());
                    grant.commit(len);
                    n += 1;
                }
            });
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let releasing = file.releasing();
                    consumer.read().release();
                    // As its drop does, but the file is not emptied: what is in it shall be looked at.
                    core::mem::forget(releasing);
                    file.releasing.store(0, Ordering::SeqCst);
                }
            });
            let (mut prng, mut frames) = (Prng::new([5, 6]), 0);
            let _over = Over(&is_over);
            for _ in 0..60 {
                (0..prng.next() % 200).for_each(|_| core::hint::spin_loop());
                assert!(file.write());
                frames += check(&file);
            }
            frames
        });
        assert!(written > 0, "the ring was empty each time");
    }

    /// Ends the other threads when the writer does, also by a failure.
    struct Over<'a>(&'a AtomicBool);

    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Looks at every event in the file, and says how many there are.
    fn check(file: &CrashFile) -> usize {
        let mut bytes = vec![0; file.claim.metadata().unwrap().len() as usize];
        file.claim.read(&mut bytes, 0).unwrap();
        let found = Found::parse(&bytes).unwrap();
        assert_eq!(found.damaged(), 0);
        found.frames().map(|frame| assert!(is_whole(frame), "{frame}")).count()
    }
}
