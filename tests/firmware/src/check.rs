//! What has to be true of the events that arrived.

use crate::device::Said;
use quillet_core::{Timestamp, Uuid};
use quillet_support::Sink;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

/// The server says its time in whole seconds, and its answer may be late: a device's clock may be this far behind.
const BEHIND_MS_MAX: u64 = 2_500;

/// `Err` unless it holds.
pub fn ensure(holds: bool, what: impl Into<String>) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// Wall time now, in milliseconds.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The device's own sums: nothing was lost or is left, and everything that was accepted is at the sink once.
pub fn conserved(said: &Said, sink: &Sink) -> Result<(), String> {
    let told = |name| said.number(name);
    let context = || format!("; the device said:\n  {}", said.text());
    for (name, expected) in [("conserved", 1), ("pending", 0), ("rejected", 0), ("dropped", 0)] {
        ensure(told(name)? == expected, format!("{name} is {}{}", told(name)?, context()))?;
    }
    let violations = sink.violations();
    ensure(violations.is_empty(), format!("the sink complains: {violations:#?}"))?;
    let accepted = told("committed")? + told("accepted")?;
    let stored = sink.stored().len() as u64;
    ensure(stored == accepted, format!("{accepted} events accepted, {stored} stored{}", context()))
}

/// Every event has a uuid of its own, of version 7, whose time is the event's, and that time is between `began_ms` and now.
pub fn times_and_uuids(sink: &Sink, began_ms: u64) -> Result<(), String> {
    let mut uuids = BTreeSet::new();
    for event in sink.stored() {
        let uuid = Uuid::parse(event.uuid()).ok_or_else(|| format!("no uuid: {}", event.text))?;
        ensure(uuids.insert(uuid), format!("twice: {}", event.text))?;
        let time = Timestamp::parse(event.timestamp()).ok_or_else(|| format!("no timestamp: {}", event.text))?;
        ensure(uuid.unix_ms() == Some(time.as_unix_ms()), format!("uuid and timestamp differ: {}", event.text))?;
        let range = began_ms.saturating_sub(BEHIND_MS_MAX)..=now_ms();
        ensure(range.contains(&time.as_unix_ms()), format!("not between {range:?}: {}", event.text))?;
    }
    Ok(())
}

/// The numbers that events of this name carry, by boot: how many there are, if they count up from 0 without a gap.
pub fn counted_up(sink: &Sink, name: &str) -> Result<BTreeMap<u64, usize>, String> {
    let mut boots: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for event in sink.stored().iter().filter(|event| event.name() == name) {
        let number = |key| event.property(key).as_u64().ok_or_else(|| format!("no {key}: {}", event.text));
        ensure(boots.entry(number("boot")?).or_default().insert(number("n")?), format!("twice: {}", event.text))?;
    }
    let mut counts = BTreeMap::new();
    for (boot, numbers) in boots {
        let expected: BTreeSet<u64> = (0..numbers.len() as u64).collect();
        ensure(numbers == expected, format!("{name} of boot {boot} with gaps: {numbers:?}"))?;
        counts.insert(boot, numbers.len());
    }
    Ok(counts)
}
