//! Creating, locking and mapping spool files; the only file of the spool with `unsafe`.
//!
//! In: a path. Out: a [`Claim`], a file that no living process but ours uses, or a [`Mapping`], a new file in memory.
//!
//! A file belongs to whoever holds a POSIX record lock on it. The kernel gives that lock back when the last thread of its
//! process is gone, so a lock that is granted means that nothing in the file changes any more. Unlike other kinds of lock
//! it is not kept by a forked child. Its two traps are closed here: it never conflicts within a process, so a registry
//! remembers the files of this one; and closing *any* descriptor of a file gives the lock back, so no file in the registry
//! is ever opened again.

#![allow(unsafe_code, reason = "mmap, fcntl and their like; the mapping is reached through raw pointers only")]

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::layout::{self, Header, PAGE_BYTES, Plan};
use super::platform;

/// How often, and after what pauses, the lock on a file just made is asked for again.
const LOCK_TRIES: usize = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// Which files of the file system this process uses: device and inode.
struct Registry {
    /// Whose it is. A forked child has a copy of its parent's, locked perhaps for ever, and files that are not its own.
    pid: u32,
    files: Mutex<BTreeSet<(u64, u64)>>,
}

static REGISTRY: AtomicPtr<Registry> = AtomicPtr::new(core::ptr::null_mut());

/// This process's registry. The first call in a process makes one, and leaks it.
fn registry() -> MutexGuard<'static, BTreeSet<(u64, u64)>> {
    let pid = std::process::id();
    let mut current = REGISTRY.load(Ordering::Acquire);
    loop {
        // SAFETY: null, or a box that was leaked below.
        let registry: Option<&'static Registry> = unsafe { current.as_ref() };
        if let Some(registry) = registry.filter(|registry| registry.pid == pid) {
            // Nothing panics while it holds this lock, and a set stays a set.
            return registry.files.lock().unwrap_or_else(PoisonError::into_inner);
        }
        let new = Box::into_raw(Box::new(Registry { pid, files: Mutex::new(BTreeSet::new()) }));
        current = match REGISTRY.compare_exchange(current, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: made above, and nobody has seen it.
                drop(unsafe { Box::from_raw(new) });
                other
            }
        };
    }
}

fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// A file that is ours alone, as long as this lives.
#[derive(Debug)]
pub(crate) struct Claim {
    /// `None` only while being dropped.
    file: Option<File>,
    id: (u64, u64),
    path: PathBuf,
    /// A forked child has a copy of all this, and no right to the file.
    pid: u32,
}

