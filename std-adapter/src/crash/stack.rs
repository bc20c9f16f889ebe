//! Where a thread is: its stack's instruction addresses, its name and number, and the images that addresses lie in.
//!
//! In: the calling thread; for [`images`] the whole process. Out: plain data. Only [`images`] allocates and takes locks (the
//! dynamic linker's, once); the others do neither, but the unwinder is no code for a signal handler.
//!
//! No symbols are looked up here: the server does that with the symbols that were uploaded for a build, and what an
//! address means does not change by waiting.

#![allow(unsafe_code, reason = "the system's unwinder, its list of images and its names for threads")]

#[cfg(unix)]
use core::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use quillet_core::Image;

/// Room for a thread's name and the zero behind it. Linux has 16 bytes; others more, of which the first are enough.
pub(crate) const NAME_BYTES: usize = 64;

/// Most images remembered. A program has a dozen.
#[cfg(any(target_os = "linux", target_os = "android"))]
const IMAGES_MAX: usize = 256;

/// Longest build id kept, in bytes. Linkers write 8, 16 or 20.
#[cfg(any(target_os = "linux", target_os = "android"))]
const BUILD_ID_BYTES_MAX: usize = 64;

/// Fills `room` with the calling thread's return addresses, innermost first, without the frames at and below `above`, an
/// address on the stack. What is beyond the room is left out; where there is no unwinder, everything.
#[cfg(unix)]
#[inline(never)]
pub(crate) fn addresses(room: &mut [u64], above: usize) -> &[u64] {
    struct Walk<'a> {
        room: &'a mut [u64],
        len: usize,
        above: usize,
    }

    extern "C-unwind" fn visit(context: *mut c_void, walk: *mut c_void) -> c_int {
        /// Any code but "no reason" ends the walk.
        const END_OF_STACK: c_int = 5;
        // SAFETY: the unwinder hands on the pointer that `addresses` gave it, to a `Walk` which nothing else uses meanwhile.
        let walk = unsafe { &mut *walk.cast::<Walk<'_>>() };
        // SAFETY: the context is the unwinder's own, valid during this call.
        let (address, frame) = unsafe { (_Unwind_GetIP(context), _Unwind_GetCFA(context)) };
        if address == 0 {
            return END_OF_STACK;
        }
        if frame <= walk.above {
            return 0;
        }
        let Some(next) = walk.room.get_mut(walk.len) else { return END_OF_STACK };
        *next = address as u64;
        walk.len += 1;
        0
    }

    // Part of the runtime that every unwinding Rust program links, and every aborting one for its backtraces.
    unsafe extern "C-unwind" {
        fn _Unwind_Backtrace(
            visit: extern "C-unwind" fn(*mut c_void, *mut c_void) -> c_int,
            data: *mut c_void,
        ) -> c_int;
        fn _Unwind_GetIP(context: *mut c_void) -> usize;
        fn _Unwind_GetCFA(context: *mut c_void) -> usize;
    }

    let mut walk = Walk { room, len: 0, above };
    // SAFETY: `visit` has the signature the unwinder calls, does not unwind, and gets the pointer back as it is.
    unsafe { _Unwind_Backtrace(visit, (&raw mut walk).cast()) };
    let Walk { room, len, .. } = walk;
    room.get(..len).unwrap_or_default()
}

/// Nothing: there is no unwinder to ask.
#[cfg(not(unix))]
pub(crate) fn addresses(_: &mut [u64], _: usize) -> &[u64] {
    &[]
}

/// The system's number for the calling thread, where it has a small one.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn thread_id() -> Option<i32> {
    // SAFETY: a system call without arguments; it cannot fail.
    i32::try_from(unsafe { libc::syscall(libc::SYS_gettid) }).ok()
}

/// The system's number for the calling thread, where it has a small one.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn thread_id() -> Option<i32> {
    None
}

/// The calling thread's name as the system knows it, which is the beginning of the one it was given; `main` for the first
/// thread, which bears the program's name there.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn thread_name(room: &mut [u8; NAME_BYTES]) -> &str {
    // SAFETY: a system call without arguments.
    if thread_id() == Some(unsafe { libc::getpid() }) {
        return "main";
    }
    // SAFETY: the kernel writes at most 16 bytes, the last of them zero.
    unsafe { libc::prctl(libc::PR_GET_NAME, room.as_mut_ptr()) };
    text(room)
}

