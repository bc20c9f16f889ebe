//! What feature flags cost, where no network is involved.
//!
//! ```text
//! cargo bench --bench flags -- --quick
//! cargo bench --bench flags -- evaluate/three_conditions    # promised: at most 1 µs
//! ```
//!
//! | group | measured | left out |
//! |---|---|---|
//! | `hash` | SHA-1 of key and id, to a fraction | |
//! | `evaluate` | one flag for one person, by an index that is there | building the index, reading a clock |
//! | `client` | `is_feature_enabled` by definitions: clock, evaluation, what was told | the first time, which makes an event |
//! | `index` | a document of 100 flags: check and index | reading it from somewhere |
//! | `reply` | an answer about 50 flags: check, find the last one, its payload | the network |
//!
//! People differ from one evaluation to the next, and go through `black_box`.

#![allow(missing_docs, reason = "criterion_group! makes a public function")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench that fails should stop")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use quillet::flags::{Definitions, FlagSubject, FlagsReply, Slot, bucket};
use quillet::transport::memory::MemoryTransport;
use quillet::{Client, FlagQuery, Timestamp, props};

criterion_group! {
    name = flags;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    targets = hash, evaluate, client, index, reply
}
criterion_main!(flags);

/// 2026-11-23T09:00:00Z
const NOW: Timestamp = Timestamp::from_unix_ms(1_795_424_400_000);

const IDS: [&str; 4] =
    ["customer-0193a7c2-8841", "customer-0193b11e-02f7", "customer-0193c9d5-7ab3", "customer-0193d004-e6c8"];
const PLANS: [&str; 4] = ["pro", "free", "team", "enterprise"];

/// Three conditions of two filters, rollouts, and variants: the first two never match, the third always does.
const THREE: &str = r#"{"id":1,"key":"new-checkout","active":true,"filters":{"groups":[
    {"properties":[{"key":"email","type":"person","operator":"ends_with","value":"@quillet.example"},
        {"key":"plan","type":"person","operator":"exact","value":["pro","team"]}],"rollout_percentage":100},
    {"properties":[{"key":"seats","type":"person","operator":"gt","value":100},
        {"key":"plan","type":"person","operator":"exact","value":"enterprise"}],"rollout_percentage":50},
    {"properties":[{"key":"country","type":"person","operator":"exact","value":["DE","AT","CH"]},
        {"key":"plan","type":"person","operator":"is_set","value":"is_set"}],"rollout_percentage":100}],
  "multivariate":{"variants":[{"key":"control","rollout_percentage":50},{"key":"blue","rollout_percentage":50}]}}}"#;

const ROLLOUT: &str = r#"{"id":2,"key":"rollout","active":true,"filters":{"groups":[{"rollout_percentage":50}]}}"#;

const COHORT: &str = r#"{"id":3,"key":"cohort","active":true,"filters":{"groups":[
    {"properties":[{"key":"id","type":"cohort","operator":"in","value":98}]}]}}"#;

const COHORTS: &str = r#"{"98":{"type":"OR","values":[{"type":"AND","values":[
    {"key":"plan","type":"person","operator":"exact","value":["enterprise"]},
    {"key":"country","type":"person","operator":"is_not","value":"US"}]},
    {"type":"AND","values":[{"key":"seats","type":"person","operator":"lt","value":50}]}]}}"#;

/// These three, and as many others as it takes to be a project.
fn document(flags: usize) -> String {
    let others = (3..flags).map(|n| THREE.replace("new-checkout", &format!("flag-{n}")));
    let all: Vec<String> = [THREE, ROLLOUT, COHORT].map(str::to_owned).into_iter().chain(others).collect();
    format!(r#"{{"flags":[{}],"cohorts":{COHORTS}}}"#, all.join(","))
}

fn hash(c: &mut Criterion) {
    c.benchmark_group("hash").bench_function("bucket", |b| {
        let mut turn = 0;
        b.iter(|| {
            turn += 1;
            bucket(black_box("new-checkout"), black_box(IDS[turn % 4]), "")
        });
    });
}

fn evaluate(c: &mut Criterion) {
    let text = document(100);
    let mut slots = vec![Slot::EMPTY; Definitions::slots_for(&text)];
    let definitions = Definitions::index(&text, &mut slots).unwrap();
    let mut group = c.benchmark_group("evaluate");
    for (name, key) in [("three_conditions", "new-checkout"), ("rollout", "rollout"), ("cohort", "cohort")] {
        group.bench_function(name, |b| {
            let mut turn = 0;
            b.iter(|| {
                turn += 1;
                let known = props! {
                    "plan": PLANS[turn % 4], "email": "ada@example.com", "seats": 40, "country": "CH",
                };
                let subject = FlagSubject::new(IDS[turn % 4]).person_properties(known);
                definitions.evaluate(black_box(key), black_box(&subject), NOW).unwrap().value().is_enabled()
            });
        });
    }
}

fn client(c: &mut Criterion) {
    let builder = Client::builder("phc_bench").flag_definitions(document(100)).transport(MemoryTransport::new());
    let client = builder.without_thread().build().unwrap();
    c.benchmark_group("client").bench_function("is_feature_enabled", |b| {
        let mut turn = 0;
        b.iter(|| {
            turn += 1;
            let known = props! { "plan": PLANS[turn % 4], "email": "ada@example.com", "seats": 40, "country": "CH" };
            let who = FlagQuery::new(IDS[turn % 4]).person_properties(known);
            client.is_feature_enabled(black_box("new-checkout"), who, false)
        });
    });
    client.discard();
}

fn index(c: &mut Criterion) {
    let text = document(100);
    let mut slots = vec![Slot::EMPTY; Definitions::slots_for(&text)];
    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("flags_100", |b| {
        b.iter(|| Definitions::index(black_box(&text), &mut slots).unwrap().len());
    });
}

fn reply(c: &mut Criterion) {
    let flag = |n: usize| {
        format!(
            r#""flag-{n}":{{"key":"flag-{n}","enabled":true,"variant":"blue","reason":{{"code":"condition_match",
            "condition_index":0,"description":"Matched condition set 1"}},"metadata":{{"id":{n},"version":7,
            "description":null,"payload":"{{\"copy\":\"Hi\"}}","has_experiment":false}}}}"#
        )
    };
    let flags: Vec<String> = (0..50).map(flag).collect();
    let text = format!(r#"{{"flags":{{{}}},"errorsWhileComputingFlags":false,"requestId":"r"}}"#, flags.join(","));
    let mut group = c.benchmark_group("reply");
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("flags_50", |b| {
        b.iter(|| {
            let reply = FlagsReply::parse(black_box(&text)).unwrap();
            reply.find("flag-49").unwrap().payload().is_some()
        });
    });
}
