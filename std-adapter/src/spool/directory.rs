//! The directory that spool files of one host and key share.
//!
//! In: the caller's directory, and whose events they are. Out: a directory of our own below it that nobody else can read,
//! names for new files, and what is there, oldest first.

use std::fs::{DirBuilder, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use quillet_core::Timestamp;

use super::map::effective_user;

/// Below the caller's directory. The version is that of the names and of what they mean.
const BRANCH: [&str; 2] = ["posthog", "v1"];

/// What a file in the directory is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A process's queue.
    Ring,
    /// Events moved out of a queue in an outage.
    Segment,
    /// Something that could not be read three times.
    Bad,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Ring, Self::Segment, Self::Bad];

    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Segment => "seg",
            Self::Bad => "bad",
        }
    }
}

/// A file as a look into the directory shows it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    /// When it was made, by its name.
    pub(crate) made: Timestamp,
    /// When it was last written to, as the file system has it.
    pub(crate) changed: Timestamp,
    /// What it takes on the disk, in bytes.
    pub(crate) disk_bytes: u64,
}

/// A directory of our own, 0700.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Makes or finds the directory for `owner` below `root`.
    ///
    /// # Errors
    ///
    /// Whatever stands in the way: a file, a symbolic link, another user's directory, one that others can enter.
    pub(crate) fn open(root: &Path, owner: u128) -> io::Result<Self> {
        let mut builder = DirBuilder::new();
        builder.mode(0o700);
        if !root.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        }
        let mut path = root.to_owned();
        let name = format!("{owner:032x}");
        for part in BRANCH.into_iter().chain([name.as_str()]) {
            path.push(part);
            match builder.create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if !is_private(&path.symlink_metadata()?) {
                return Err(io::ErrorKind::PermissionDenied.into());
            }
        }
        Ok(Self { path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Has names that were given or taken on the disk when it returns.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// A name that no file has.
    pub(crate) fn name(&self, now: Timestamp, random: u64, kind: Kind) -> PathBuf {
        let (ms, pid) = (now.as_unix_ms(), std::process::id());
        self.path.join(format!("{ms:013}-{pid}-{random:016x}.{}", kind.extension()))
    }

    /// What is there, oldest first. Files with names that are none of ours are not.
    pub(crate) fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let path = entry?.path();
            let Some((kind, made)) = parse(&path) else { continue };
            let Ok(metadata) = path.symlink_metadata() else { continue };
            let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let changed = changed.map_or(made, |since| {
                Timestamp::from_unix_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
            });
            entries.push(Entry { path, kind, made, changed, disk_bytes: disk_bytes(&metadata) });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }
}

/// What a file takes on the disk, which holes do not.
pub(crate) fn disk_bytes(metadata: &Metadata) -> u64 {
    metadata.blocks().saturating_mul(512)
}

/// Whether this is a directory of this user's that nobody else can look into.
fn is_private(metadata: &Metadata) -> bool {
    metadata.is_dir() && metadata.uid() == effective_user() && metadata.mode() & 0o077 == 0
}

fn parse(path: &Path) -> Option<(Kind, Timestamp)> {
    let extension = path.extension()?.to_str()?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.extension() == extension)?;
    let (ms, _) = path.file_stem()?.to_str()?.split_once('-')?;
    Some((kind, Timestamp::from_unix_ms(ms.parse().ok()?)))
}
