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
    /// At most 32 files are kept for a server that cannot be reached; the events of older ones are counted as dropped.
    ///
    /// With a spool that works this does nothing: the queue is in a file already. Unix only, so far.
    pub fn crash_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.crash.dir = Some(dir.into());
        self
    }
}
