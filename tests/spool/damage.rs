//! Files that are not as their process left them: by a power cut, a failing disk, another version, or a hostile hand.

use crate::common::{PATIENCE, stored};
use crate::image::{ATTEMPTS_AT, CAPACITY_WORD, FILE_BYTES_AT, HEAD_WORD, Image, LANE_BYTES_AT, LANES_AT, MAJOR_AT};
use crate::victim::{Folder, Victim, become_one_if_asked, eventually, spooling};
use quillet::{DropReason, Stats};
use quillet_support::Sink;
use std::path::PathBuf;

/// A dead process's file, and who captured what in it.
struct Remains {
    folder: Folder,
    sink: Sink,
    ring: PathBuf,
    uuids: Vec<String>,
}

impl Remains {
    fn of(test: &str, events: usize) -> Self {
        let (folder, sink) = (Folder::new(), Sink::start());
        let victim = Victim::start(test, &sink.host(), folder.path(), events);
        let ring = folder.files_with("ring").pop().unwrap();
        eventually("checkpoints of everything", || Image::read(&ring).is_covered());
        let uuids = victim.kill();
        Self { folder, sink, ring, uuids }
    }

    fn change(&self, change: impl FnOnce(Image) -> Image) {
        change(Image::read(&self.ring)).write(&self.ring);
    }

    /// What the next start makes of it: its counters, and which of the events the sink has then, by their numbers.
    fn recover(&self) -> (Stats, Vec<usize>) {
        let report = spooling(self.sink.host(), self.folder.path()).build().unwrap().shutdown();
        assert!(report.stats.is_conserved(), "{report:?}");
        self.sink.assert_clean();
        let stored = stored(&self.sink);
        (report.stats, (0..self.uuids.len()).filter(|&n| stored.contains(&self.uuids[n])).collect())
    }

    /// Every event that arrived is one that was captured, and carries its own number.
    fn check_identities(&self) {
        for event in self.sink.stored() {
            let number = event.property("seq").as_u64().unwrap() as usize;
            assert_eq!(event.uuid(), self.uuids[number]);
        }
    }
}

#[test]
fn after_a_reboot_everything_with_a_checkpoint_is_delivered() {
    become_one_if_asked();
    let remains = Remains::of("damage::after_a_reboot_everything_with_a_checkpoint_is_delivered", 500);
    remains.change(Image::after_a_reboot);
    let (stats, delivered) = remains.recover();
    assert_eq!((stats.recovered, stats.delivered, delivered.len()), (500, 500, 500));
    remains.check_identities();
    assert_eq!(remains.folder.files().len(), 0);
}

#[test]
fn pages_that_a_power_cut_did_not_write_cost_their_own_events_only() {
    become_one_if_asked();
    let remains = Remains::of("damage::pages_that_a_power_cut_did_not_write_cost_their_own_events_only", 500);
    remains.change(|image| {
        let mut image = image.after_a_reboot();
        let (at, len) = (image.frames().0, image.frames().1.len());
        let page = (at + len / 2) & !4095;
        image.set(page, &[0; 4096]);
        image
    });
    let (stats, delivered) = remains.recover();
    // A stretch is a twenty-fourth of the lane; a page lies in two of them at most, which are some 130 events.
    assert!((300..480).contains(&delivered.len()), "{} of 500", delivered.len());
    assert!(stats.dropped_for(DropReason::Damaged) > 0);
    remains.check_identities();
}

#[test]
fn an_older_page_in_the_place_of_a_newer_one_is_noticed() {
    become_one_if_asked();
    let remains = Remains::of("damage::an_older_page_in_the_place_of_a_newer_one_is_noticed", 500);
    remains.change(|image| {
        let mut image = image.after_a_reboot();
        // Whole frames of the same file in another's place: each parses, and none belongs here.
        let (at, frames) = image.frames();
        let end = |from: usize| from + frames[from..].iter().position(|&byte| byte == b'\n').unwrap() + 1;
        // Numbers of three digits, as from the hundredth event on.
        let (first, other) = ((0..120).fold(0, |at, _| end(at)), end(frames.len() / 2));
        let (source, len) = (frames[first..end(first)].to_vec(), end(other) - other);
        assert_eq!(source.len(), len, "frames of equal length");
        image.set(at + other, &source);
        image
    });
    let (_, delivered) = remains.recover();
    assert!(delivered.len() < 500);
    assert_eq!(remains.sink.view(|journal| journal.duplicates()), 0, "the copy was not sent");
    remains.check_identities();
}

#[test]
fn one_damaged_event_does_not_cost_its_neighbours() {
    become_one_if_asked();
    let remains = Remains::of("damage::one_damaged_event_does_not_cost_its_neighbours", 50);
    remains.change(|mut image| {
        let at = image.frames().0;
        image.set(at + 20, &[0]);
        image
    });
    let (stats, delivered) = remains.recover();
    assert_eq!((stats.recovered, stats.delivered, stats.dropped_for(DropReason::Damaged)), (50, 49, 1));
    assert_eq!(delivered, (1..50).collect::<Vec<_>>());
    assert_eq!(remains.folder.files().len(), 0);
}

#[test]
fn a_file_that_says_nonsense_is_put_aside() {
    become_one_if_asked();
    let remains = Remains::of("damage::a_file_that_says_nonsense_is_put_aside", 5);
    remains.change(|mut image| {
        image.set(0, b"nonsense");
        image
    });
    assert_eq!(remains.recover().0.recovered, 0);
    assert_eq!((remains.folder.files_with("bad").len(), remains.folder.files().len()), (1, 1));
    assert_eq!(remains.recover().0.recovered, 0, "and left alone");
}