/// The calling thread's name as the system knows it.
#[cfg(target_vendor = "apple")]
pub(crate) fn thread_name(room: &mut [u8; NAME_BYTES]) -> &str {
    // SAFETY: at most `NAME_BYTES` bytes are written, the last of them zero.
    unsafe { libc::pthread_getname_np(libc::pthread_self(), room.as_mut_ptr().cast(), NAME_BYTES) };
    text(room)
}

/// Not known without asking where asking may allocate.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(crate) fn thread_name(_: &mut [u8; NAME_BYTES]) -> &str {
    ""
}

/// Calls `visit` with the return addresses of a chain of frame pointers, innermost first, as far as it is one: upwards on
/// the stack, in memory that is there, to code of a known image. Code built without frame pointers ends it early. For a
/// signal handler.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn walk_frames(stack_pointer: u64, frame_pointer: u64, mut visit: impl FnMut(u64)) {
    /// No thread has a larger stack; one that has is cut.
    const REACH: u64 = 1 << 30;
    let (mut below, mut frame) = (stack_pointer, frame_pointer);
    for _ in 0..quillet_core::limits::FRAMES_MAX {
        let is_above = frame >= below && frame - stack_pointer < REACH;
        if !is_above || !frame.is_multiple_of(8) {
            return;
        }
        let Some([next, address]) = read(frame) else { return };
        if !images().iter().any(|image| image.contains(address)) {
            return;
        }
        visit(address);
        (below, frame) = (frame + 16, next);
    }
}

/// Not known how here.
#[cfg(all(unix, not(any(target_os = "linux", target_os = "android"))))]
pub(crate) fn walk_frames(_: u64, _: u64, _: impl FnMut(u64)) {}

/// Two words of this process's own memory, if they are there: the kernel looks, so that a wrong address is an answer and
/// not a fault. Where it may not (some sandboxes), nothing is.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn read(address: u64) -> Option<[u64; 2]> {
    let mut words = [0u64; 2];
    let to = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(&words) };
    let from = libc::iovec { iov_base: address as *mut c_void, iov_len: size_of_val(&words) };
    // SAFETY: `to` is exactly `words`; `from` is only looked at by the kernel, which checks it.
    let read = unsafe { libc::process_vm_readv(libc::getpid(), &raw const to, 1, &raw const from, 1, 0) };
    (usize::try_from(read) == Ok(size_of_val(&words))).then_some(words)
}

/// What stands before the first zero. A name that was cut inside a character loses that character.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
pub(crate) fn text(bytes: &[u8]) -> &str {
    let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    match core::str::from_utf8(name) {
        Ok(name) => name,
        Err(error) => {
            name.get(..error.valid_up_to()).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or_default()
        }
    }
}

