//! Local evaluation against a second implementation: two readings of the same protocol must agree on any document.
//!
//! In: documents and people, made up at random from what occurs in earnest. Out: the same answer twice, or a
//! counterexample, made as small as possible.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test that fails should stop"
)]

mod reference;

use proptest::prelude::*;
use quillet_core::flags::{Definitions, FlagGroup, FlagSubject, Slot};
use quillet_core::{Property, Timestamp, Value};
use reference::{NOW, Person};
use serde_json::{Map, Value as Json, json};

/// Few enough that filters and properties meet.
const KEYS: [&str; 4] = ["plan", "n", "since", "app"];
const FLAGS: [&str; 4] = ["f", "g", "h", "i"];

/// What properties and filters have as values.
fn value() -> BoxedStrategy<Json> {
    let texts = [
        "pro",
        "PRO",
        "team",
        "",
        "true",
        "False",
        "banana",
        "10",
        "9",
        "1e1",
        "é",
        "É",
        "1.2.3",
        "v1.2",
        "1.10.0",
        "0.0.3",
        "1.0.0-beta",
        "2026-02-22T12:00:05Z",
        "2025-12-31T23:59:59Z",
        "-7d",
        "24h",
        "2w",
        "none",
        "a\"b\\c",
    ];
    prop_oneof![
        6 => prop::sample::select(texts.to_vec()).prop_map(Json::from),
        1 => Just(Json::Null),
        1 => any::<bool>().prop_map(Json::from),
        2 => (-3_i64..12).prop_map(Json::from),
        1 => prop::sample::select(vec![0.5, 1.5, 10.0, -2.25]).prop_map(Json::from),
    ]
    .boxed()
}

fn wanted() -> BoxedStrategy<Json> {
    prop_oneof![4 => value(), 2 => prop::collection::vec(value(), 0..4).prop_map(Json::from)].boxed()
}

fn property_filter() -> BoxedStrategy<Json> {
    let operators = [
        "exact",
        "is_not",
        "is_set",
        "is_not_set",
        "icontains",
        "not_icontains",
        "icontains_multi",
        "not_icontains_multi",
        "starts_with",
        "not_starts_with",
        "ends_with",
        "not_ends_with",
        "gt",
        "gte",
        "lt",
        "lte",
        "between",
        "not_between",
        "is_date_before",
        "is_date_after",
        "is_date_exact",
        "semver_eq",
        "semver_neq",
        "semver_gt",
        "semver_gte",
        "semver_lt",
        "semver_lte",
        "semver_tilde",
        "semver_caret",
        "not_known",
    ];
    (prop::sample::select(KEYS.to_vec()), prop::sample::select(operators.to_vec()), wanted(), any::<bool>(), 0..8)
        .prop_map(|(key, operator, value, typed, negation)| {
            let mut filter = json!({ "key": key, "operator": operator, "value": value });
            if typed {
                filter["type"] = "person".into();
            }
            if negation == 0 {
                filter["negation"] = true.into();
            }
            if operator == "exact" && !typed {
                filter.as_object_mut().unwrap().remove("operator");
            }
            filter
        })
        .boxed()
}

/// A filter of any kind. Cohorts have lower numbers than those that refer to them, flags later letters, or not: circles too.
fn filter() -> BoxedStrategy<Json> {
    let cohort = (0_i64..6, prop::sample::select(vec!["in", "not_in", "exact", "gt"]), any::<bool>()).prop_map(
        |(id, operator, text)| {
            let value = if text { Json::from(id.to_string()) } else { Json::from(id) };
            json!({ "key": "id", "type": "cohort", "operator": operator, "value": value })
        },
    );
    let values = vec![json!(true), json!(false), json!("blue"), json!(7)];
    let flag =
        (prop::sample::select(FLAGS.to_vec()), prop::sample::select(values), 0..6).prop_map(|(key, value, chain)| {
            let mut filter = json!({ "key": key, "type": "flag", "operator": "flag_evaluates_to", "value": value,
                "dependency_chain": [key] });
            match chain {
                0 => filter["dependency_chain"] = json!([]),
                1 => filter["dependency_chain"] = json!(["i", key]),
                _ => {}
            }
            filter
        });
    prop_oneof![8 => property_filter(), 2 => cohort, 1 => flag].boxed()
}

fn cohort() -> BoxedStrategy<Json> {
    // Only cohorts 0 to 2 exist, and they refer to none: circles among cohorts have a test of their own.
    let leaf = property_filter();
    let group = |entries: BoxedStrategy<Json>| {
        (any::<bool>(), prop::collection::vec(entries, 0..4))
            .prop_map(|(any, values)| json!({ "type": if any { "OR" } else { "AND" }, "values": values }))
    };
    let nested = prop_oneof![3 => leaf.clone(), 1 => group(leaf)].boxed();
    prop_oneof![4 => group(nested), 1 => Just(json!({}))].boxed()
}

