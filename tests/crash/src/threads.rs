//! On which thread the end comes: the first one, one of the standard library's, one that C made.

#![allow(unsafe_code, reason = "a thread that the standard library knows nothing of")]

use core::ffi::c_void;
use std::thread;

use quillet::Client;

use crate::{Request, end};

/// Ends on the thread asked for. Returns if a program survives this end there.
pub(crate) fn run(request: &Request, client: &Client) {
    match request.thread.as_str() {
        "main" => end::end(request, client),
        "std" => thread::scope(|scope| {
            let end = || end::end(request, client);
            let worker = thread::Builder::new().name("worker".to_owned()).spawn_scoped(scope, end).unwrap();
            // Whoever joins a thread may live on without it.
            let _ = worker.join();
        }),
        "c" => in_c_thread(&mut || end::end(request, client)),
        other => panic!("no thread called {other}"),
    }
}

/// Runs `work` on a thread made with `pthread_create`: no name, no alternate stack, nothing of the standard library's.
fn in_c_thread(work: &mut dyn FnMut()) {
    extern "C" fn start(work: *mut c_void) -> *mut c_void {
        // SAFETY: the pointer given to `pthread_create` below, which nothing else uses until this thread is joined.
        let work = unsafe { &mut *work.cast::<&mut dyn FnMut()>() };
        work();
        core::ptr::null_mut()
    }

    let mut work = work;
    let mut thread = 0;
    // SAFETY: `start` has the signature asked for, and what it is given lives until the thread was joined.
    unsafe {
        let made = libc::pthread_create(&raw mut thread, core::ptr::null(), start, (&raw mut work).cast());
        assert_eq!(made, 0);
        libc::pthread_join(thread, core::ptr::null_mut());
    }
}
