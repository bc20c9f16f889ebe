//! What systems do differently about files: locks, space, and which file systems a mapping is safe on.
//!
//! In: descriptors and ranges that [`map`](super::map) answers for. Out: the system's answer.

#![allow(unsafe_code, reason = "calls into libc on descriptors and ranges that the caller owns")]

use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Tries to lock the whole file for writing. Whether that was granted.
pub(super) fn lock(file: RawFd) -> io::Result<bool> {
    // SAFETY: all fields of `flock` are integers, for which zero is a value: the whole file, from its beginning.
    let mut lock: libc::flock = unsafe { core::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as _;
    lock.l_whence = libc::SEEK_SET as _;
    // SAFETY: `file` is open, `lock` is a valid argument for this command.
    if unsafe { libc::fcntl(file, libc::F_SETLK, &raw const lock) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EAGAIN)) => Ok(false),
        error => Err(error),
    }
}

/// What a mapping of a file in some directory survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// Pages of memory that no process owns.
    Memory,
    /// A disk.
    Disk,
}

/// What is behind a directory; `None` for whatever is not known to give every mapped byte to the next reader.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
pub(super) fn backing(directory: &Path) -> Option<Backing> {
    let path = CString::new(directory.as_os_str().as_bytes()).ok()?;
    // SAFETY: all fields of `statfs` are integers or arrays of them.
    let mut answer: libc::statfs = unsafe { core::mem::zeroed() };
    // SAFETY: `path` ends with a zero, `answer` is a valid place for the answer.
    if unsafe { libc::statfs(path.as_ptr(), &raw mut answer) } != 0 {
        return None;
    }
    kind(&answer)
}

