//! Directories that are not as they should be, or do not stay so. Nothing of it stops the program: what cannot be kept in a
//! file is kept in memory, and delivered from there.

#![cfg(target_os = "linux")]
#![allow(unsafe_code, reason = "whose process this is")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that fails should stop")]

mod common;

use common::{Scene, program};
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use torture::{PATIENCE, Said, Start, Victim};

/// A user without rights, for what root is not refused.
const NOBODY: u32 = 65_534;

/// Captures, and ends in order when told to; what was accepted has arrived.
#[track_caller]
fn lives_and_delivers(scene: Scene, start: &Start) -> Said {
    delivers(scene, start.spawn())
}

#[track_caller]
fn delivers(mut scene: Scene, victim: Victim) -> Said {
    victim.wait_for_accepted(100);
    let said = victim.stop(PATIENCE).unwrap();
    assert!(said.is_shut_down && said.status.unwrap().success(), "{said:?}");
    let said = scene.hear(said);
    scene.verdict();
    said
}

#[track_caller]
fn is_in_memory(said: &Said) {
    assert!(said.complaints.contains("durability=Memory"), "{}", said.complaints);
}

#[test]
fn the_path_is_a_file() {
    let mut scene = Scene::new();
    fs::write(scene.folder.spool(), "somebody's notes").unwrap();
    let (start, path) = (scene.start(), scene.folder.spool());
    let victim = start.spawn();
    victim.wait_for_accepted(1);
    assert_eq!(fs::read(path).unwrap(), b"somebody's notes");
    is_in_memory(&delivers(scene, victim));
}

#[test]
fn a_file_is_in_the_way_further_down() {
    let mut scene = Scene::new();
    fs::create_dir_all(scene.folder.spool().join("posthog")).unwrap();
    fs::write(scene.folder.spool().join("posthog/v1"), "").unwrap();
    let start = scene.start();
    is_in_memory(&lives_and_delivers(scene, &start));
}

/// Whoever can place a link must not get to say where events are written.
#[test]
fn a_symbolic_link_is_in_the_way() {
    let mut scene = Scene::new();
    let elsewhere = scene.folder.path().join("elsewhere");
    fs::create_dir_all(&elsewhere).unwrap();
    fs::create_dir_all(scene.folder.spool()).unwrap();
    symlink(&elsewhere, scene.folder.spool().join("posthog")).unwrap();
    let start = scene.start();
    let victim = start.spawn();
    victim.wait_for_accepted(1);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    is_in_memory(&delivers(scene, victim));
}

/// Links and pipes with a spool file's name are neither followed nor waited for.
#[test]
fn strange_files_lie_among_the_spools() {
    let mut scene = Scene::new();
    let first = scene.start().spawn();
    first.wait_for_accepted(10);
    let said = first.kill();
    scene.hear(said);
    let ring = scene.folder.files_with("ring").remove(0);
    let victims_own = scene.folder.path().join("notes");
    fs::write(&victims_own, "somebody's notes").unwrap();
    let named = |name: &str| ring.with_file_name(format!("1000000000000-1-{name}.ring"));
    symlink(&victims_own, named("000000000000000a")).unwrap();
    symlink("/dev/zero", named("000000000000000b")).unwrap();
    let pipe = std::ffi::CString::new(named("000000000000000c").to_str().unwrap()).unwrap();
    // SAFETY: a path that ends in a zero.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    fs::create_dir(named("000000000000000d")).unwrap();
    fs::write(named("000000000000000e"), vec![0xa5; 100_000]).unwrap();
    let start = scene.start();
    lives_and_delivers(scene, &start);
    assert!(!victims_own.exists(), "the folder is gone with the scene");
}

#[test]
fn a_directory_that_may_not_be_written() {
    // SAFETY: has no preconditions.
    let is_root = unsafe { libc::geteuid() } == 0;
    let mut scene = Scene::below(Path::new("/tmp"));
    fs::create_dir_all(scene.folder.spool()).unwrap();
    fs::set_permissions(scene.folder.spool(), Permissions::from_mode(0o555)).unwrap();
    let mut start = scene.start();
    if is_root {
        start.program = for_everybody(&scene);
        start.user = Some(NOBODY);
    }
    is_in_memory(&lives_and_delivers(scene, &start));
}

/// Other users may look into the directory that was given, or not: what is made below it is private.
#[test]
fn what_is_made_is_private_under_any_mask() {
    let mut scene = Scene::new();
    fs::create_dir_all(scene.folder.spool()).unwrap();
    fs::set_permissions(scene.folder.spool(), Permissions::from_mode(0o777)).unwrap();
    let victim = scene.start().spawn();
    victim.wait_for_accepted(10);
    assert_eq!(scene.folder.readable_by_others(), [] as [PathBuf; 0]);
    assert_eq!(scene.folder.files_with("ring").len(), 1);
    delivers(scene, victim);
}

