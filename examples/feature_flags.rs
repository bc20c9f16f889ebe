//! Feature flags: asked of a server, evaluated without one, told to PostHog, put on events.
//!
//! ```text
//! cargo run --release --example feature_flags
//! ```
//!
//! The server is a sink in this process, which judges every request by PostHog's rules and answers by script. The program
//! ends with status 0 only if every flag came out as it should and the sink has nothing to complain about.

use std::error::Error;
use std::time::Duration;

use quillet::flags::FlagGroup;
use quillet::{Client, FlagQuery, event, props};
use quillet_support::{Answer, Sink};

/// What the server knows: a flag with variants and a payload, one that is off.
const ANSWER: &str = r#"{"flags":{
    "new-checkout":{"enabled":true,"variant":"blue","reason":{"description":"Matched condition set 1"},
        "metadata":{"id":42,"version":7,"payload":"{\"copy\":\"Pay now\"}","has_experiment":true}},
    "old-ui":{"enabled":false,"metadata":{"id":43,"version":1,"has_experiment":false}}},
  "requestId":"7d1c1f6e-53a5-4f65-8f43-2f2f1b3c0e11","evaluatedAt":1772366405250}"#;

/// What the client can evaluate by itself: half of all companies with forty seats or more, everybody in a plan.
const DEFINITIONS: &str = r#"{"flags":[
    {"id":1,"key":"bulk-import","active":true,"filters":{"aggregation_group_type_index":0,"groups":[
        {"properties":[{"key":"seats","type":"group","operator":"gte","value":40}],"rollout_percentage":50}]}},
    {"id":2,"key":"reports","active":true,"filters":{"groups":[
        {"properties":[{"key":"plan","type":"person","operator":"exact","value":["pro","team"]}]}]}}],
  "group_type_mapping":{"0":"company"}}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let sink = Sink::start();
    sink.flags_answer(ANSWER);
    let client = Client::builder("phc_feature_flags").host(sink.host()).proxy(None).build()?;
    remote(&client, &sink)?;
    snapshot(&client)?;
    client.shutdown();

    let client =
        Client::builder("phc_feature_flags").host(sink.host()).proxy(None).flag_definitions(DEFINITIONS).build()?;
    local(&client, &sink)?;
    client.shutdown();

    let called = sink.stored().iter().filter(|event| event.name() == "$feature_flag_called").count();
    println!("told PostHog about {called} readings, {} requests in all", sink.requests().len());
    sink.assert_clean();
    Ok(())
}

fn remote(client: &Client, sink: &Sink) -> Result<(), Box<dyn Error>> {
    println!("asked of the server");
    let checkout = client.feature_flag("new-checkout", "customer-7")?;
    println!("  new-checkout   {checkout}, payload {:?}", client.feature_flag_payload("new-checkout", "customer-7")?);
    expect(checkout == "blue")?;
    expect(!client.is_feature_enabled("old-ui", "customer-7", true))?;
    // Neither is asked again within a minute; nor is a flag that does not exist.
    let before = sink.requests().len();
    expect(client.is_feature_enabled("new-checkout", "customer-7", false) && sink.requests().len() == before)?;
    println!("  unknown        {:?}", client.feature_flag("unknown", "customer-7"));

    // A server in trouble costs a default, not the program.
    sink.script([Answer::status(503)]);
    let again = FlagQuery::new("customer-7").force_remote(true).timeout(Duration::from_secs(1));
    println!("  in trouble     {:?}", client.feature_flag("new-checkout", again));
    expect(client.feature_flag_or("new-checkout", FlagQuery::new("customer-8"), "green") == "blue")
}

fn snapshot(client: &Client) -> Result<(), Box<dyn Error>> {
    println!("all at once, and on an event");
    let flags = client.feature_flags("customer-7");
    let captured = if flags.is_enabled("new-checkout", false) {
        flags.only_accessed().capture(event!("order placed", "customer-7", { "total": 12.5 }))
    } else {
        client.capture(event!("order placed", "customer-7"))
    };
    println!("  {flags:?}");
    expect(captured.is_accepted())
}

fn local(client: &Client, sink: &Sink) -> Result<(), Box<dyn Error>> {
    println!("evaluated here");
    let before = sink.requests().len();
    let (plan, seats) = (props! { "plan": "pro" }, props! { "seats": 40 });
    let company = [FlagGroup::new("company", "acme").properties(seats)];
    let who = FlagQuery::new("customer-7").person_properties(plan).groups(&company);
    // Acme is in the other half.
    for (key, expected) in [("reports", true), ("bulk-import", false)] {
        let enabled = client.is_feature_enabled(key, who, false);
        println!("  {key:<14} {enabled}");
        expect(enabled == expected)?;
    }
    expect(sink.requests().len() == before)?;
    // Nobody said which plan: only the server could tell, and this call may not ask.
    println!("  without a plan {:?}", client.feature_flag("reports", FlagQuery::new("customer-7").only_local(true)));
    Ok(())
}

fn expect(as_it_should_be: bool) -> Result<(), Box<dyn Error>> {
    if as_it_should_be { Ok(()) } else { Err("not as it should be".into()) }
}
