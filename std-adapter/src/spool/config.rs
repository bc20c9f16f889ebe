//! What a caller can say about the spool.
//!
//! In: calls on a [`ClientBuilder`]. Out: [`SpoolOptions`], clamped; nothing here touches a file.

use core::time::Duration;
use std::path::PathBuf;

use crate::config::ClientBuilder;

/// Least quota: a ring of the smallest size, and something to keep an outage in.
const BYTES_MIN: u64 = 4 * 1024 * 1024;

/// The spool as it was asked for.
#[derive(Clone, Debug)]
pub(crate) struct SpoolOptions {
    pub(crate) dir: Option<PathBuf>,
    pub(crate) bytes_max: u64,
    pub(crate) files_max: usize,
    pub(crate) age_max: Duration,
    /// Whether, and how often, to have everything on the disk.
    pub(crate) power_cut: Option<Duration>,
    pub(crate) report_unclean_end: bool,
}

impl Default for SpoolOptions {
    fn default() -> Self {
        Self {
            dir: None,
            bytes_max: 64 * 1024 * 1024,
            files_max: 100,
            age_max: Duration::from_secs(7 * 24 * 3600),
            power_cut: None,
            report_unclean_end: false,
        }
    }
}

/// The spool: a directory in which events outlive the process that captured them. Unix; elsewhere these are ignored, and
/// [`Client::durability`](crate::Client::durability) says so.
impl ClientBuilder {
    /// Keeps the queue in a file below this directory, which is made if it is not there. Default: none, the queue is lost
    /// with its process.
    ///
    /// The queue's memory *is* the file, so that whatever ends the process leaves every accepted event in it, and the
    /// next client on the directory, in whatever process, delivers it. Clients of several processes may share a directory;
    /// each has a file of its own, of eight times [`queue_bytes`](Self::queue_bytes) and some pages, set aside when the
    /// client is built. Only the user can read it. The directory should be on a local disk (or a `tmpfs`, which survives
    /// the process only, and never waits for a disk).
    ///
    /// Nothing about it makes [`build`](Self::build) fail: without room, rights or a suitable file system the queue is in
    /// memory, one line is logged, and [`Client::durability`](crate::Client::durability) says so.
    pub fn spool_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.spool.dir = Some(directory.into());
        self
    }

    /// Most bytes that files of this host and key may take in the spool. Default: 64 MiB; at least 4 MiB.
    ///
    /// Queues of living processes count, and come first. At the limit the oldest events of dead ones and of outages are
    /// dropped and counted.
    pub fn spool_bytes_max(mut self, bytes: u64) -> Self {
        self.spool.bytes_max = bytes.max(BYTES_MIN);
        self
    }

    /// Most files of this host and key in the spool. Default: 100; at least 2. At the limit as above.
    pub fn spool_files_max(mut self, files: usize) -> Self {
        self.spool.files_max = files.max(2);
        self
    }

    /// How long events wait in the spool for a server that takes them. Default: 7 days. Older ones are dropped and counted.
    pub fn spool_age_max(mut self, age: Duration) -> Self {
        self.spool.age_max = age;
        self
    }

    /// Has the flush thread write the queue to the disk this often, so that losing power loses no more than this and the
    /// length of a request that is out. Default: the system writes when it likes, within about 30 s. At least 10 ms.
    ///
    /// Costs a write to the disk per interval in which events came, and a capture that touches a page while it is being
    /// written may wait for it.
    pub fn power_cut_interval(mut self, interval: Duration) -> Self {
        self.spool.power_cut = Some(interval.max(Duration::from_millis(10)));
        self
    }

    /// Whether an event is sent for each process that ended without shutting its client down and left no record of why:
    /// killed, or out of memory. Default: `false`, as events are billed.
    pub fn report_unclean_end(mut self, report: bool) -> Self {
        self.spool.report_unclean_end = report;
        self
    }
}
