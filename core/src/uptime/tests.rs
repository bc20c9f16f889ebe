//! Devices without a clock, over several boots: every event gets one time, whatever happens in between.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test that fails should stop")]
use super::*;
use crate::{
    Action, Common, Consumer, Envelope, Event, Flusher, Lane, Outcome, Policy, Property, Ring, Stamper, Trust, Uuid,
};
use proptest::prelude::*;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

const SECOND: u64 = 1_000_000;
/// 2026-11-13T12:00:00Z.
const NOON: u64 = 1_794_571_200 * SECOND;

fn at(seconds: u64) -> Instant {
    Instant::from_micros(seconds * SECOND)
}

fn wall(seconds: u64) -> Timestamp {
    Timestamp::from_unix_micros(NOON + seconds * SECOND)
}

/// RAM that a reset does not clear.
struct Device {
    ring: Vec<u8>,
    boots: [u8; Boots::BYTES],
    seed: u64,
}

impl Device {
    fn new() -> Self {
        Self { ring: std::vec![0xaa; Ring::bytes_for(16 * 1024)], boots: [0xaa; Boots::BYTES], seed: 0 }
    }

    /// One boot: attaches or formats the ring, then lets the program run.
    fn boot<T>(&mut self, program: impl FnOnce(&mut Lane<'_>, Consumer<'_>, &mut Boots<'_>) -> T) -> T {
        let recovers = Ring::recover(&mut self.ring, Trust::Positions).is_ok();
        let ring = if recovers { Ring::attach(&mut self.ring) } else { Ring::format(&mut self.ring) }.unwrap();
        let mut boots = Boots::begin(&mut self.boots, ring.pending() == 0);
        let (producer, consumer) = ring.split();
        self.seed += 1;
        let mut lane = Lane::new(producer, Stamper::new([self.seed, 1]), 1000, 1024);
        program(&mut lane, consumer, &mut boots)
    }
}

fn capture(lane: &mut Lane<'_>, boots: &Boots<'_>, name: &str, uptime: Instant) -> Uuid {
    let mark = [Property::new(MARK.0, MARK.1)];
    let mut memory = [0; 160];
    let common = Common::render(&mut memory, &mark).unwrap();
    lane.capture(&Event::new(name, "device"), &common, boots.timestamp(uptime)).unwrap()
}

fn flusher<'m>(consumer: Consumer<'m>) -> Flusher<'m, 1> {
    Flusher::new([consumer], Envelope::new("k", false).unwrap(), Policy::default(), [1, 2])
}

/// Name, timestamp, uuid's milliseconds and mark of all that is sent; answers with `outcome`.
fn sent(flusher: &mut Flusher<'_, 1>, outcome: Outcome) -> Vec<(String, String, String, u64)> {
    flusher.flush();
    let Action::Send(batch) = flusher.poll(Instant::ZERO) else { return Vec::new() };
    let events = batch.frames().map(|frame| {
        let event: serde_json::Value = serde_json::from_slice(frame).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_string();
        let ms = Uuid::parse(event["uuid"].as_str().unwrap()).unwrap().unix_ms().unwrap();
        (text(&event["event"]), text(&event["timestamp"]), text(&event["properties"]["event_time"]), ms)
    });
    let events = events.collect();
    flusher.handle_outcome(Instant::ZERO, outcome);
    events
}

fn event(name: &str, time: Timestamp, mark: &str) -> (String, String, String, u64) {
    (name.to_string(), time.to_string(), mark.to_string(), time.as_unix_ms())
}

#[test]
fn events_before_the_time_was_known_get_it_to_the_microsecond() {
    Device::new().boot(|lane, consumer, boots| {
        let mut flusher = flusher(consumer);
        let before = capture(lane, boots, "early", at(3));
        assert_eq!(flusher.settle_times(boots), Settled { unset: 1, ..Settled::default() });
        boots.set_wall_time(wall(100), at(10));
        capture(lane, boots, "late", at(12));
        assert_eq!(flusher.settle_times(boots), Settled { exact: 1, ..Settled::default() });
        assert_eq!(flusher.settle_times(boots), Settled::default(), "once");
        let events = sent(&mut flusher, Outcome::status(200));
        assert_eq!(events[0], event("early", wall(93), "exact"));
        // A lane may be a microsecond ahead of its clock.
        assert_eq!((&events[1].1[..25], events[1].2.as_str()), (&wall(102).to_string()[..25], "unset"));
        assert_eq!(before.unix_ms(), Some(3_000), "the milliseconds change, the random bits do not");
    });
}

