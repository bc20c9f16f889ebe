//! Documents and answers that nobody would send by mistake: they end, soon, and without a panic.

use std::string::String;
use std::time::Instant;

use proptest::prelude::*;

use super::*;

#[test]
fn circles_and_depths_end_as_inconclusive() {
    let link = |from: usize, to: usize| {
        format!(
            r#""{from}":{{"type":"AND","values":[{{"type":"cohort","key":"id","value":{to}}},
            {{"type":"cohort","key":"id","value":{to}}}]}}"#
        )
    };
    // Twenty levels that double: a million ways down, were there no limit.
    let doubling: Vec<String> = (0..20).map(|level| link(level, level + 1)).collect();
    let doubling = format!(r#","cohorts":{{{},"20":{{}}}}"#, doubling.join(","));
    let circle = format!(r#","cohorts":{{{},{}}}"#, link(0, 1), link(1, 0));
    for (cohorts, expected) in [(doubling, Inconclusive::TooMuch), (circle, Inconclusive::TooDeep)] {
        let text = document(r#"{"properties":[{"key":"id","type":"cohort","value":0}]}"#, "", &cohorts);
        let started = Instant::now();
        assert_eq!(evaluate(&text, &FlagSubject::new("x")), Err(expected));
        assert!(started.elapsed().as_secs() < 20, "took {:?}", started.elapsed());
    }
    // Groups within groups, as deep as JSON may be.
    let nested = format!(r#"{}{{}}{}"#, r#"{"type":"AND","values":["#.repeat(28), "]}".repeat(28));
    let text = document(
        r#"{"properties":[{"key":"id","type":"cohort","value":0}]}"#,
        "",
        &format!(r#","cohorts":{{"0":{nested}}}"#),
    );
    assert_eq!(evaluate(&text, &FlagSubject::new("x")), Err(Inconclusive::TooDeep));
}

#[test]
fn flags_that_depend_on_each_other_end() {
    let flag = |key: &str, chain: &str| {
        format!(
            r#"{{"key":"{key}","active":true,"filters":{{"groups":[{{"properties":[{{"type":"flag","key":"{chain}",
            "operator":"flag_evaluates_to","value":true,"dependency_chain":["{chain}"]}}]}}]}}}}"#
        )
    };
    let circle = format!(r#"{{"flags":[{},{},{}]}}"#, flag("f", "g"), flag("g", "h"), flag("h", "f"));
    assert_eq!(evaluate(&circle, &FlagSubject::new("x")), Err(Inconclusive::Dependency));
    let row: Vec<String> = (0..200).map(|n| flag(&format!("f{n}"), &format!("f{}", n + 1))).collect();
    let row = format!(r#"{{"flags":[{},{}]}}"#, flag("f", "f0"), row.join(","));
    assert_eq!(evaluate(&row, &FlagSubject::new("x")), Err(Inconclusive::Dependency));
}

#[test]
fn a_document_that_is_none_is_an_error() {
    let index = |text: &str| Definitions::index(text, &mut [Slot::EMPTY; 8]).map(|definitions| definitions.len());
    assert!(matches!(index("<html>"), Err(DefinitionsError::Json(_))));
    for text in ["[]", "{}", r#"{"flags":{}}"#, r#"{"flags":null}"#] {
        assert_eq!(index(text), Err(DefinitionsError::NoFlags), "{text}");
    }
    assert_eq!(index(r#"{"flags":[{},{},{},{},{},{},{},{},{}]}"#), Err(DefinitionsError::NoRoom));
    let keyless = r#"{"flags":[{"kei":"f","active":true},{"key":"","active":true}]}"#;
    let definitions = &mut [Slot::EMPTY; 8];
    assert_eq!(Definitions::index(keyless, definitions).unwrap().keys().count(), 0);
    assert_eq!(index(r#"{"flags":[1,null,"x",[],{"key":7}],"cohorts":[],"group_type_mapping":3}"#), Ok(5));
}

/// A view whose slots belong to another text answers nonsense, and nothing worse.
#[test]
fn slots_of_another_document_do_no_harm() {
    let text = document(r#"{"properties":[{"key":"plan","value":["pro","team"]}],"rollout_percentage":50}"#, "", "");
    let mut slots = vec![Slot::EMPTY; Definitions::slots_for(&text)];
    let definitions = Definitions::index(&text, &mut slots).unwrap();
    let plan = properties(r#"{"plan":"pro"}"#);
    let subject = FlagSubject::new("x").person_properties(&plan);
    for other in ["", "{}", "ééééééééééééééééééééééééééééééééééééééé"] {
        let view = definitions.over(other, definitions.slots);
        let _ = view.evaluate("f", &subject, NOW);
        assert!(view.keys().count() <= 1);
    }
    let view = definitions.over(&text, &[]);
    assert_eq!(view.evaluate("f", &subject, NOW).unwrap_err(), Inconclusive::UnknownFlag);
}

/// What documents are made of, cut and put together anyhow.
fn any_document() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null"),
        Just("true"),
        Just("0"),
        Just("-1.5"),
        Just("1e300"),
        Just("\"x\""),
        Just("\"-7d\""),
        Just("\"1.2\""),
        Just("\"f\""),
        Just("\"AND\""),
        Just("\"cohort\""),
        Just("\"flag\""),
        Just("\"in\""),
        Just("\"regex\""),
        Just("\"flag_evaluates_to\""),
        Just("\"person\""),
        Just("\"group\""),
        Just("\"is_date_before\""),
    ]
    .prop_map(String::from);
    let key = prop::sample::select(
        &[
            "flags",
            "key",
            "active",
            "filters",
            "groups",
            "properties",
            "value",
            "values",
            "type",
            "operator",
            "cohorts",
            "multivariate",
            "variants",
            "rollout_percentage",
            "dependency_chain",
            "negation",
            "payloads",
            "x",
            "aggregation_group_type_index",
            "group_type_mapping",
            "0",
            "variant",
            "early_exit",
        ][..],
    );
    let value = scalar.prop_recursive(8, 80, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|members| {
                let members: Vec<_> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    (prop::collection::vec(value.clone(), 0..3), value.clone(), value).prop_map(|(flags, flag, cohorts)| {
        let flag = format!(r#"{{"key":"f","active":true,"filters":{{"groups":[{{"properties":[{flag}]}}]}}}}"#);
        format!(r#"{{"flags":[{flag},{}],"cohorts":{cohorts}}}"#, flags.join(",")).replace(",]", "]")
    })
}

proptest! {
    #[test]
    fn no_document_makes_evaluation_panic_or_run_out_of_slots(text in any_document()) {
        let mut slots = vec![Slot::EMPTY; Definitions::slots_for(&text)];
        let definitions = Definitions::index(&text, &mut slots).unwrap();
        let plan = properties(r#"{"x":"x","key":null,"value":["x"]}"#);
        let subject = FlagSubject::new("x").person_properties(&plan);
        for key in definitions.keys() {
            let key = std::string::ToString::to_string(&key);
            if let Ok(flag) = definitions.evaluate(&key, &subject, NOW) {
                let _ = flag.payload();
            }
        }
        let _ = FlagsReply::parse(&text).map(|reply| reply.flags().count());
    }

    #[test]
    fn no_answer_makes_the_reader_panic(text in "[\\[\\]{}\",:\\\\a1 ]{0,60}") {
        if let Ok(reply) = FlagsReply::parse(&text) {
            prop_assert!(reply.flags().count() <= text.len());
        }
    }
}