#[test]
fn a_file_that_was_shortened_is_put_aside() {
    become_one_if_asked();
    let remains = Remains::of("damage::a_file_that_was_shortened_is_put_aside", 5);
    remains.change(|mut image| {
        image.0.truncate(image.0.len() / 2);
        image
    });
    assert_eq!(remains.recover().0.recovered, 0);
    assert_eq!(remains.folder.files_with("bad").len(), 1);
}

#[test]
fn a_file_that_ended_three_recoveries_is_put_aside_and_counted() {
    become_one_if_asked();
    let remains = Remains::of("damage::a_file_that_ended_three_recoveries_is_put_aside_and_counted", 5);
    remains.change(|mut image| {
        image.set(ATTEMPTS_AT, &3_u32.to_le_bytes());
        image
    });
    let (stats, delivered) = remains.recover();
    assert_eq!((stats.recovered, stats.dropped_for(DropReason::Damaged), delivered.len()), (5, 5, 0));
    assert_eq!(remains.folder.files_with("bad").len(), 1);
}

#[test]
fn positions_that_contradict_each_other_are_given_up_after_three_attempts() {
    become_one_if_asked();
    let remains = Remains::of("damage::positions_that_contradict_each_other_are_given_up_after_three_attempts", 5);
    remains.change(|mut image| {
        image.set(LANES_AT + HEAD_WORD, &u64::MAX.to_le_bytes());
        image
    });
    // The second and the third come when the process has lived for a second, and for five.
    let client = crate::victim::spooling(remains.sink.host(), remains.folder.path()).build().unwrap();
    let started = std::time::Instant::now();
    while remains.folder.files_with("bad").is_empty() {
        assert!(started.elapsed() < PATIENCE, "it was not given up");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(client.stats().delivered, 0);
}

#[test]
fn a_file_of_another_version_is_left_to_whoever_can_read_it() {
    become_one_if_asked();
    let remains = Remains::of("damage::a_file_of_another_version_is_left_to_whoever_can_read_it", 5);
    remains.change(|mut image| {
        image.set(MAJOR_AT, &2_u16.to_le_bytes());
        image.seal();
        image
    });
    assert_eq!(remains.recover().0.recovered, 0);
    assert_eq!(remains.folder.files(), std::slice::from_ref(&remains.ring));
    remains.change(|mut image| {
        image.set(MAJOR_AT, &1_u16.to_le_bytes());
        image.seal();
        image
    });
    assert_eq!(remains.recover().0.delivered, 5);
    assert!(remains.sink.wait_for_events(5, PATIENCE));
}

/// Most memory this process ever had, in bytes, of which a read page is part and an untouched one is not.
#[cfg(target_os = "linux")]
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

/// A file takes no room on the disk by being long, so whoever makes one must not cost its readers the memory.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_says_it_is_large_costs_no_memory() {
    const LANE: u64 = (1 << 30) + 4096;
    become_one_if_asked();
    let remains = Remains::of("damage::a_file_that_says_it_is_large_costs_no_memory", 5);
    let original = Image::read(&remains.ring);
    let before = peak_memory();
    for capacity in [None, Some(1_u64 << 30), Some(1 << 63)] {
        let mut image = Image(original.0[..LANES_AT + 4096].to_vec());
        let whole = LANES_AT as u64 + 9 * LANE;
        image.set(LANE_BYTES_AT, &LANE.to_le_bytes());
        image.set(FILE_BYTES_AT, &whole.to_le_bytes());
        image.seal();
        match capacity {
            // Nothing in the lane says that it is a ring.
            None => image.set(LANES_AT, &[0; 256]),
            Some(capacity) => image.set(LANES_AT + CAPACITY_WORD, &capacity.to_le_bytes()),
        }
        image.write(&remains.ring);
        std::fs::File::options().write(true).open(&remains.ring).unwrap().set_len(whole).unwrap();
        let (stats, _) = remains.recover();
        let is_ring = capacity == Some(1 << 30);
        assert_eq!(stats.delivered, if is_ring { 5 } else { 0 }, "{capacity:?} {stats:?}");
        remains.folder.files().iter().for_each(|path| std::fs::remove_file(path).unwrap());
    }
    let grown = peak_memory() - before;
    assert!(grown < 256 << 20, "{grown} bytes more");
}

#[test]
fn nothing_in_a_file_makes_the_next_start_panic() {
    become_one_if_asked();
    let remains = Remains::of("damage::nothing_in_a_file_makes_the_next_start_panic", 20);
    let original = Image::read(&remains.ring);
    let mut state = 0x5eed_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    for round in 0..60 {
        let mut image = Image(original.0.clone());
        for _ in 0..1 + round % 8 {
            // Where it hurts: the header, the control page, the words of the first ring, its frames.
            let place = [0, 4096, LANES_AT, LANES_AT + 128, LANES_AT + 256][random() % 5];
            image.set(place + random() % 64, &[random() as u8]);
        }
        if round % 2 == 0 {
            image.seal();
        }
        remains.folder.files().iter().for_each(|path| std::fs::remove_file(path).unwrap());
        image.write(&remains.ring);
        let (_, delivered) = remains.recover();
        assert!(delivered.len() <= 20);
    }
    remains.check_identities();
}
