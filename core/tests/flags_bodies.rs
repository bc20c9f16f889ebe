//! What the fuzz targets of feature flags assert, asserted of texts that proptest makes: so that it is checked where there is
//! no fuzzer, and that what a fuzzer would find in a minute is found in every test run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test that fails should stop"
)]

#[path = "../../fuzz/fuzz_targets/flags/bodies.rs"]
mod bodies;

use proptest::prelude::*;

const SEEDS: [&str; 3] = [
    include_str!("../../fuzz/seeds/flags_reply/v2.json"),
    include_str!("../../fuzz/seeds/flags_reply/older.json"),
    include_str!("../../fuzz/seeds/flags_definitions/all.json"),
];

#[test]
fn the_seeds_pass() {
    for seed in SEEDS {
        bodies::reply(seed);
        bodies::definitions(seed);
    }
}

/// A seed with some stretches replaced: mostly still JSON, seldom still sensible.
fn damaged() -> impl Strategy<Value = String> {
    let pieces = vec!["null", "true", "0", "-1e5", "\"x\"", "[]", "{}", "\"\\u0061\"", "{", "]", "\"", ",", "\\", "é"];
    let cuts = prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, prop::sample::select(pieces)), 0..4);
    (prop::sample::select(&SEEDS[..]), cuts).prop_map(|(seed, cuts)| {
        let mut text: Vec<char> = seed.chars().collect();
        for (at, len, piece) in cuts {
            let at = at.index(text.len());
            let end = (at + len).min(text.len());
            text.splice(at..end, piece.chars());
        }
        text.into_iter().collect()
    })
}

fn operand() -> impl Strategy<Value = String> {
    prop_oneof![
        "[0-9a-zA-ZéÉσΣς .+-]{0,8}",
        "v?[0-3](\\.[0-3]){0,3}(-rc)?",
        "-?[0-9]{1,5}[hdwmyx]",
        "[12][0-9]{3}-[01][0-9]-[0-3][0-9]([T ][0-2][0-9]:[0-5][0-9](:[0-5][0-9](\\.[0-9]{1,7})?)?(Z|[+-]0[0-9]:?30)?)?",
        "-?[0-9]{1,3}(\\.[0-9]{1,2})?(e[0-9])?",
        prop::sample::select(vec!["true", "False", "null", "none", "[1]", "\"x\"", "inf", "nan"])
            .prop_map(String::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_answers_and_documents_do_no_harm(text in damaged()) {
        bodies::reply(&text);
        bodies::definitions(&text);
    }

    #[test]
    fn opposites_are_opposite(property in operand(), operand in operand()) {
        bodies::matching(&property, &operand);
        bodies::matching(&property, &property);
    }
}
