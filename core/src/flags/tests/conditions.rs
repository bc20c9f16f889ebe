//! Rollouts, variants, groups, cohorts and dependencies: how filters add up to a flag.

use std::string::{String, ToString};
use std::vec::Vec;

use super::*;

fn yes() -> Outcome {
    Ok("true".to_string())
}

fn no() -> Outcome {
    Ok("false".to_string())
}

/// The flag `f` of this document for somebody of whom only these properties are known.
fn of(document: &str, person: &'static str) -> Outcome {
    let properties = properties(person);
    evaluate(document, &FlagSubject::new("distinct_id_0").person_properties(&properties))
}

fn with_key(key: &str, filters: &str) -> String {
    format!(r#"{{"flags":[{{"key":"{key}","active":true,"filters":{filters}}}]}}"#)
}

fn value_for(definitions: &Definitions<'_>, key: &str, id: &str) -> String {
    definitions.evaluate(key, &FlagSubject::new(id), NOW).unwrap().value().to_string()
}

#[test]
fn a_rollout_takes_the_right_people() {
    let text = with_key("simple-flag", r#"{"groups":[{"properties":[],"rollout_percentage":45}]}"#);
    let mut slots = [Slot::EMPTY; 16];
    let definitions = Definitions::index(&text, &mut slots).unwrap();
    let who: String = (0..20)
        .map(|n| value_for(&definitions, "simple-flag", &format!("distinct_id_{n}"))[..1].to_uppercase())
        .collect();
    assert_eq!(who, "FTTFTFFTFTFTTFTFFFTT");

    let text = with_key("fractional-rollout", r#"{"groups":[{"rollout_percentage":0.1}]}"#);
    let mut slots = [Slot::EMPTY; 16];
    let definitions = Definitions::index(&text, &mut slots).unwrap();
    for (id, expected) in [
        ("user-2411", "true"),
        ("user-2912", "true"),
        ("user-4106", "true"),
        ("user-260", "false"),
        ("user-9263", "false"),
        ("user-0", "false"),
    ] {
        assert_eq!(value_for(&definitions, "fractional-rollout", id), expected, "{id}");
    }
}

#[test]
fn everybody_is_within_a_hundred_percent_and_nobody_within_none() {
    for (rollout, expected) in [("100", yes()), ("null", yes()), ("0", no()), ("-1", no()), ("1e9", yes())] {
        let document = document(&format!(r#"{{"properties":null,"rollout_percentage":{rollout}}}"#), "", "");
        assert_eq!(of(&document, "{}"), expected, "{rollout}");
    }
    assert_eq!(of(&document(r#"{"properties":[]}"#, "", ""), "{}"), yes());
    assert_eq!(of(&document(r#"{"rollout_percentage":"45"}"#, "", ""), "{}"), Err(Inconclusive::Malformed));
    assert_eq!(of(&document("", "", ""), "{}"), no());
}

const FIVE_VARIANTS: &str = r#"{"variants":[{"key":"first","rollout_percentage":50},{"key":"second","rollout_percentage":20},
    {"key":"third","rollout_percentage":20},{"key":"fourth","rollout_percentage":5},{"key":"fifth","rollout_percentage":5}]}"#;

#[test]
fn variants_are_those_of_the_protocol() {
    let text = with_key("multivariate-flag", &format!(r#"{{"groups":[{{}}],"multivariate":{FIVE_VARIANTS}}}"#));
    let mut slots = [Slot::EMPTY; 32];
    let definitions = Definitions::index(&text, &mut slots).unwrap();
    let variants: Vec<_> =
        (0..10).map(|n| value_for(&definitions, "multivariate-flag", &format!("distinct_id_{n}"))).collect();
    let expected = ["second", "second", "first", "first", "second", "second", "first", "first", "second", "fifth"];
    assert_eq!(variants, expected);
    assert_eq!(value_for(&definitions, "multivariate-flag", "distinct_id_11"), "third");
    assert_eq!(value_for(&definitions, "multivariate-flag", "distinct_id_18"), "fourth");
}

#[test]
fn a_condition_may_name_its_variant() {
    let variants = format!(r#","multivariate":{FIVE_VARIANTS}"#);
    for (variant, expected) in [(r#""third""#, "third"), (r#""th\u0069rd""#, "third")] {
        let document = document(&format!(r#"{{"variant":{variant}}}"#), &variants, "");
        assert_eq!(of(&document, "{}"), Ok(expected.to_string()));
    }
    // One that does not exist: by hash, as if it were not there.
    let named = of(&document(r#"{"variant":"sixth"}"#, &variants, ""), "{}");
    assert_eq!(named, of(&document("{}", &variants, ""), "{}"));
    // Variants that leave a gap: on, without a variant.
    assert_eq!(
        of(&document("{}", r#","multivariate":{"variants":[{"key":"a","rollout_percentage":0}]}"#, ""), "{}"),
        yes()
    );
    assert_eq!(of(&document("{}", r#","multivariate":{"variants":[]}"#, ""), "{}"), yes());
    assert_eq!(of(&document("{}", r#","multivariate":null"#, ""), "{}"), yes());
}

#[test]
fn the_first_condition_that_matches_wins_and_doubt_is_remembered() {
    let pro = r#"{"properties":[{"key":"plan","value":"pro"}]}"#;
    let missing = r#"{"properties":[{"key":"missing","value":"x"}]}"#;
    let doubt = Err(Inconclusive::PropertyMissing);
    for (conditions, expected) in [
        (format!("{pro},{missing}"), yes()),
        (format!("{missing},{pro}"), yes()),
        (missing.to_string(), doubt.clone()),
        (format!("{missing},{}", r#"{"properties":[{"key":"plan","value":"free"}]}"#), doubt.clone()),
        // A false property ends a condition before a doubtful one is asked; not the other way round.
        (r#"{"properties":[{"key":"plan","value":"free"},{"key":"missing","value":"x"}]}"#.to_string(), no()),
        (r#"{"properties":[{"key":"missing","value":"x"},{"key":"plan","value":"free"}]}"#.to_string(), doubt),
        // An unknown operator spoils its own condition only.
        (format!(r#"{{"properties":[{{"key":"plan","operator":"new","value":1}}]}},{pro}"#), yes()),
    ] {
        assert_eq!(of(&document(&conditions, "", ""), r#"{"plan":"pro"}"#), expected, "{conditions}");
    }
}

#[test]
fn early_exit_ends_at_a_rollout_unless_something_is_in_doubt() {
    let out = r#"{"rollout_percentage":0}"#;
    let doubt = r#"{"properties":[{"key":"missing","value":"x"}]}"#;
    for (conditions, early_exit, expected) in [
        (format!("{out},{{}}"), "true", no()),
        (format!("{out},{{}}"), "false", yes()),
        (format!("{doubt},{out},{{}}"), "true", yes()),
        (format!("{doubt},{out}"), "true", Err(Inconclusive::PropertyMissing)),
    ] {
        let document = document(&conditions, &format!(r#","early_exit":{early_exit}"#), "");
        assert_eq!(of(&document, "{}"), expected, "{conditions} {early_exit}");
    }
}

#[test]
fn what_only_the_server_can_evaluate_is_left_to_it() {
    for (flag, expected) in [
        (r#""active":true,"ensure_experience_continuity":true"#, Err(Inconclusive::Continuity)),
        (r#""active":false,"ensure_experience_continuity":true"#, Err(Inconclusive::Continuity)),
        (r#""active":false"#, no()),
        (r#""ensure_experience_continuity":null"#, no()),
        (r#""active":true,"bucketing_identifier":"device_id""#, Err(Inconclusive::DeviceMissing)),
        (r#""active":true,"bucketing_identifier":"distinct_id""#, yes()),
        (r#""active":true,"bucketing_identifier":null"#, yes()),
        (r#""active":true,"bucketing_identifier":"moon""#, Err(Inconclusive::Malformed)),
    ] {
        let document = format!(r#"{{"flags":[{{"key":"f",{flag},"filters":{{"groups":[{{}}]}}}}]}}"#);
        assert_eq!(of(&document, "{}"), expected, "{flag}");
    }
    for (filters, expected) in [
        (r#","super_groups":[{"properties":[]}]"#, Err(Inconclusive::ServerOnly)),
        (r#","holdout":{"id":1}"#, Err(Inconclusive::ServerOnly)),
        (r#","holdout_groups":[{}]"#, Err(Inconclusive::ServerOnly)),
        (r#","feature_enrollment":true"#, Err(Inconclusive::ServerOnly)),
        (r#","super_groups":[],"holdout":null,"holdout_groups":[],"feature_enrollment":false"#, yes()),
    ] {
        assert_eq!(of(&document("{}", filters, ""), "{}"), expected, "{filters}");
    }
    let unknown = Definitions::index(r#"{"flags":[]}"#, &mut []).unwrap();
    assert!(unknown.is_empty() && !unknown.contains("f"));
    assert_eq!(unknown.evaluate("f", &FlagSubject::new("x"), NOW).unwrap_err(), Inconclusive::UnknownFlag);
}

#[test]
fn a_device_is_rolled_out_by_its_own_id() {
    let flag = r#"{"flags":[{"key":"simple-flag","active":true,"bucketing_identifier":"device_id",
        "filters":{"groups":[{"rollout_percentage":45}]}}]}"#;
    let mut slots = [Slot::EMPTY; 16];
    let definitions = Definitions::index(flag, &mut slots).unwrap();
    let value = |subject: FlagSubject<'_>| definitions.evaluate("simple-flag", &subject, NOW).unwrap().value();
    let device = properties(r#"{"$device_id":"distinct_id_1"}"#);
    let out = FlagSubject::new("distinct_id_0");
    assert_eq!(value(out.device_id("distinct_id_1")), FlagValue::Bool(true));
    assert_eq!(value(out.person_properties(&device)), FlagValue::Bool(true));
    assert_eq!(value(out.person_properties(&device).device_id("distinct_id_0")), FlagValue::Bool(false));
}

#[test]
fn the_distinct_id_is_a_property_too() {
    let document = document(r#"{"properties":[{"key":"distinct_id","value":"distinct_id_0"}]}"#, "", "");
    assert_eq!(of(&document, "{}"), yes());
    assert_eq!(of(&document, r#"{"distinct_id":"given"}"#), no());
}

#[test]
fn groups_have_properties_and_a_key_of_their_own() {
    let types = r#","group_type_mapping":{"0":"company","1":"project"}"#;
    let by = |conditions: &str, index: &str| {
        document(conditions, &format!(r#","aggregation_group_type_index":{index}"#), types)
    };
    let seats = properties(r#"{"seats":40}"#);
    let acme = [FlagGroup::new("company", "acme").properties(&seats)];
    let in_acme = |document: &str| evaluate(document, &FlagSubject::new("x").groups(&acme));
    let large = r#"{"properties":[{"key":"seats","type":"group","operator":"gte","value":40}]}"#;
    assert_eq!(in_acme(&by(large, "0")), yes());
    assert_eq!(in_acme(&by(large, "1")), no(), "nobody is in a project");
    assert_eq!(in_acme(&by(large, "2")), Err(Inconclusive::GroupType));
    assert_eq!(in_acme(&by(r#"{"properties":[{"key":"$group_key","type":"group","value":"acme"}]}"#, "0")), yes());
    assert_eq!(
        in_acme(&by(r#"{"properties":[{"key":"name","type":"group","value":"Acme"}]}"#, "0")),
        Err(Inconclusive::PropertyMissing)
    );

    // The group's key decides a rollout: acme lies at 0.41.
    let text = r#"{"flags":[{"key":"company-beta","active":true,"filters":{"aggregation_group_type_index":0,
        "groups":[{"rollout_percentage":41.35}]}}],"group_type_mapping":{"0":"company"}}"#;
    let beta = |percent: &str| {
        let text = text.replace("41.35", percent);
        let mut slots = vec![Slot::EMPTY; Definitions::slots_for(&text)];
        let definitions = Definitions::index(&text, &mut slots).unwrap();
        let flag = definitions.evaluate("company-beta", &FlagSubject::new("x").groups(&acme), NOW);
        flag.unwrap().value().is_enabled()
    };
    assert!(beta("41.35") && !beta("41.34"));
}

#[test]
fn conditions_may_be_about_somebody_else() {
    let types = r#","group_type_mapping":{"0":"company","1":"project"}"#;
    let person = properties(r#"{"plan":"pro"}"#);
    let seats = properties(r#"{"seats":40}"#);
    let groups = [FlagGroup::new("company", "acme").properties(&seats)];
    let subject = FlagSubject::new("x").person_properties(&person).groups(&groups);
    let ask = |conditions: &str, of_filters: &str| evaluate(&document(conditions, of_filters, types), &subject);
    let of_company = |index: &str| {
        format!(
            r#"{{"properties":[{{"key":"seats","type":"group","value":40}}],"aggregation_group_type_index":{index}}}"#
        )
    };
    assert_eq!(ask(&of_company("0"), ""), yes());
    assert_eq!(ask(&of_company("1"), ""), no(), "a group that was not given: the condition is skipped");
    assert_eq!(ask(&of_company("7"), ""), no(), "a type that nobody knows: the same");
    assert_eq!(ask(&of_company("null"), ""), Err(Inconclusive::PropertyMissing), "a person has no seats");
    let of_person = r#"{"properties":[{"key":"plan","value":"pro"}],"aggregation_group_type_index":null}"#;
    assert_eq!(ask(of_person, r#","aggregation_group_type_index":0"#), yes());
    assert_eq!(ask(of_person, ""), yes());
}

#[test]
fn cohorts_are_looked_into() {
    let cohorts = r#","cohorts":{"98":{"type":"OR","values":[{"type":"AND","values":[
        {"key":"plan","type":"person","operator":"exact","value":["pro","team"]},
        {"key":"churned","type":"person","operator":"is_set","value":"is_set","negation":true}]}]},
        "1":{},"2":{"type":"AND","values":[]},"3":{"values":[{"key":"plan","value":"pro"}]},"4":{"type":"OR","values":[
        {"key":"plan","value":"pro"},{"type":"cohort","key":"id","value":404}]},
        "5":{"type":"AND","values":[{"type":"cohort","key":"id","value":"1"}]},"6":{"type":"AND","values":[
        {"type":"cohort","key":"id","value":6}]},"7":{"type":"OR","values":[
        {"key":"plan","value":"pro"},{"key":"n","value":1}]},
        "8":{"type":"AND","values":[{"key":"plan","value":"free"},{"key":"n","value":1}]}}"#;
    let member = |id: &str, operator: &str| {
        let filter = format!(r#"{{"properties":[{{"key":"id","type":"cohort","value":{id}{operator}}}]}}"#);
        document(&filter, "", cohorts)
    };
    let is_in = r#","operator":"in""#;
    for (id, operator, person, expected) in [
        ("98", is_in, r#"{"plan":"pro","churned":null}"#, yes()),
        ("98", is_in, r#"{"plan":"free","churned":null}"#, no()),
        ("98", is_in, r#"{"plan":"pro","churned":true}"#, no()),
        ("98", is_in, r#"{"plan":"pro"}"#, Err(Inconclusive::PropertyMissing)),
        ("\"98\"", is_in, r#"{"plan":"pro","churned":null}"#, yes()),
        ("98", "", r#"{"plan":"pro","churned":null}"#, yes()),
        ("98", r#","operator":"not_in""#, r#"{"plan":"pro","churned":null}"#, no()),
        ("98", r#","operator":"gt""#, r#"{"plan":"pro","churned":null}"#, Err(Inconclusive::Operator)),
        ("1", is_in, "{}", yes()),
        ("2", is_in, "{}", yes()),
        ("3", is_in, r#"{"plan":"pro"}"#, Err(Inconclusive::Malformed)),
        ("4", is_in, r#"{"plan":"pro"}"#, Err(Inconclusive::CohortMissing)),
        ("5", is_in, "{}", yes()),
        ("6", is_in, "{}", Err(Inconclusive::TooDeep)),
        ("7", is_in, r#"{"plan":"pro"}"#, yes()),
        ("8", is_in, r#"{"plan":"pro"}"#, no()),
        ("404", is_in, "{}", Err(Inconclusive::CohortMissing)),
        ("404", r#","operator":"not_in""#, "{}", Err(Inconclusive::CohortMissing)),
    ] {
        assert_eq!(of(&member(id, operator), person), expected, "{id} {operator} {person}");
    }
    // A static cohort ends the evaluation, whatever comes behind it.
    let then_all = document(r#"{"properties":[{"key":"id","type":"cohort","value":404}]},{}"#, "", "");
    assert_eq!(of(&then_all, "{}"), Err(Inconclusive::CohortMissing));
}

#[test]
fn a_flag_may_depend_on_others() {
    let others = r#"{"key":"on","active":true,"filters":{"groups":[{}]}},{"key":"off","active":false},
        {"key":"blue","active":true,"filters":{"groups":[{"variant":"Blue"}],
            "multivariate":{"variants":[{"key":"Blue","rollout_percentage":100}]}}},
        {"key":"doubt","active":true,"filters":{"groups":[{"properties":[{"key":"missing","value":1}]}]}},
        {"key":"through","active":true,"filters":{"groups":[{"properties":[{"key":"on","type":"flag",
            "operator":"flag_evaluates_to","value":true,"dependency_chain":["on"]}]}]}}"#;
    let ask = |filter: &str| {
        let own = format!(
            r#"{{"key":"f","active":true,"filters":{{"groups":[{{"properties":[{{"type":"flag",{filter}}}]}}]}}}}"#
        );
        of(&format!(r#"{{"flags":[{own},{others}]}}"#), "{}")
    };
    let dependency = Err(Inconclusive::Dependency);
    for (filter, expected) in [
        (r#""key":"on","operator":"flag_evaluates_to","value":true,"dependency_chain":["on"]"#, yes()),
        (r#""key":"on","operator":"flag_evaluates_to","value":false,"dependency_chain":["on"]"#, no()),
        (r#""key":"off","operator":"flag_evaluates_to","value":false,"dependency_chain":["off"]"#, yes()),
        (r#""key":"blue","operator":"flag_evaluates_to","value":"Blue","dependency_chain":["blue"]"#, yes()),
        (r#""key":"blue","operator":"flag_evaluates_to","value":"blue","dependency_chain":["blue"]"#, no()),
        (r#""key":"blue","operator":"flag_evaluates_to","value":true,"dependency_chain":["blue"]"#, yes()),
        (r#""key":"blue","operator":"flag_evaluates_to","value":false,"dependency_chain":["blue"]"#, no()),
        (r#""key":"on","operator":"flag_evaluates_to","value":"true","dependency_chain":["on"]"#, no()),
        (r#""key":"on","operator":"flag_evaluates_to","value":7,"dependency_chain":["on"]"#, no()),
        (r#""key":"through","operator":"flag_evaluates_to","value":true,"dependency_chain":["on","through"]"#, yes()),
        (r#""key":"on","operator":"exact","value":true,"dependency_chain":["on"]"#, no()),
        (r#""key":"on","operator":"flag_evaluates_to","value":null,"dependency_chain":["on"]"#, no()),
        (r#""key":"on","operator":"flag_evaluates_to","dependency_chain":["on"]"#, no()),
        (r#""key":"","operator":"flag_evaluates_to","value":true,"dependency_chain":["on"]"#, no()),
        (r#""key":"on","operator":"flag_evaluates_to","value":true"#, dependency.clone()),
        (r#""key":"on","operator":"flag_evaluates_to","value":true,"dependency_chain":[]"#, dependency.clone()),
        (r#""key":"on","operator":"flag_evaluates_to","value":true,"dependency_chain":[7]"#, dependency.clone()),
        (r#""key":"none","operator":"flag_evaluates_to","value":true,"dependency_chain":["none"]"#, dependency.clone()),
        (
            r#""key":"on","operator":"flag_evaluates_to","value":true,"dependency_chain":["doubt","on"]"#,
            dependency.clone(),
        ),
        (r#""key":"f","operator":"flag_evaluates_to","value":true,"dependency_chain":["f"]"#, dependency),
    ] {
        assert_eq!(ask(filter), expected, "{filter}");
    }
}

#[test]
fn payloads_belong_to_the_value() {
    let payloads = r#","payloads":{"third":"{\"copy\":\"C\"}","true":"42","first":null}"#;
    let ask = |conditions: &str, of_filters: &str| {
        let text = document(conditions, &format!("{payloads}{of_filters}"), r#","minimal_flag_called_events":true"#);
        let mut slots = vec![Slot::EMPTY; Definitions::slots_for(&text)];
        let definitions = Definitions::index(&text, &mut slots).unwrap();
        assert!(definitions.minimal_called_events());
        let flag = definitions.evaluate("f", &FlagSubject::new("x"), NOW).unwrap();
        flag.payload().and_then(Json::as_text).map(|payload| payload.to_string())
    };
    let variants = format!(r#","multivariate":{FIVE_VARIANTS}"#);
    assert_eq!(ask(r#"{"variant":"third"}"#, &variants).as_deref(), Some(r#"{"copy":"C"}"#));
    assert_eq!(ask(r#"{"variant":"first"}"#, &variants), None);
    assert_eq!(ask(r#"{"variant":"second"}"#, &variants), None);
    assert_eq!(ask("{}", "").as_deref(), Some("42"));
    assert_eq!(ask("", ""), None);
}

#[test]
fn what_the_document_says_of_a_flag_comes_with_its_value() {
    let text = r#"{"flags":[{"id":42,"version":7,"has_experiment":false,"key":"f","active":true,
        "filters":{"groups":[{"rollout_percentage":0},{}]}}]}"#;
    let mut slots = [Slot::EMPTY; 16];
    let definitions = Definitions::index(text, &mut slots).unwrap();
    let flag = definitions.evaluate("f", &FlagSubject::new("x"), NOW).unwrap();
    assert_eq!((flag.id(), flag.version(), flag.has_experiment()), (Some(42), Some(7), Some(false)));
    assert_eq!((flag.condition_index(), flag.key().as_plain()), (Some(1), Some("f")));
    assert_eq!(definitions.keys().map(|key| key.to_string()).collect::<Vec<_>>(), ["f"]);
}
