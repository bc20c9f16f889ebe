//! Other ways to make the event's JSON: the same object, field by field, into a slice.
//!
//! In: checkouts, and one text each for uuid and timestamp, which they do not have to make. Out: cases.

use std::hint::black_box;

use quillet_support::measure::Case;
use quillet_support::reference::{Checkout, Checkouts, NAME};
use serde::Serialize;

/// As quillet writes it, in its order.
#[derive(Serialize)]
struct Event<'a> {
    uuid: &'a str,
    timestamp: &'a str,
    event: &'a str,
    distinct_id: &'a str,
    properties: Properties<'a>,
}

#[derive(Serialize)]
struct Properties<'a> {
    #[serde(rename = "$lib")]
    lib: &'a str,
    #[serde(rename = "$lib_version")]
    lib_version: &'a str,
    #[serde(rename = "$is_server")]
    is_server: bool,
    plan: &'a str,
    amount_cents: i64,
    path: &'a str,
}

impl<'a> Event<'a> {
    fn new(&Checkout { id, plan, amount_cents, path }: &Checkout) -> Self {
        let (lib, lib_version) = black_box(("quillet", env!("CARGO_PKG_VERSION")));
        let (uuid, timestamp) = black_box(("019a7c2e-5f3a-7b2c-8d4e-9f0a1b2c3d4e", "2026-11-23T09:00:00.250000Z"));
        let properties = Properties { lib, lib_version, is_server: true, plan, amount_cents, path };
        Event { uuid, timestamp, event: black_box(NAME), distinct_id: id, properties }
    }
}

pub fn serde_json() -> Case<'static> {
    case("serde_json to a slice", |event, memory| {
        let mut rest = &mut memory[..];
        serde_json::to_writer(&mut rest, event).unwrap();
        let left = rest.len();
        memory.len() - left
    })
}

pub fn serde_json_core() -> Case<'static> {
    case("serde-json-core to a slice", |event, memory| serde_json_core::to_slice(event, memory).unwrap())
}

fn case(name: &'static str, write: fn(&Event<'_>, &mut [u8]) -> usize) -> Case<'static> {
    let mut memory = [0; 1024];
    let mut checkouts = Checkouts::new();
    let bytes = write(&Event::new(checkouts.next()), &mut memory);
    Case::new(name, bytes, move |count| {
        for _ in 0..count {
            black_box(write(&Event::new(checkouts.next()), black_box(&mut memory)));
        }
    })
}