fn condition() -> BoxedStrategy<Json> {
    let rollout =
        prop_oneof![2 => Just(Json::Null), 3 => (0_u32..=1000).prop_map(|rollout| json!(f64::from(rollout) / 10.0))];
    let index =
        prop_oneof![6 => Just(None), 1 => Just(Some(Json::Null)), 1 => (0..3).prop_map(|index| Some(json!(index)))];
    let variant = prop_oneof![3 => Just(Json::Null), 1 => Just(json!("blue")), 1 => Just(json!("nowhere"))];
    (prop::collection::vec(filter(), 0..3), rollout, index, variant)
        .prop_map(|(properties, rollout, index, variant)| {
            let mut condition = json!({ "properties": properties, "rollout_percentage": rollout, "variant": variant });
            if let Some(index) = index {
                condition["aggregation_group_type_index"] = index;
            }
            condition
        })
        .boxed()
}

fn flag(key: &'static str) -> BoxedStrategy<Json> {
    let variants = prop_oneof![
        Just(Json::Null),
        Just(
            json!({ "variants": [{ "key": "control", "rollout_percentage": 50 }, { "key": "blue", "rollout_percentage": 50 }] })
        ),
        Just(json!({ "variants": [{ "key": "blue", "rollout_percentage": 33.3 }] })),
    ];
    let group = prop_oneof![5 => Just(Json::Null), 1 => (0..3).prop_map(Json::from)];
    (prop::collection::vec(condition(), 0..4), variants, group, any::<bool>(), 0..12)
        .prop_map(move |(groups, multivariate, group, early_exit, special)| {
            json!({ "key": key, "active": special != 0, "ensure_experience_continuity": special == 1, "filters": {
                "groups": groups, "multivariate": multivariate, "aggregation_group_type_index": group,
                "early_exit": early_exit } })
        })
        .boxed()
}

fn document() -> BoxedStrategy<Json> {
    (FLAGS.map(flag), [cohort(), cohort(), cohort()])
        .prop_map(|(flags, [zero, one, two])| {
            json!({ "flags": flags, "cohorts": { "0": zero, "1": one, "2": two },
                "group_type_mapping": { "0": "company", "1": "project" } })
        })
        .boxed()
}

fn properties_of() -> BoxedStrategy<Map<String, Json>> {
    prop::collection::btree_map(prop::sample::select(KEYS.to_vec()), value(), 0..5)
        .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
        .boxed()
}

fn person() -> BoxedStrategy<Person> {
    let groups = prop::sample::subsequence(vec!["company", "project"], 0..=2);
    (0..50, properties_of(), groups, properties_of())
        .prop_map(|(id, properties, groups, of_group)| Person {
            distinct_id: format!("user-{id}"),
            properties,
            groups: groups.into_iter().map(|kind| (kind.to_owned(), "acme".to_owned(), of_group.clone())).collect(),
        })
        .boxed()
}

fn borrowed(properties: &Map<String, Json>) -> Vec<Property<'_>> {
    fn property<'a>((key, json): (&'a String, &'a Json)) -> Property<'a> {
        match json {
            Json::Bool(value) => Property::new(key, *value),
            Json::Number(number) => match number.as_i64() {
                Some(value) => Property::new(key, value),
                None => Property::new(key, number.as_f64()),
            },
            Json::String(text) => Property::new(key, text.as_str()),
            _ => Property::new(key, Value::Null),
        }
    }
    properties.iter().map(property).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        // `PROPTEST_CASES` may ask for more.
        cases: ProptestConfig::default().cases.max(1000),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn two_readings_of_the_protocol_agree(document in document(), person in person()) {
        let text = document.to_string();
        let mut slots = vec![Slot::EMPTY; Definitions::slots_for(&text)];
        let definitions = Definitions::index(&text, &mut slots).unwrap();
        let properties = borrowed(&person.properties);
        let of_groups: Vec<_> = person.groups.iter().map(|(.., properties)| borrowed(properties)).collect();
        let groups: Vec<_> = person
            .groups
            .iter()
            .zip(&of_groups)
            .map(|((kind, key, _), properties)| FlagGroup::new(kind, key).properties(properties))
            .collect();
        let subject = FlagSubject::new(&person.distinct_id).person_properties(&properties).groups(&groups);
        let now = Timestamp::from_unix_ms(NOW as u64 * 1000);
        for key in FLAGS {
            let ours = definitions.evaluate(key, &subject, now).map(|flag| flag.value().to_string());
            let theirs = reference::evaluate(&document, key, &person);
            let theirs = theirs.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            prop_assert_eq!(ours.as_ref().ok(), theirs.as_ref(), "{}: {:?} of {}", key, ours, text);
        }
    }
}

/// The generators make all kinds of answers, or the agreement above would mean little.
#[test]
fn the_documents_have_something_to_say() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut on, mut off, mut variants, mut unclear) = (0, 0, 0, 0);
    for _ in 0..500 {
        let document = document().new_tree(&mut runner).unwrap().current();
        let person = person().new_tree(&mut runner).unwrap().current();
        match reference::evaluate(&document, "f", &person) {
            Some(Json::Bool(true)) => on += 1,
            Some(Json::Bool(false)) => off += 1,
            Some(_) => variants += 1,
            None => unclear += 1,
        }
    }
    assert!(on > 25 && off > 25 && variants > 25 && unclear > 25, "{on} {off} {variants} {unclear}");
}
