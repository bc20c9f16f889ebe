//! Definitions shared between processes: one fetches, the others read its file.
//!
//! In: a document and its `ETag`. Out: the same, in another process. The file is replaced whole, by renaming; whoever finds
//! none, an old one or a broken one fetches for himself, so nothing that happens to it can do more harm than a request.
//!
//! ```text
//!  quillet-flags-<hash of the token>.json:   {"etag":"W/\"abc\""}   ← one line
//!                                            the document           ← the rest, as the server sent it
//! ```

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quillet_core::flags::Json;

use super::local::read_text;

/// The file of one project in a shared folder.
pub(super) struct SharedFile {
    path: PathBuf,
    temporary: PathBuf,
}

/// What was found in it.
pub(super) struct SharedDefinitions {
    pub(super) etag: Option<String>,
    pub(super) document: String,
}

impl SharedFile {
    /// The file for this token, below `folder`.
    pub(super) fn new(folder: &Path, token: &str) -> Self {
        // Not the token itself: file names get into logs. FNV-1a, which is the same in every process.
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let hash = token.bytes().fold(0xcbf2_9ce4_8422_2325, step);
        let name = format!("quillet-flags-{hash:016x}.json");
        Self { temporary: folder.join(format!(".{name}.{}", std::process::id())), path: folder.join(name) }
    }

    /// What is in it, if somebody wrote it less than `age` ago.
    pub(super) fn read_fresh(&self, age: Duration) -> Option<SharedDefinitions> {
        // A time in the future is a clock that was set; then nobody knows how old it is.
        let written = fs::metadata(&self.path).ok()?.modified().ok()?;
        if written.elapsed().ok()? >= age {
            return None;
        }
        let text = read_text(&self.path).ok()?;
        let (head, document) = text.split_once('\n')?;
        let etag = Json::parse(head).ok()?.member("etag").and_then(Json::as_text);
        Some(SharedDefinitions { etag: etag.map(|etag| etag.to_string()), document: document.to_owned() })
    }

    /// Replaces it. Only its owner may read it: definitions say who is in which test.
    pub(super) fn write(&self, etag: Option<&str>, document: &str) -> io::Result<()> {
        let _ = fs::remove_file(&self.temporary); // of an earlier process with this number
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.temporary)?;
        let etag = etag.filter(|etag| etag.bytes().all(|byte| byte >= b' ')).unwrap_or_default();
        let etag = etag.replace('\\', "\\\\").replace('"', "\\\"");
        let written = writeln!(file, "{{\"etag\":\"{etag}\"}}").and_then(|()| file.write_all(document.as_bytes()));
        drop(file);
        let renamed = written.and_then(|()| fs::rename(&self.temporary, &self.path));
        if renamed.is_err() {
            let _ = fs::remove_file(&self.temporary);
        }
        renamed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

    use super::*;

    /// A folder of this test's own, which goes when it is dropped.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("quillet-share-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn what_one_writes_another_reads() {
        let folder = Folder::new("both");
        let (one, other) = (SharedFile::new(&folder.0, "phc_a"), SharedFile::new(&folder.0, "phc_a"));
        assert!(other.read_fresh(LONG).is_none());
        for (etag, document) in [(Some("W/\"a\\b\""), "{\"flags\":\n[]}"), (None, "{}")] {
            one.write(etag, document).unwrap();
            let read = other.read_fresh(LONG).unwrap();
            assert_eq!(
                (read.etag.as_deref().filter(|etag| !etag.is_empty()), read.document.as_str()),
                (etag, document)
            );
        }
        assert!(other.read_fresh(Duration::ZERO).is_none(), "too old");
        assert!(SharedFile::new(&folder.0, "phc_b").read_fresh(LONG).is_none(), "another project");
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing is left behind");
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&one.path).unwrap().permissions());
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_broken_file_is_as_good_as_none() {
        let folder = Folder::new("broken");
        let file = SharedFile::new(&folder.0, "phc_a");
        for text in ["", "{}", "not json\n{}"] {
            fs::write(&file.path, text).unwrap();
            assert!(file.read_fresh(LONG).is_none(), "{text:?}");
        }
        assert!(SharedFile::new(&folder.0.join("none"), "phc_a").write(None, "{}").is_err());
    }
}