#[test]
fn an_earlier_boot_has_its_own_time_or_that_of_the_reset() {
    let mut device = Device::new();
    // Boot 0 learns the time, but dies before anything is settled.
    device.boot(|lane, _, boots| {
        capture(lane, boots, "known", at(5));
        boots.set_wall_time(wall(1_000), at(6));
    });
    // Boot 1 never does.
    device.boot(|lane, _, boots| {
        capture(lane, boots, "unknown", at(7));
        assert!(!boots.is_time_known());
    });
    device.boot(|lane, consumer, boots| {
        let mut flusher = flusher(consumer);
        capture(lane, boots, "now", at(1));
        boots.set_wall_time(wall(5_000), at(10));
        assert_eq!(flusher.settle_times(boots), Settled { exact: 2, reset: 1, unset: 0 });
        let events = sent(&mut flusher, Outcome::status(200));
        let expected = [
            event("known", wall(999), "exact"),
            event("unknown", wall(4_990), "reset"),
            event("now", wall(4_991), "exact"),
        ];
        assert_eq!(events, expected);
    });
}

#[test]
fn what_was_sent_once_is_never_changed() {
    Device::new().boot(|lane, consumer, boots| {
        let mut flusher = flusher(consumer);
        capture(lane, boots, "impatient", at(2));
        let first = sent(&mut flusher, Outcome::NoAnswer);
        assert_eq!(first[0].1, "1970-01-01T00:00:02.000000Z");
        boots.set_wall_time(wall(0), at(3));
        capture(lane, boots, "patient", at(2));
        assert_eq!(flusher.settle_times(boots), Settled::default(), "the one is out, the other has its time");
        let Action::Wait(until) = flusher.poll(Instant::ZERO) else { panic!("a backoff") };
        let Action::Send(batch) = flusher.poll(until) else { panic!("the same again") };
        let body: Vec<u8> = batch.body(None).chunks().flatten().copied().collect();
        assert!(String::from_utf8(body).unwrap().contains(r#""timestamp":"1970-01-01T00:00:02.000000Z""#));
    });
}

#[test]
fn a_reset_in_the_middle_of_a_change_is_noticed() {
    let mut device = Device::new();
    device.boot(|lane, _, boots| {
        capture(lane, boots, "torn", at(2));
        boots.set_wall_time(wall(50), at(3));
    });
    // As far as a change comes: the first digit, the day, and the year's others.
    let frame = device.ring.windows(TIME.end).position(|w| w.starts_with(b"{\"uuid\":\"")).unwrap();
    device.ring[frame + TIME.start] = TORN;
    device.ring[frame + TIME.start + 8] = b'1';
    device.ring[frame + TIME.start + 1..][..3].copy_from_slice(b"026");
    device.boot(|_, consumer, boots| {
        let mut flusher = flusher(consumer);
        assert_eq!(flusher.settle_times(boots).unset, 1);
        boots.set_wall_time(wall(90), at(4));
        assert_eq!(flusher.settle_times(boots).reset, 1);
        assert_eq!(sent(&mut flusher, Outcome::status(200)), [event("torn", wall(86), "reset")]);
    });
}

proptest! {
    #[test]
    fn whenever_the_reset_comes_the_timestamp_is_a_valid_one(from in 0..PLACEHOLDERS_END, to in NOON..2 * NOON) {
        let (from, to) = (Timestamp::from_unix_micros(from), Timestamp::from_unix_micros(to));
        let (mut text, mut states) = (from.text(), 0);
        set_time(&mut text, &to.text(), |state| {
            let state = core::str::from_utf8(state).unwrap();
            let time = Timestamp::parse(state);
            assert!(time.is_some_and(|time| time.to_string() == state), "{from} to {to}: {state}");
            assert!(state.starts_with('9') || state == to.to_string());
            states += 1;
        });
        prop_assert_eq!(text, to.text());
        prop_assert_eq!(states, CHANGES.len() + 2);
    }
}

#[test]
fn leap_days_are_no_trap() {
    let times = ["1972-02-29T23:59:59.999999Z", "1996-02-29T00:00:00.000000Z", "1970-10-31T10:00:00.000000Z"];
    let ends = ["2028-02-29T19:00:00.000000Z", "2026-04-30T00:00:00.000000Z", "2100-02-28T23:59:59.999999Z"];
    for (from, to) in times.iter().flat_map(|from| ends.iter().map(move |to| (from, to))) {
        let mut text = Timestamp::parse(from).unwrap().text();
        let to = Timestamp::parse(to).unwrap().text();
        set_time(&mut text, &to, |state| {
            let state = core::str::from_utf8(state).unwrap();
            assert!(Timestamp::parse(state).is_some(), "{from}: {state}");
        });
        assert_eq!(text, to);
    }
}

#[test]
fn what_is_no_placeholder_is_left_alone() {
    Device::new().boot(|lane, consumer, boots| {
        boots.set_wall_time(wall(0), at(0));
        let own = Uuid::v4([7, 7]);
        let old = Timestamp::parse("1999-02-03T04:05:06Z").unwrap();
        for event in [
            Event::new("own uuid", "d").uuid(own).timestamp(Timestamp::from_unix_micros(4 * SECOND)),
            Event::new("1999", "d").timestamp(old),
            Event::new("lies \"event_time\":\"unset\"", "d"),
        ] {
            lane.capture(&event, &Common::default(), wall(9)).unwrap();
        }
        let mut flusher = flusher(consumer);
        assert_eq!(flusher.settle_times(boots), Settled { exact: 1, ..Settled::default() });
        flusher.flush();
        let Action::Send(batch) = flusher.poll(Instant::ZERO) else { panic!("three events") };
        let frames: Vec<_> = batch.frames().map(|frame| String::from_utf8(frame.to_vec()).unwrap()).collect();
        assert!(
            frames[0].contains(&own.to_string()) && frames[0].contains("2026-11-13T12:00:04.000000Z"),
            "{}",
            frames[0]
        );
        assert!(frames[1].contains("1999-02-03T04:05:06.000000Z"), "{}", frames[1]);
        assert!(frames[2].contains(r#"lies \"event_time\":\"unset\""#), "{}", frames[2]);
    });
}

#[test]
fn thirteen_boots_without_a_delivery_are_told_apart_and_further_ones_count_as_unknown() {
    let mut device = Device::new();
    for boot in 0..u64::from(BOOTS_MAX) + 3 {
        device.boot(|lane, _, boots| {
            capture(lane, boots, &format!("{boot}"), at(1));
            boots.set_wall_time(wall(boot * 100), at(0));
        });
    }
    device.boot(|_, consumer, boots| {
        boots.set_wall_time(wall(9_000), at(0));
        let mut flusher = flusher(consumer);
        let settled = flusher.settle_times(boots);
        assert_eq!((settled.exact, settled.reset, settled.unset), (12, 4, 0));
        let events = sent(&mut flusher, Outcome::status(200));
        for (boot, event) in events.iter().enumerate().take(usize::from(BOOTS_MAX) - 1) {
            assert_eq!(event.1, wall(boot as u64 * 100 + 1).to_string());
        }
        assert!(events[12..].iter().all(|event| event.1 == wall(9_000).to_string() && event.2 == "reset"));
    });
    device.boot(|_, _, boots| assert_eq!(boots.timestamp(at(0)), Timestamp::from_unix_micros(0), "all was delivered"));
}

#[test]
fn damage_and_cold_starts_are_a_first_boot() {
    let mut memory = [0; Boots::BYTES];
    for damage in 0..Boots::BYTES {
        let mut boots = Boots::begin(&mut memory, true);
        boots.set_wall_time(wall(1), at(0));
        memory[damage] ^= 0x40;
        let boots = Boots::begin(&mut memory, false);
        assert!(!boots.is_time_known() && boots.record.boot == 1 && boots.record.began == [0; 13], "{damage}");
    }
}

#[test]
fn a_placeholder_never_runs_into_another_boots() {
    let mut memory = [0; Boots::BYTES];
    let boots = Boots::begin(&mut memory, true);
    assert_eq!(boots.timestamp(Instant::NEVER).as_unix_micros(), SPAN - 1);
    let last = EventClock { began: SPAN * 12, known: false }.timestamp(Instant::NEVER);
    assert!(last.to_string().starts_with("1998-"), "{last}");
}
