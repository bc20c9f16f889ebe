//! Whatever is wrong with the directory, the host program is none the worse for it.

use crate::common::{PATIENCE, capture, check, conserved, fates};
use crate::victim::{Folder, Victim, become_one_if_asked, spooling};
use quillet::Durability;
use quillet_support::Sink;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A client on this directory is in memory, and works.
#[track_caller]
fn falls_back_to_memory(what: &str, dir: &Path) {
    let sink = Sink::start();
    let client = spooling(sink.host(), dir).build().unwrap();
    assert_eq!(client.durability(), Durability::Memory, "{what}");
    capture(&client, "all the same", 3);
    assert!(client.shutdown().is_complete, "{what}");
    assert_eq!(fates(&check(&client, &sink)), (3, 0, 0, 0), "{what}");
}

/// The directory that a client of this host would use, without a client.
fn branch(folder: &Folder, sink: &Sink) -> PathBuf {
    drop(spooling(sink.host(), folder.path()).build().unwrap());
    let v1 = folder.path().join("posthog/v1");
    fs::read_dir(v1).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn only_the_user_can_read_what_is_in_the_spool() {
    let (folder, sink) = (Folder::new(), Sink::start());
    let client = spooling(sink.host(), &folder.path().join("made/for/it")).build().unwrap();
    assert_eq!(client.durability(), Durability::Reboot);
    let mut path = folder.files_with("ring").pop().unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    while path.pop() && path != folder.path() {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700, "{}", path.display());
    }
    drop(client);
}

#[test]
fn a_directory_that_cannot_be_had_is_done_without() {
    let folder = Folder::new();
    let file = folder.path().join("a file");
    fs::write(&file, "in the way").unwrap();
    falls_back_to_memory("a file in its place", &file);
    falls_back_to_memory("a file in its path", &file.join("below"));
    falls_back_to_memory("a place where nothing can be made", Path::new("/proc/quillet"));
    fs::write(folder.path().join("posthog"), "in the way").unwrap();
    falls_back_to_memory("a file in place of a directory of ours", folder.path());
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    symlink(elsewhere.path(), folder.path().join("posthog")).unwrap();
    falls_back_to_memory("a link in place of a directory of ours", folder.path());
    assert_eq!(elsewhere.files(), [] as [PathBuf; 0]);
}

#[test]
fn a_directory_that_others_can_enter_is_not_used() {
    let (folder, sink) = (Folder::new(), Sink::start());
    let branch = branch(&folder, &sink);
    fs::set_permissions(&branch, Permissions::from_mode(0o755)).unwrap();
    let client = spooling(sink.host(), folder.path()).build().unwrap();
    assert_eq!(client.durability(), Durability::Memory);
}

#[test]
fn no_room_within_the_quota_means_memory() {
    let (folder, sink) = (Folder::new(), Sink::start());
    let large = || spooling(sink.host(), folder.path()).queue_bytes(512 * 1024).spool_bytes_max(0);
    assert_eq!(large().build().unwrap().durability(), Durability::Memory, "over 4 MiB by itself");
    assert_eq!(folder.files(), [] as [PathBuf; 0]);
    let first = spooling(sink.host(), folder.path()).spool_bytes_max(0).build().unwrap();
    assert_eq!(first.durability(), Durability::Reboot);
    let second = spooling(sink.host(), folder.path()).spool_bytes_max(0).build().unwrap();
    assert_eq!(second.durability(), Durability::Memory, "a living client's file is never removed");
    capture(&first, "e", 1);
    assert!(first.shutdown().is_complete);
}

