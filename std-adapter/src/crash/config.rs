//! The options that matter only when something goes wrong.
//!
//! In: what a caller set on a [`ClientBuilder`]. Out: [`CrashOptions`].

use std::path::PathBuf;

use crate::config::ClientBuilder;

/// What is done at a crash. Plain data.
#[derive(Debug, Default, Clone)]
pub(crate) struct CrashOptions {
    pub(crate) person: String,
    pub(crate) dir: Option<PathBuf>,
}

impl ClientBuilder {
    /// The person that panics and crashes are reported of: 1 to 200 characters. Default: none, so that they are personless.
    ///
    /// One for the whole client, because a hook cannot know whom a thread was working for. Set it where a program has one
    /// user, as on a desktop or a device. An id that the server would not take counts as none.
    pub fn crash_distinct_id(mut self, distinct_id: impl Into<String>) -> Self {
        self.crash.person = distinct_id.into();
        self
    }

    /// A directory for crash files, for programs without a spool. Default: none, and no location is implied.
    ///
    /// A file `quillet-crash-<uuid>.jsonl`, for this user alone, is made there when the client is built, and removed when it
    /// is dropped. The panic hook, the signal handlers, an exception of level `fatal` and
    /// [`write_crash_file`](crate::Client::write_crash_file) write everything that is pending into it, in one write; the
    /// next client on the directory delivers it and removes it. The directory is made if it is not there. If anything about
    /// it fails, the client works without, and says so once in the log.
    ///
    /// For a server that cannot be reached, this project's last 32 files are kept, 64 MiB of them (the newest in any case) and
    /// none for longer than 7 days after it was written; the events of those that go are counted as dropped. At most 16
    /// files, or 8 MiB, are in memory at a time; the others have their turn when these are answered for. Several projects may
    /// share a directory: another one's files are left alone until they are 7 days old. Up to 3 files that are no crash files
    /// are put aside as `.bad`, as long.
    /// [`opt_out`](crate::Client::opt_out) and [`discard`](crate::Client::discard) erase this project's files and those put
    /// aside.
    ///
    /// With a spool that works this does nothing: the queue is in a file already. Unix only, so far.
    pub fn crash_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.crash.dir = Some(dir.into());
        self
    }
}
