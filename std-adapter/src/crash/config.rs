//! The options that matter only when something goes wrong.
//!
//! In: what a caller set on a [`ClientBuilder`]. Out: [`CrashOptions`].

use crate::config::ClientBuilder;

/// What is done at a crash. Plain data.
#[derive(Debug, Default, Clone)]
pub(crate) struct CrashOptions {
    pub(crate) person: String,
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
}
