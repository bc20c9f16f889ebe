//! What the quickstart captures: every kind of event, and what a client refuses before it costs a request.

use quillet::{
    CaptureError, Captured, Client, Draft, Event, Exception, HookVerdict, Level, Property, RawJson, Timestamp, Typed,
    Uuid, Value, event, props,
};
use serde::Serialize;
use std::error::Error;

/// Everybody in this story, so that the events are easily found in a project.
pub const ADA: &str = "quickstart-ada";
const GRACE: &str = "quickstart-grace";

/// The property that [`scrub`] removes: it must not arrive.
pub const SECRET: &str = "card_number";

/// One capture: the call, what it shows, and what came of it.
pub struct Told {
    pub call: &'static str,
    pub about: &'static str,
    pub captured: Captured,
}

/// A type of the application's own, as a property.
#[derive(Serialize)]
struct Parcel<'a> {
    weight_kg: f32,
    to: &'a str,
    route: Route,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Route {
    Via { stops: Vec<char> },
}

/// A `before_send` hook: sees each event once, on the capturing thread, before a byte of it is written.
pub fn scrub(draft: &mut Draft<'_>) -> HookVerdict {
    if draft.remove(SECRET) {
        draft.set("scrubbed", true);
    }
    if draft.name() == "debug ping" { HookVerdict::Drop } else { HookVerdict::Send }
}