/// Growing a file beyond the limit would be SIGXFSZ, and the end of the host.
#[test]
fn files_may_not_be_that_long() {
    for bytes in [0, 4096, 64 * 1024, 1024 * 1024] {
        let mut scene = Scene::new();
        let mut start = scene.start();
        start.file_bytes_max = Some(bytes);
        is_in_memory(&lives_and_delivers(scene, &start));
    }
}

#[test]
fn the_file_is_deleted_while_it_captures() {
    let mut scene = Scene::new();
    let victim = scene.start().spawn();
    victim.wait_for_accepted(10);
    for path in scene.folder.files() {
        fs::remove_file(path).unwrap();
    }
    delivers(scene, victim);
}

#[test]
fn the_directory_is_deleted_while_it_captures() {
    let mut scene = Scene::new();
    let victim = scene.start().spawn();
    victim.wait_for_accepted(10);
    fs::remove_dir_all(scene.folder.spool()).unwrap();
    delivers(scene, victim);
}

#[test]
fn its_rights_are_taken_while_it_captures() {
    let mut scene = Scene::new();
    let victim = scene.start().spawn();
    victim.wait_for_accepted(10);
    for path in scene.folder.files() {
        fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
    }
    delivers(scene, victim);
}

/// What was in the part that was cut off is lost, and whoever cut it has done that. The host lives, whatever it touches, and
/// everything else arrives: what is lost is counted, and nothing else.
#[test]
fn the_file_is_cut_short_while_it_captures() {
    for (bytes, rate) in [(0, 0), (5000, 0), (130_000, 0), (300_000, 0), (0, 2000), (130_000, 2000)] {
        let mut scene = Scene::new();
        let mut start = scene.start();
        start.rate = rate;
        let victim = start.spawn();
        victim.wait_for_accepted(100);
        for path in scene.folder.files_with("ring") {
            OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
        }
        let so_far = victim.said_so_far().accepted.len();
        let goes_on = victim.wait_until(|said| said.accepted.len() >= so_far + 500, PATIENCE);
        let said = victim.stop(PATIENCE).unwrap();
        assert!(goes_on && said.status.unwrap().success() && said.is_shut_down, "cut to {bytes}: {said:?}");
        scene.sink.assert_clean();
        let counts = said.complaints.lines().find(|line| line.starts_with("conserved=true")).unwrap();
        let dropped = counts.split_once(" dropped: [").unwrap().1.split_once(']').unwrap().0;
        let lost: usize = dropped.split(", ").map(|count| count.parse::<usize>().unwrap()).sum();
        assert_eq!(scene.sink.stored().len() + lost, said.accepted.len(), "cut to {bytes}: {counts}");
        assert_eq!(scene.folder.files(), [] as [PathBuf; 0]);
    }
}

/// A disk with so much room, or none, in a mount namespace of its own: for root, or where users may have namespaces.
#[test]
fn the_disk_is_full() {
    for kib in [0, 64, 1024, 3072] {
        let mut scene = Scene::new();
        let root = scene.folder.spool();
        fs::create_dir_all(&root).unwrap();
        // At least a page: a size of 0 means no limit. Then that page is taken.
        let mount = format!(
            "mount -t tmpfs -o size={}k tmpfs '{root}' && {{ [ {kib} != 0 ] || head -c 4096 /dev/zero >'{root}/full'; }}",
            kib.max(4),
            root = root.display()
        );
        if !can_mount(&mount) {
            eprintln!("not tested: nothing can be mounted here");
            return;
        }
        let mut start = scene.start();
        start.program =
            script(&scene, &format!("exec unshare -Urm sh -c \"{mount} && exec '{}'\"", program().display()));
        let said = lives_and_delivers(scene, &start);
        assert_eq!(said.complaints.contains("durability=Memory"), kib < 3072, "{kib} KiB: {}", said.complaints);
    }
}

fn can_mount(mount: &str) -> bool {
    Command::new("unshare").args(["-Urm", "sh", "-c", mount]).output().is_ok_and(|output| output.status.success())
}

/// A program in the scene's folder that runs this.
fn script(scene: &Scene, text: &str) -> PathBuf {
    let path = scene.folder.path().join("start");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path
}

/// The victim where everybody can run it, in a folder that everybody can enter.
fn for_everybody(scene: &Scene) -> PathBuf {
    let path = scene.folder.path().join("victim");
    fs::copy(program(), &path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(scene.folder.path(), Permissions::from_mode(0o755)).unwrap();
    path
}
