//! A file of every released version, recovered for ever.
//!
//! In: `golden/spool-<version>.txt`, the bytes of a file that a killed process left, as text. Out: its five events, whatever
//! the layout of today is.

use crate::common::API_KEY;
use crate::image::{BOOT_ID_AT, Image};
use crate::victim::Folder;
use quillet::transport::memory::MemoryTransport;
use quillet::{ClientBuilder, Uuid};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

const V1_0: &str = include_str!("golden/spool-1.0.txt");
const V1_0_UUIDS: [&str; 5] = [
    "01a208aa-1906-7264-9c1f-148f46e3e9aa",
    "01a208aa-1906-727a-bd54-d8593e302b46",
    "01a208aa-1906-7123-9f7f-e044819c5fc7",
    "01a208aa-1906-7874-8c86-17819d6f93b0",
    "01a208aa-1906-7ec9-abc1-685915f672ea",
];
/// The directory of `http://spool.golden.test` and the tests' key: it must never be called otherwise.
const V1_0_DIRECTORY: &str = "posthog/v1/b5922742eb825504f9655b3eb6bd82af";

/// A file's name and its bytes.
fn parse(text: &str) -> (String, Image) {
    let (mut name, mut image) = (String::new(), Image(Vec::new()));
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap();
        match word {
            "name" => name = rest.to_owned(),
            "bytes" => image.0.resize(rest.parse().unwrap(), 0),
            at => {
                let at = usize::from_str_radix(at, 16).unwrap();
                let digits = |n: usize| u8::from_str_radix(&rest[2 * n..2 * n + 2], 16).unwrap();
                image.set(at, &(0..rest.len() / 2).map(digits).collect::<Vec<u8>>());
            }
        }
    }
    (name, image)
}

fn recover(name: &str, image: &Image) -> Vec<String> {
    let (folder, memory) = (Folder::new(), MemoryTransport::new());
    let mut directory = folder.path().to_owned();
    for part in V1_0_DIRECTORY.split('/') {
        directory.push(part);
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
    }
    image.write(&directory.join(name));
    let builder = ClientBuilder::new(API_KEY).host("http://spool.golden.test").transport(memory.clone());
    let client = builder.spool_dir(folder.path()).spool_age_max(Duration::MAX).enable_logging(false).build().unwrap();
    let report = client.shutdown();
    assert!(report.is_complete && report.stats.recovered == 5, "{report:?}");
    assert_eq!(folder.files().len(), 0);
    memory.events()
}

#[test]
fn a_file_of_version_1_0_is_recovered_after_a_reboot() {
    let (name, image) = parse(V1_0);
    let events = recover(&name, &image);
    let uuids: Vec<String> = events.iter().map(|event| event[9..45].to_owned()).collect();
    assert_eq!(uuids, V1_0_UUIDS);
    assert!(uuids.iter().all(|uuid| Uuid::parse(uuid).is_some()));
    assert!(events[4].contains("\"timestamp\":\"2026-11-2") && events[4].contains("\"seq\":4"), "{}", events[4]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_of_version_1_0_is_recovered_in_the_same_boot() {
    let (name, mut image) = parse(V1_0);
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    image.set(BOOT_ID_AT, Uuid::parse(boot.trim()).unwrap().as_bytes());
    image.seal();
    assert_eq!(recover(&name, &image).len(), 5);
}