/// Nothing is known about other systems' file systems, so nothing is kept on them, and the rest is never called.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
pub(super) fn backing(_directory: &Path) -> Option<Backing> {
    None
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[allow(clippy::useless_conversion, reason = "a narrower integer on some systems")]
fn kind(answer: &libc::statfs) -> Option<Backing> {
    const EXT: i64 = 0xef53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683e;
    const F2FS: i64 = 0xf2f5_2010;
    const OVERLAY: i64 = 0x794c_7630;
    const TMPFS: i64 = 0x0102_1994;
    // 32-bit systems give these as a signed word.
    match i64::from(answer.f_type) & 0xffff_ffff {
        EXT | XFS | BTRFS | F2FS | OVERLAY => Some(Backing::Disk),
        TMPFS => Some(Backing::Memory),
        _ => None,
    }
}

#[cfg(target_os = "macos")]
fn kind(answer: &libc::statfs) -> Option<Backing> {
    let name = answer.f_fstypename.map(|byte| byte as u8);
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    (name == b"apfs" || name == b"hfs").then_some(Backing::Disk)
}

/// On btrfs, asks for blocks that are written in place. Where they are copied on write, even a file whose space is set
/// aside can run out of it, and a store into the mapping then ends the process. Elsewhere this does nothing.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn before_allocating(file: RawFd) {
    const FS_NOCOW: libc::c_int = 0x0080_0000;
    let mut flags: libc::c_int = 0;
    // SAFETY: `file` is open; both commands take the address of one int, whatever their names say.
    if unsafe { libc::ioctl(file, libc::FS_IOC_GETFLAGS, &raw mut flags) } == 0 {
        let wanted = flags | FS_NOCOW;
        // SAFETY: as above. File systems without the flag refuse, which is the right answer.
        unsafe { libc::ioctl(file, libc::FS_IOC_SETFLAGS, &raw const wanted) };
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn before_allocating(_file: RawFd) {}

/// Sets the length and has blocks set aside for all of it: a store into a hole could end the process when the disk is
/// full.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn allocate(file: RawFd, bytes: usize) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    // SAFETY: `file` is open for writing.
    match unsafe { libc::posix_fallocate(file, 0, bytes) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(target_os = "macos")]
pub(super) fn allocate(file: RawFd, bytes: usize) -> io::Result<()> {
    let bytes = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut wanted = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: bytes,
        fst_bytesalloc: 0,
    };
    // SAFETY: `file` is open for writing, `wanted` is what this command takes.
    if unsafe { libc::fcntl(file, libc::F_PREALLOCATE, &raw mut wanted) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `file` is open for writing.
    if unsafe { libc::ftruncate(file, bytes) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
pub(super) fn allocate(_file: RawFd, _bytes: usize) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives the blocks of a range back; it reads as zeros then. Whether that worked makes no difference but in space.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn punch(file: RawFd, at: usize, len: usize) {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    if let (Ok(at), Ok(len)) = (libc::off_t::try_from(at), libc::off_t::try_from(len)) {
        // SAFETY: `file` is open for writing.
        unsafe { libc::fallocate(file, mode, at, len) };
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn punch(_file: RawFd, _at: usize, _len: usize) {}

/// Keeps a mapping out of forked children, which must not write into their parent's ring, and has all its pages there
/// before the first capture, so that none of them has to wait for one.
///
/// # Errors
///
/// There is no room for the pages, whatever was set aside: a store into one that is missing would be a SIGBUS.
///
/// # Safety
///
/// The range is a mapping of whole pages, nobody else writes to it yet, and it reads as zeros.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) unsafe fn prepare(start: *mut libc::c_void, bytes: usize) -> io::Result<()> {
    /// From Linux 5.14 on.
    const MADV_POPULATE_WRITE: libc::c_int = 23;
    // SAFETY: advice about a range that is mapped (the caller's promise); where it is not understood nothing happens.
    unsafe { libc::madvise(start, bytes, libc::MADV_DONTFORK) };
    // SAFETY: as above.
    if unsafe { libc::madvise(start, bytes, MADV_POPULATE_WRITE) } != 0 {
        let error = io::Error::last_os_error();
        if matches!(error.raw_os_error(), Some(libc::EFAULT | libc::ENOMEM)) {
            return Err(error);
        }
        // SAFETY: the caller's promise, passed on.
        unsafe { touch(start, bytes) };
    }
    Ok(())
}

/// As above. The system has no word for it: a mapping is kept out of children by its inheritance.
///
/// # Safety
///
/// As above.
#[cfg(target_os = "macos")]
pub(super) unsafe fn prepare(start: *mut libc::c_void, bytes: usize) -> io::Result<()> {
    const VM_INHERIT_NONE: libc::c_int = 2;
    unsafe extern "C" {
        fn minherit(start: *mut libc::c_void, bytes: usize, inherit: libc::c_int) -> libc::c_int;
    }
    // SAFETY: changes what children inherit of a range that is mapped (the caller's promise).
    unsafe { minherit(start, bytes, VM_INHERIT_NONE) };
    // SAFETY: the caller's promise, passed on.
    unsafe { touch(start, bytes) };
    Ok(())
}

/// As above; never called, as there is no file to map.
///
/// # Safety
///
/// None.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
pub(super) unsafe fn prepare(_start: *mut libc::c_void, _bytes: usize) -> io::Result<()> {
    Ok(())
}

/// Writes a zero into every page.
///
/// # Safety
///
/// The range is mapped, zero, and nobody else writes to it.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
unsafe fn touch(start: *mut libc::c_void, bytes: usize) {
    for at in (0..bytes).step_by(super::layout::PAGE_BYTES) {
        // SAFETY: `at` is less than `bytes`. Volatile, or the compiler might leave out a store that changes nothing.
        unsafe { start.cast::<u8>().add(at).write_volatile(0) };
    }
}

/// Names this boot of the machine; zeros if the system does not say.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    quillet_core::Uuid::parse(text.trim()).map(|id| *id.as_bytes()).unwrap_or_default()
}

#[cfg(target_os = "macos")]
pub(super) fn boot_id() -> [u8; 16] {
    let mut text = [0_u8; 64];
    let mut len = text.len();
    // SAFETY: the name ends with a zero, `text` and `len` are a valid place for the answer.
    let is_known = unsafe {
        libc::sysctlbyname(
            c"kern.bootsessionuuid".as_ptr(),
            text.as_mut_ptr().cast(),
            &raw mut len,
            core::ptr::null_mut(),
            0,
        )
    } == 0;
    let text = text.split(|&byte| byte == 0).next().and_then(|text| core::str::from_utf8(text).ok());
    let id = text.filter(|_| is_known).and_then(|text| quillet_core::Uuid::parse(&text.to_ascii_lowercase()));
    id.map(|id| *id.as_bytes()).unwrap_or_default()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
pub(super) fn boot_id() -> [u8; 16] {
    [0; 16]
}