impl Claim {
    /// Makes a new file, readable for its owner only. Fails if anything is at the path already.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut registry = registry();
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(path)?;
        // Somebody who looks through the directory may be quicker; he finds nothing in it and lets go at once.
        for _ in 0..LOCK_TRIES {
            if !platform::lock(file.as_raw_fd())? {
                std::thread::sleep(LOCK_PAUSE);
                continue;
            }
            let metadata = file.metadata()?;
            if metadata.nlink() > 0 {
                return Ok(Self::registered(&mut registry, id(&metadata), file, path));
            }
            // Or he took it for one that was left behind, and removed it.
            file = options.open(path)?;
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// Takes a file whose owner is gone. `None` if it has one, or is not what a spool file must be: a regular file of
    /// this user's with one name.
    pub(crate) fn adopt(path: &Path) -> io::Result<Option<Self>> {
        let is_ours =
            |metadata: &Metadata| metadata.is_file() && metadata.uid() == effective_user() && metadata.nlink() == 1;
        let mut registry = registry();
        let before = path.symlink_metadata()?;
        if !is_ours(&before) || registry.contains(&id(&before)) {
            return Ok(None);
        }
        // NONBLOCK: should the file have become a pipe since, opening it must not wait for its other end.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        let opened = file.metadata()?;
        if id(&opened) != id(&before) || !is_ours(&opened) {
            return Ok(None);
        }
        // Whoever had it may have finished with it, and removed it, between opening and locking.
        let is_granted = platform::lock(file.as_raw_fd())?;
        if !is_granted || path.symlink_metadata().map(|now| id(&now)).ok() != Some(id(&opened)) {
            return Ok(None);
        }
        Ok(Some(Self::registered(&mut registry, id(&opened), file, path)))
    }

    /// NB: the end of a claim takes the registry's lock, so there must be none yet while something can go wrong under it.
    fn registered(registry: &mut BTreeSet<(u64, u64)>, id: (u64, u64), file: File, path: &Path) -> Self {
        registry.insert(id);
        Self { id, file: Some(file), path: path.to_owned(), pid: std::process::id() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self) -> io::Result<&File> {
        self.file.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The same, for what may wait for the disk.
    fn file_on_disk(&self) -> io::Result<&File> {
        #[cfg(test)]
        super::faults::pass(&self.path);
        self.file()
    }

    /// The descriptor, for whoever has to do without the standard library. Valid as long as the claim.
    pub(crate) fn descriptor(&self) -> Option<RawFd> {
        self.file.as_ref().map(File::as_raw_fd)
    }

    /// Size and allocation as they are now. Of a file that is open the kernel knows them; no disk is asked.
    pub(crate) fn metadata(&self) -> io::Result<Metadata> {
        self.file()?.metadata()
    }

    /// Fills `bytes` from `at`, or fails.
    pub(crate) fn read(&self, bytes: &mut [u8], at: usize) -> io::Result<()> {
        self.file_on_disk()?.read_exact_at(bytes, at as u64)
    }

    /// Writes all of `bytes` at `at`, or fails.
    pub(crate) fn write(&self, bytes: &[u8], at: usize) -> io::Result<()> {
        #[cfg(test)]
        if let (arriving, Err(error)) = super::faults::pass_write(&self.path, bytes.len()) {
            self.file()?.write_all_at(bytes.get(..arriving).unwrap_or_default(), at as u64)?;
            return Err(error);
        }
        self.file_on_disk()?.write_all_at(bytes, at as u64)
    }

    /// What is written now is on the disk before this returns.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file_on_disk()?.sync_data()
    }

    /// Sets the file's length without setting blocks aside.
    pub(crate) fn set_len(&self, bytes: usize) -> io::Result<()> {
        check_limit(bytes)?;
        self.file_on_disk()?.set_len(bytes as u64)
    }

    /// Gives the blocks of a range back to the file system; it reads as zeros then. Best effort.
    pub(crate) fn punch(&self, at: usize, len: usize) {
        if let Ok(file) = self.file_on_disk() {
            platform::punch(file.as_raw_fd(), at, len);
        }
    }

    /// Sets the file's length, and has the file system set blocks aside for all of it.
    pub(crate) fn allocate(&self, bytes: usize) -> io::Result<()> {
        check_limit(bytes)?;
        platform::allocate(self.file_on_disk()?.as_raw_fd(), bytes)
    }

    /// Whether the file still has its name.
    pub(crate) fn is_linked(&self) -> bool {
        self.metadata().is_ok_and(|metadata| metadata.nlink() == 1)
    }

    /// Removes the file's name, if it is still this file's. A forked child removes nothing.
    pub(crate) fn unlink(&self) {
        #[cfg(test)]
        super::faults::pass(&self.path);
        let is_here = self.path.symlink_metadata().is_ok_and(|now| id(&now) == self.id);
        if self.pid == std::process::id() && is_here {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Gives the file another name in the same directory.
    pub(crate) fn rename(&mut self, to: PathBuf) -> io::Result<()> {
        std::fs::rename(&self.path, &to)?;
        self.path = to;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            // A forked child's copy: the lock is its parent's, and closing this descriptor does not touch it.
            return;
        }
        // Both under the registry's lock: nobody may open the file in between, as closing it would give up their claim.
        let mut registry = registry();
        self.file = None;
        registry.remove(&self.id);
    }
}

/// Asks the limit on the size of files before one gets so long: going beyond it would kill the process with `SIGXFSZ`.
fn check_limit(bytes: usize) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the answer.
    let is_known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } == 0;
    let is_allowed = limit.rlim_cur == libc::RLIM_INFINITY || bytes as u64 <= limit.rlim_cur;
    if is_known && is_allowed { Ok(()) } else { Err(io::ErrorKind::FileTooLarge.into()) }
}

/// The user whose rights this process has.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// A new spool file, all of it in memory. Unmapped, and its claim given up, on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    header: Header,
    lanes_taken: AtomicUsize,
    claim: Claim,
}