#[test]
fn a_limit_on_the_size_of_files_does_not_kill_the_program() {
    if let Ok(dir) = std::env::var("QUILLET_TEST_LIMITED") {
        return falls_back_to_memory("a limit of 100 blocks", Path::new(&dir));
    }
    let folder = Folder::new();
    let itself = std::env::current_exe().unwrap();
    let command = format!(
        "ulimit -f 100 && exec '{}' --exact safety::a_limit_on_the_size_of_files_does_not_kill_the_program",
        itself.display()
    );
    let output = Command::new("sh").args(["-c", &command]).env("QUILLET_TEST_LIMITED", folder.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(folder.files(), [] as [PathBuf; 0]);
}

/// A file system of 2 MiB, in a namespace of mounts that goes with the process.
#[test]
fn a_full_file_system_means_memory() {
    if let Ok(dir) = std::env::var("QUILLET_TEST_FULL") {
        return falls_back_to_memory("a file system without room", Path::new(&dir));
    }
    let folder = Folder::new();
    let (dir, itself) = (folder.path().display(), std::env::current_exe().unwrap());
    let command = format!(
        "mount -t tmpfs -o size=2m tmpfs '{dir}' || exit 77
         exec '{}' --exact safety::a_full_file_system_means_memory",
        itself.display()
    );
    let mut unshared = Command::new("unshare");
    unshared.args(["--user", "--map-root-user", "--mount", "sh", "-c", &command]);
    let output = unshared.env("QUILLET_TEST_FULL", folder.path()).output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) if output.status.code() == Some(101) => panic!("{output:?}"),
        // No namespaces for this user, or no such program.
        other => println!("not tried, no file system can be mounted here: {other:?}"),
    }
}

#[test]
fn a_file_system_in_memory_survives_the_process_only() {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        return println!("not tried, there is no /dev/shm");
    }
    let (folder, sink) = (Folder::below(shm), Sink::start());
    let client = spooling(sink.host(), folder.path()).build().unwrap();
    assert_eq!(client.durability(), Durability::Process);
    let client = spooling(sink.host(), folder.path()).power_cut_interval(Duration::from_secs(1)).build().unwrap();
    assert_eq!(client.durability(), Durability::Process, "no interval makes memory a disk");
    drop(client);
}

#[test]
fn a_removed_file_keeps_nothing_and_harms_nothing() {
    let (folder, sink) = (Folder::new(), Sink::start());
    let client = spooling(sink.host(), folder.path()).build().unwrap();
    fs::remove_file(folder.files_with("ring").pop().unwrap()).unwrap();
    assert_eq!(client.durability(), Durability::Memory);
    capture(&client, "delivered all the same", 5);
    assert!(client.shutdown().is_complete);
    assert_eq!(fates(&check(&client, &sink)), (5, 0, 0, 0));
}

#[test]
fn only_what_a_spool_file_must_be_is_adopted() {
    become_one_if_asked();
    let (folder, sink) = (Folder::new(), Sink::start());
    let test = "safety::only_what_a_spool_file_must_be_is_adopted";
    Victim::start(test, &sink.host(), folder.path(), 5).kill();
    let ring = folder.files_with("ring").pop().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    // Two names: somebody has a copy of the name, and may write to it.
    fs::hard_link(&ring, &elsewhere).unwrap();
    let recovered = || {
        let report = spooling(sink.host(), folder.path()).build().unwrap().shutdown();
        assert!(report.stats.is_conserved());
        report.stats.recovered
    };
    assert_eq!(recovered(), 0, "a file with two names");
    fs::remove_file(&ring).unwrap();
    symlink(&elsewhere, &ring).unwrap();
    assert_eq!(recovered(), 0, "a symbolic link");
    fs::remove_file(&ring).unwrap();
    assert!(Command::new("mkfifo").arg(&ring).status().unwrap().success());
    assert_eq!(recovered(), 0, "a pipe, opening which would wait for somebody");
    fs::remove_file(&ring).unwrap();
    fs::create_dir(&ring).unwrap();
    assert_eq!(recovered(), 0, "a directory");
    fs::remove_dir(&ring).unwrap();
    fs::rename(&elsewhere, &ring).unwrap();
    assert_eq!(recovered(), 5, "and the file itself");
    assert!(sink.wait_for_events(5, PATIENCE));
}

#[test]
fn durability_is_what_was_reached() {
    let (folder, sink) = (Folder::new(), Sink::start());
    let memory = crate::common::quick(sink.host()).build().unwrap();
    assert_eq!(memory.durability(), Durability::Memory);
    let interval = Duration::from_millis(50);
    let synced = spooling(sink.host(), folder.path()).power_cut_interval(interval).build().unwrap();
    assert_eq!(synced.durability(), Durability::PowerCut(interval));
    capture(&synced, "e", 10);
    synced.flush(PATIENCE).unwrap();
    conserved(&synced);
    assert_eq!(quillet::Client::disabled().durability(), Durability::Memory);
}