/// What happens in a shop: each event shows another way of saying something.
pub fn shop(client: &Client) -> Result<Vec<Told>, Box<dyn Error>> {
    let mut told = Vec::new();
    let mut tell = |call, about, captured| told.push(Told { call, about, captured });

    tell(
        "event!",
        "name and keys are rendered when the program is compiled",
        client.capture(event!("order placed", ADA, { "plan": "pro", "amount_cents": 4900, "path": "/checkout" })),
    );

    let columns = [("rows", 128_000), ("skipped", 3)];
    let columns: Vec<Property<'_>> = columns.iter().map(|&(key, count)| Property::new(key, count)).collect();
    tell(
        "Property::new",
        "keys that are known only when it runs",
        client.capture(Event::new("import finished", ADA).properties(&columns)),
    );

    tell(
        "props!",
        "arrays and objects nest; NaN, which JSON lacks, is null",
        client.capture(Event::new("search done", ADA).properties(props! {
            "filters": { "tags": ["new", "blue"], "price": { "max": 30.5, "min": null } },
            "score": f64::NAN,
        })),
    );

    let raw = RawJson::parse(r#"{ "theme": "dark",  "panes": [1, 2, 3] }"#)?;
    tell(
        "RawJson",
        "JSON text: checked first, then written minified",
        client.capture(event!("layout saved", ADA, { "layout": raw })),
    );

    let parcel = Typed(Parcel { weight_kg: 2.5, to: "Zoë", route: Route::Via { stops: vec!['A', 'B'] } });
    tell(
        "Typed",
        "any serde::Serialize",
        client.capture(event!("parcel sent", ADA, { "parcel": Value::Typed(&parcel) })),
    );

    tell(
        "escapes",
        "any UTF-8 is a value, control characters too",
        client.capture(event!("review written", ADA, { "text": "\"fine\"\tand back\\slash\n" })),
    );

    tell(
        "groups",
        "an event that also belongs to a company",
        client.capture(event!("member invited", ADA, { "role": "editor" }).groups(&[("company", "acme")])),
    );

    tell(
        "set, set_once",
        "person properties along with an event",
        client.capture(
            event!("plan changed", ADA).set(props! { "plan": "team" }).set_once(props! { "first_plan": "starter" }),
        ),
    );

    tell(
        "personless",
        "nobody in particular: no person is made of it",
        client.capture(Event::personless("page viewed").properties(props! { "path": "/pricing" })),
    );

    let uuid = Uuid::parse("018e0e4c-7d3a-7c11-9d52-3f1b6a2c9e77").ok_or("not a uuid")?;
    let time = Timestamp::parse("2026-03-01T12:00:05.25Z").ok_or("not a timestamp")?;
    tell(
        "uuid, timestamp",
        "an old event, told with its own identity and time",
        client.capture(event!("invoice paid", ADA, { "invoice": "2026-0042" }).uuid(uuid).timestamp(time)),
    );

    tell(
        "before_send",
        "a hook takes the card number out",
        client.capture(event!("card stored", ADA, { "card_number": "4111 1111 1111 1111", "brand": "visa" })),
    );
    Ok(told)
}

/// Who the people are, and what they belong to.
pub fn people(client: &Client) -> Vec<Told> {
    let mut told = Vec::new();
    let mut tell = |call, about, captured| told.push(Told { call, about, captured });

    tell("identify", "person properties, set at a login", client.identify(ADA, props! { "email": "ada@example.com" }));
    tell(
        "identify",
        "the same with $set_once",
        client.capture(
            Event::identify(GRACE).set(props! { "plan": "free" }).set_once(props! { "signed_up_with": "email" }),
        ),
    );
    tell(
        "person",
        "person properties outside of a login, and one removed",
        client.capture(Event::person(GRACE).set(props! { "city": "Genève" }).unset(&["trial_ends"])),
    );
    tell("alias", "another id of the same person", client.alias(ADA, "quickstart-ada-mobile"));
    tell(
        "group_identify",
        "properties of a company",
        client.group_identify("company", "acme", props! { "name": "Acme Corp", "seats": 12 }),
    );
    told
}

/// What goes wrong elsewhere.
pub fn errors(client: &Client) -> Vec<Told> {
    let mut told = Vec::new();
    let mut tell = |call, about, captured| told.push(Told { call, about, captured });

    let refused = Exception::new("billing::ChargeError", "card refused: insufficient funds")
        .handled(true)
        .level(Level::Warning)
        .fingerprint("charge-refused");
    tell(
        "exception",
        "handled, of a level, grouped by a fingerprint",
        client.capture(Event::exception(ADA, &refused).properties(props! { "attempt": 2 })),
    );

    let fatal = Exception::new("core::num::TryFromIntError", "out of range integral type conversion attempted")
        .handled(false)
        .level(Level::Fatal)
        .stack_text("0: shop::stock::count\n   at src/stock.rs:42\n1: shop::main\n   at src/main.rs:7");
    tell("exception", "unhandled, fatal, with a stack as text", client.capture(Event::exception(GRACE, &fatal)));

    let nobody = Exception::new("io::Error", "connection reset by peer").handled(true);
    tell("exception", "of nobody: personless", client.capture(Event::exception("", &nobody)));
    told
}

/// One event that must not be: what is wrong with it, why it should be refused, and what came of it.
pub struct Refused {
    pub about: &'static str,
    pub expected: CaptureError,
    pub captured: Captured,
}

/// Input that PostHog would refuse the whole batch for, or repair in a way that nobody wants.
pub fn mistakes(client: &Client) -> Vec<Refused> {
    let mut told = Vec::new();
    let mut tell = |about, expected, captured| told.push(Refused { about, expected, captured });

    tell("an event without a name", CaptureError::EmptyEventName, client.capture(Event::new("", ADA)));
    tell("a name of 300 bytes", CaptureError::EventNameTooLong, client.capture(Event::new(&"n".repeat(300), ADA)));
    tell("an empty distinct id", CaptureError::EmptyDistinctId, client.capture(event!("page viewed", "")));
    tell(
        "an id of 300 characters, which PostHog would cut",
        CaptureError::DistinctIdTooLong,
        client.capture(Event::new("page viewed", &"i".repeat(300))),
    );
    tell(
        "a property without a name",
        CaptureError::EmptyKey,
        client.capture(event!("page viewed", ADA).properties(&[Property::new("", 1)])),
    );
    tell(
        "a property that the client writes itself",
        CaptureError::ReservedKey,
        client.capture(event!("page viewed", ADA).properties(&[Property::new("$lib", "mine")])),
    );
    let tree = Typed((0..100).fold(serde_json::Value::Null, |inner, _| serde_json::Value::Array(vec![inner])));
    tell(
        "a value nested 100 levels deep",
        CaptureError::TooDeep,
        client.capture(event!("tree grown", ADA, { "tree": Value::Typed(&tree) })),
    );
    tell(
        "an event of 70 kB",
        CaptureError::TooLarge,
        client.capture(event!("page viewed", ADA, { "text": "x".repeat(70_000).as_str() })),
    );
    tell(
        "an integer of 128 bits",
        CaptureError::InvalidValue,
        client.capture(event!("counted", ADA, { "number": Value::Typed(&Typed(u128::MAX)) })),
    );
    tell(
        "a group without a key",
        CaptureError::MissingField,
        client.group_identify("company", "", props! { "name": "Acme Corp" }),
    );
    tell(
        "an identify that must not make a person",
        CaptureError::Personless,
        client.capture(Event::identify(ADA).set(props! { "plan": "pro" }).person_profile(false)),
    );
    tell("an event that a hook drops", CaptureError::DroppedByHook, client.capture(event!("debug ping", ADA)));
    told
}