// SAFETY: an address range. Lanes are reached through rings, each end of which is used by one thread at a time; the crash
// slots through volatile stores of whoever asked for them; the rest through `store`, whose callers hold a lock.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Sets aside the blocks of a new file and maps it. What goes wrong leaves no file behind.
    pub(crate) fn create(path: &Path, header: Header) -> io::Result<Self> {
        let claim = Claim::create(path)?;
        let mapped = Self::map(&claim, &header);
        match mapped {
            Ok(start) => Ok(Self { start, header, lanes_taken: AtomicUsize::new(0), claim }),
            Err(error) => {
                claim.unlink();
                Err(error)
            }
        }
    }

    fn map(claim: &Claim, header: &Header) -> io::Result<NonNull<u8>> {
        let bytes = header.plan.file_bytes();
        let file = claim.file()?;
        platform::before_allocating(file.as_raw_fd());
        claim.allocate(bytes)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing of ours is there.
        let start =
            unsafe { libc::mmap(core::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `bytes` bytes at `start` were just mapped, and nobody else knows of them.
        if let Err(error) = unsafe { platform::prepare(start, bytes) } {
            // SAFETY: as above; the mapping goes with the only pointer to it.
            unsafe { libc::munmap(start, bytes) };
            return Err(error);
        }
        NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Says in the file that it is one, now that everything else is in it.
    pub(crate) fn publish(&self) -> io::Result<()> {
        self.claim.write(&layout::STATE_RUNNING.to_le_bytes(), layout::STATE_AT)?;
        self.claim.write(&self.header.to_bytes(), 0)?;
        self.claim.write(layout::magic(), 0)
    }

    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.header.plan
    }

    /// Whether the file is as long as it was made. Where it is not, nothing is behind the mapping.
    pub(crate) fn is_whole(&self) -> bool {
        self.claim.metadata().map_or(true, |metadata| metadata.len() >= self.header.plan.file_bytes() as u64)
    }

    /// All of it: first byte and length.
    pub(crate) fn range(&self) -> (NonNull<u8>, usize) {
        (self.start, self.header.plan.file_bytes())
    }

    /// The bytes of a lane, zeros as yet, for whoever asks first; lanes are given out in order, and each once.
    pub(crate) fn take_lane(&self, lane: usize) -> Option<(NonNull<u8>, usize)> {
        let plan = &self.header.plan;
        let is_next = self.lanes_taken.compare_exchange(lane, lane + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        // SAFETY: the lanes end where the file ends (Plan), and all of the file is mapped.
        (lane < plan.lanes && is_next).then(|| (unsafe { self.start.add(plan.lane_at(lane)) }, plan.lane_bytes))
    }

    /// The slots for crash records, zeros at first: valid as long as this lives. Nothing else touches them.
    pub(crate) fn crash_slots(&self) -> Option<(NonNull<u8>, usize)> {
        let at = self.header.plan.crash_at()?;
        // SAFETY: the crash slots lie within the file (Plan), and all of the file is mapped.
        Some((unsafe { self.start.add(at) }, layout::CRASH_SLOTS * layout::CRASH_BYTES))
    }

    /// Has everything that was stored before this call on the disk when it returns.
    pub(crate) fn sync(&self) -> io::Result<()> {
        #[cfg(test)]
        super::faults::pass(self.claim.path());
        let (start, bytes) = (self.start.as_ptr().cast(), self.header.plan.file_bytes());
        // SAFETY: the range is mapped as long as `self` lives.
        if unsafe { libc::msync(start, bytes, libc::MS_SYNC) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a forked child nothing is mapped there, or something of its own: it must leave the range alone.
        if self.claim.pid == std::process::id() {
            // SAFETY: mapped in `create` with this length; rings over it hold a share of this and are gone.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.header.plan.file_bytes()) };
        }
    }
}

const _: () = assert!(PAGE_BYTES.is_multiple_of(4096), "lanes begin where pages begin");
