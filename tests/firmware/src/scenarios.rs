//! What the devices go through.

use crate::Test;
use crate::build::{CAPTURE_M0, CAPTURE_M3, CAPTURE_RV32, CAPTURE_RV32_PLAIN, PANIC_RESET, Program};
use crate::check::{conserved, counted_up, ensure, now_ms, times_and_uuids};
use crate::device::{Device, Said};
use quillet_support::Sink;
use std::time::Duration;

pub const ALL: &[Test] = &[
    ("capture_m3 delivers", || delivers(CAPTURE_M3)),
    ("capture_m3 survives a dead network", || loses_the_network(CAPTURE_M3)),
    ("capture_m3 survives a reset", || is_reset(CAPTURE_M3)),
    ("capture_m0 delivers over a wire", || delivers(CAPTURE_M0)),
    ("capture_m0 survives a reset", || is_reset(CAPTURE_M0)),
    ("capture_rv32 delivers", || delivers(CAPTURE_RV32)),
    ("capture_rv32 survives a dead network", || loses_the_network(CAPTURE_RV32)),
    ("capture_rv32 survives a reset", || is_reset(CAPTURE_RV32)),
    ("capture_rv32 without atomics delivers", || delivers(CAPTURE_RV32_PLAIN)),
    ("panic_reset tells of a panic", || tells_of(PANIC_RESET, "panic", "reading 42 failed", &[])),
    ("panic_reset tells of a fault", || {
        tells_of(PANIC_RESET, "HardFault", "the processor could not go on", &["fault=1"])
    }),
];

/// Seconds a device may take, on a machine that is busy with other things.
const SECONDS: u64 = 40;

fn sink() -> Result<Sink, String> {
    Sink::builder().api_key("phc_firmware").start().map_err(|error| format!("no sink on the loopback: {error}"))
}

fn start(program: Program, sink: &Sink, arguments: &[&str]) -> Result<Device, String> {
    Device::start(program, sink.addr().port(), arguments, SECONDS)
}

fn summary(said: &Said, sink: &Sink) -> Result<String, String> {
    let (requests, retries) = (said.number("requests")?, said.number("retries")?);
    Ok(format!("{} events in {requests} requests, {retries} repeated", sink.stored().len()))
}

/// Captures from two contexts at once, begins before the time is known, and loses nothing.
fn delivers(program: Program) -> Result<String, String> {
    let (sink, began_ms) = (sink()?, now_ms());
    let said = start(program, &sink, &["readings=60", "ticks=60", "every_ms=7"])?.finish()?;
    conserved(&said, &sink)?;
    times_and_uuids(&sink, began_ms)?;
    let mut counted = said.number("refused")? as usize;
    for name in ["reading", "tick"] {
        let counts = counted_up(&sink, name)?;
        ensure(counts.len() == 1, format!("{name} of one boot expected: {counts:?}"))?;
        counted += counts.values().sum::<usize>();
    }
    ensure(counted == 120, format!("{counted} arrived or refused instead of 120"))?;
    ensure(said.number("exact")? > 0, "nothing was captured before the time was known")?;
    summary(&said, &sink)
}

/// The cable is pulled for longer than a request may take, while captures go on.
fn loses_the_network(program: Program) -> Result<String, String> {
    let (sink, began_ms) = (sink()?, now_ms());
    let mut device = start(program, &sink, &["readings=30", "ticks=0", "every_ms=100"])?;
    ensure(sink.wait_for_events(4, Duration::from_secs(SECONDS)), "nothing arrived")?;
    device.monitor("set_link net0 off")?;
    device.wait_for_line("attempt=1 status=0")?;
    device.monitor("set_link net0 on")?;
    let said = device.finish()?;
    conserved(&said, &sink)?;
    times_and_uuids(&sink, began_ms)?;
    ensure(said.number("retries")? > 0, "the network was never missed")?;
    let counts = counted_up(&sink, "reading")?;
    let counted = counts.values().sum::<usize>() + said.number("refused")? as usize;
    ensure(counted == 30, format!("{counted} arrived or refused instead of 30"))?;
    summary(&said, &sink)
}

/// The reset line is pulled while events wait and a request may be out.
fn is_reset(program: Program) -> Result<String, String> {
    let (sink, began_ms) = (sink()?, now_ms());
    let mut device = start(program, &sink, &["readings=40", "ticks=40", "every_ms=5"])?;
    ensure(sink.wait_for_events(8, Duration::from_secs(SECONDS)), "nothing arrived")?;
    device.monitor("system_reset")?;
    let said = device.finish()?;
    ensure(said.numbers("boot").len() == 2, format!("not booted twice:\n  {}", said.text()))?;
    conserved(&said, &sink)?;
    times_and_uuids(&sink, began_ms)?;
    for name in ["reading", "tick"] {
        counted_up(&sink, name)?;
    }
    let (recovered, sent) = (said.number("recovered")?, sink.view(|journal| journal.duplicates()));
    Ok(format!("{}, {recovered} recovered, {sent} sent twice", summary(&said, &sink)?))
}

/// Everything captured before the end arrives after it, with one exception that says what happened.
fn tells_of(program: Program, kind: &str, message: &str, arguments: &[&str]) -> Result<String, String> {
    let (sink, began_ms) = (sink()?, now_ms());
    let arguments: Vec<_> = arguments.iter().copied().chain(["readings=12"]).collect();
    let said = start(program, &sink, &arguments)?.finish()?;
    conserved(&said, &sink)?;
    times_and_uuids(&sink, began_ms)?;
    let counts = counted_up(&sink, "reading")?;
    ensure(counts.values().eq(&[12]), format!("12 readings expected: {counts:?}"))?;
    let stored = sink.stored();
    let exceptions: Vec<_> = stored.iter().filter(|event| event.name() == "$exception").collect();
    ensure(
        exceptions.len() == 1 && stored.len() == 13,
        format!("{} exceptions instead of one:\n  {}", exceptions.len(), said.text()),
    )?;
    for exception in exceptions {
        let told = exception.property("$exception_list").to_string();
        ensure(told.contains(kind) && told.contains(message), format!("not what happened: {}", exception.text))?;
    }
    ensure(said.number("recovered")? == 13, "13 events were in the retained memory")?;
    summary(&said, &sink)
}