/// The images of this process, found when first asked for; those loaded later are not among them.
pub(crate) fn images() -> &'static [Image<'static>] {
    // Not a `OnceLock`: a forked child would wait for ever for a thread that only its parent has. At worst two threads look
    // at the same time. Neither the list nor what it borrows is ever freed.
    static IMAGES: AtomicPtr<Vec<Image<'static>>> = AtomicPtr::new(core::ptr::null_mut());
    let mut images = IMAGES.load(Ordering::Acquire);
    if images.is_null() {
        let found = Box::into_raw(Box::new(find_images()));
        let first = IMAGES.compare_exchange(images, found, Ordering::AcqRel, Ordering::Acquire);
        images = first.map_or_else(|earlier| earlier, |_| found);
    }
    // SAFETY: not null, and a box that was leaked above.
    unsafe { &*images }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn find_images() -> Vec<Image<'static>> {
    Vec::new()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn find_images() -> Vec<Image<'static>> {
    extern "C" fn visit(info: *mut libc::dl_phdr_info, _: usize, images: *mut c_void) -> c_int {
        // SAFETY: the linker hands on the pointer given below, to a vector that nothing else uses meanwhile.
        let images = unsafe { &mut *images.cast::<Vec<Image<'static>>>() };
        if images.len() < IMAGES_MAX {
            // SAFETY: `info` describes an image that stays loaded during this call.
            images.extend(unsafe { image(&*info, images.is_empty()) });
        }
        0
    }

    let mut images = Vec::new();
    // SAFETY: `visit` has the signature the linker calls, does not unwind, and gets the pointer back as it is.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut images).cast()) };
    images
}

/// One image as the dynamic linker describes it. The first one is the program.
///
/// # Safety
///
/// The image is loaded, and its program headers are where `info` says.
#[cfg(any(target_os = "linux", target_os = "android"))]
unsafe fn image(info: &libc::dl_phdr_info, is_program: bool) -> Option<Image<'static>> {
    if info.dlpi_phdr.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let headers = unsafe { core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let (mut start, mut end, mut build_id) = (u64::MAX, 0, &[][..]);
    for header in headers {
        let at = info.dlpi_addr.wrapping_add(header.p_vaddr);
        match header.p_type {
            libc::PT_LOAD => {
                start = start.min(at & !0xfff);
                end = end.max(at.saturating_add(header.p_memsz));
            }
            libc::PT_NOTE if build_id.is_empty() => {
                // SAFETY: a note's segment is part of the loaded image.
                let notes = unsafe { core::slice::from_raw_parts(at as *const u8, header.p_memsz as usize) };
                build_id = gnu_build_id(notes, if header.p_align == 8 { 8 } else { 4 }).unwrap_or_default();
            }
            _ => {}
        }
    }
    let file = if is_program {
        std::env::current_exe().map(|file| file.to_string_lossy().into_owned()).unwrap_or_default()
    } else if info.dlpi_name.is_null() {
        String::new()
    } else {
        // SAFETY: the linker's name ends with a zero.
        unsafe { core::ffi::CStr::from_ptr(info.dlpi_name) }.to_string_lossy().into_owned()
    };
    let build_id: Box<[u8]> = build_id.get(..build_id.len().min(BUILD_ID_BYTES_MAX)).unwrap_or_default().into();
    let image = Image::new(start, end.checked_sub(start)?);
    Some(image.build_id(Box::leak(build_id)).file(String::leak(file)).in_app(is_program))
}

/// The build id among an image's notes: each is three words (length of the name, of what it says, type), name and content,
/// both padded.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn gnu_build_id(mut notes: &[u8], align: usize) -> Option<&[u8]> {
    const GNU_BUILD_ID: u32 = 3;
    loop {
        let word =
            |at: usize| notes.get(at..).and_then(|rest| rest.first_chunk()).map(|word| u32::from_ne_bytes(*word));
        let (name_len, len, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let content = 12usize.checked_add(name_len)?.checked_next_multiple_of(align)?;
        let end = content.checked_add(len)?;
        if kind == GNU_BUILD_ID && notes.get(12..12 + name_len)? == b"GNU\0" {
            return notes.get(content..end);
        }
        notes = notes.get(end.checked_next_multiple_of(align)?..)?;
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;

    #[test]
    fn the_stack_begins_above_the_place_asked_for_and_lies_in_known_images() {
        let mut room = [0; 64];
        let here = core::ptr::from_ref(&room).addr();
        let addresses = addresses(&mut room, here);
        assert!(addresses.len() > 3);
        let program = images()[0];
        let me = the_stack_begins_above_the_place_asked_for_and_lies_in_known_images as fn() as usize as u64;
        assert!(program.contains(me) && program.contains(addresses[0]));
        for address in addresses {
            assert!(images().iter().any(|image| image.contains(*address)), "{address:#x}");
        }
    }

    #[test]
    fn a_stack_longer_than_the_room_is_cut() {
        let mut room = [0; 2];
        assert_eq!(addresses(&mut room, 0).len(), 2);
        assert_eq!(addresses(&mut [], 0).len(), 0);
    }

    #[test]
    fn build_ids_are_found_among_other_notes() {
        let mut notes = Vec::new();
        for (kind, name, content) in
            [(1u32, &b"GNU\0"[..], &[1u8; 16][..]), (3, b"Go\0", &[2; 5]), (3, b"GNU\0", &[7; 20])]
        {
            notes.extend((name.len() as u32).to_ne_bytes());
            notes.extend((content.len() as u32).to_ne_bytes());
            notes.extend(kind.to_ne_bytes());
            for part in [name, content] {
                notes.extend(part);
                notes.resize(notes.len().next_multiple_of(4), 0);
            }
        }
        assert_eq!(gnu_build_id(&notes, 4), Some(&[7; 20][..]));
        for end in 0..notes.len() {
            let _ = gnu_build_id(&notes[..end], 4);
        }
        assert_eq!(gnu_build_id(&[0xff; 64], 4), None);
    }

    #[test]
    fn threads_have_the_names_they_were_given() {
        let worker = std::thread::Builder::new().name("a-rather-long-name-ä".to_owned());
        let name = worker.spawn(|| thread_name(&mut [0; NAME_BYTES]).to_owned()).unwrap().join().unwrap();
        assert_eq!(name, "a-rather-long-n");
        assert_eq!(text("ä".as_bytes()), "ä");
        assert_eq!(text(&[b'a', 0xc3]), "a");
    }
}
