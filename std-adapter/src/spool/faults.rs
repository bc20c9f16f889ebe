//! A disk that a test is in charge of: it stands still, or refuses in the middle of a write.
//!
//! In: a directory, and what goes wrong with the files below it. Out: calls that wait or fail there; all others, those of
//! other tests too, go through. Only in this crate's own tests; the system gives nobody a slow disk for the asking.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Disks under the command of tests that run at this moment.
static DISKS: Mutex<Vec<Arc<Disk>>> = Mutex::new(Vec::new());

#[derive(Debug)]
pub(crate) struct Disk {
    below: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stands_still: bool,
    /// Threads that wait for it.
    waiting: usize,
    /// Writes that still go through, and then one that stops half-way.
    writes_left: Option<usize>,
}

/// Commands a disk, until it is dropped; everything goes on then.
pub(crate) struct Command(Arc<Disk>);

/// Takes command of what is below a directory.
pub(crate) fn command(below: &Path) -> Command {
    let disk = Arc::new(Disk { below: below.to_owned(), state: Mutex::default(), changed: Condvar::new() });
    disks().push(Arc::clone(&disk));
    Command(disk)
}

/// Before anything is done to a file: waits while the disk stands still.
pub(super) fn pass(path: &Path) {
    let Some(disk) = find(path) else { return };
    let mut state = disk.state();
    state.waiting += 1;
    disk.changed.notify_all();
    while state.stands_still {
        state = disk.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    state.waiting -= 1;
}

/// The same before a write of so many bytes: how many of them arrive, and whether there is an error then.
pub(super) fn pass_write(path: &Path, bytes: usize) -> (usize, io::Result<()>) {
    let Some(disk) = find(path) else { return (bytes, Ok(())) };
    let mut state = disk.state();
    match &mut state.writes_left {
        Some(0) => {
            state.writes_left = None;
            (bytes / 2, Err(io::ErrorKind::StorageFull.into()))
        }
        Some(left) => {
            *left -= 1;
            (bytes, Ok(()))
        }
        None => (bytes, Ok(())),
    }
}

fn disks() -> MutexGuard<'static, Vec<Arc<Disk>>> {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(path: &Path) -> Option<Arc<Disk>> {
    disks().iter().find(|disk| path.starts_with(&disk.below)).cloned()
}

impl Disk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Command {
    /// From now on nothing comes back from the disk.
    pub(crate) fn stand_still(&self) {
        self.0.state().stands_still = true;
    }

    pub(crate) fn go_on(&self) {
        self.0.state().stands_still = false;
        self.0.changed.notify_all();
    }

    /// Waits until somebody waits for the disk. Whether that came about in time.
    pub(crate) fn is_waited_for(&self, patience: Duration) -> bool {
        let nobody = |state: &mut State| !(state.stands_still && state.waiting > 0);
        let waited = self.0.changed.wait_timeout_while(self.0.state(), patience, nobody);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// After so many more writes, one stops half-way.
    pub(crate) fn fail_after_writes(&self, writes: usize) {
        self.0.state().writes_left = Some(writes);
    }
}

impl Drop for Command {
    fn drop(&mut self) {
        disks().retain(|disk| !Arc::ptr_eq(disk, &self.0));
        self.go_on();
    }
}
