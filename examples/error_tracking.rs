//! Error tracking: an error with three causes, from deep inside a request, with whose it was, what happened before it, and
//! where. Then a storm of the same error, and a panic.
//!
//! ```text
//! cargo run --example error_tracking
//! ```
//!
//! It talks to a PostHog of its own on the loopback and prints what arrived there. Exit status 0 if that is what should.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "an example that fails should stop")]

use quillet::{Client, ErrorReport, Scope, props};
use quillet_support::Sink;
use quillet_support::sink::Event;
use std::error::Error;
use std::fmt;
use std::num::ParseIntError;
use std::panic::catch_unwind;
use std::time::Duration;

fn main() {
    let sink = Sink::start();
    let client = Client::builder("phc_example")
        .host(sink.host())
        .proxy(None)
        // Causes are `dyn Error`; these can be called by their names all the same.
        .known_error::<BankError>()
        .known_error::<AnswerError>()
        .deny_keys(["card_number"])
        .build()
        .unwrap();
    client.install_panic_hook();

    handle_request(&client, "customer-7");
    // Ten of a kind are sent at once; the rest is counted.
    for _ in 0..50 {
        if let Err(error) = charge(1250) {
            client.capture_error(&error);
        }
    }
    let caught = catch_unwind(|| Scope::new().distinct_id("customer-8").run(|| Vec::<u8>::new()[0]));
    assert!(caught.is_err());

    let report = client.shutdown_within(Duration::from_secs(10));
    sink.assert_clean();
    let stored = sink.stored();
    show(&stored[0]);
    let panic = stored.iter().find(|event| event.property("$exception_list")[0]["type"] == "Panic").unwrap();
    println!("\n{} of {}: {}", panic.name(), panic.distinct_id(), panic.property("$exception_list")[0]["value"]);
    println!("\n{} errors sent, {} held back", stored.len(), report.stats.refused_total());
    assert_eq!((stored.len(), report.stats.refused_total()), (12, 40));
    assert_eq!(stored[0].property("$exception_list").as_array().unwrap().len(), 4);
    assert_eq!(panic.distinct_id(), "customer-8");
}

/// Everything captured in here is this customer's.
fn handle_request(client: &Client, customer: &str) {
    let scope = Scope::new().distinct_id(customer).property("route", "/checkout");
    let _inside = scope.enter();
    client.add_exception_step("cart opened", props! { "items": 3 });
    client.add_exception_step("card entered", props! { "brand": "visa", "card_number": "4111111111111111" });
    if let Err(error) = charge(1250) {
        // The program goes on without the payment: that is what `handled` says.
        let properties = props! { "amount": 1250 };
        client.capture_exception(&ErrorReport::new(&error).handled(true).properties(properties));
    }
}

fn charge(cents: u32) -> Result<u32, ChargeError> {
    ask_bank(cents).map_err(|cause| ChargeError { cents, cause })
}

fn ask_bank(_: u32) -> Result<u32, BankError> {
    read_answer("12,50").map_err(BankError)
}

fn read_answer(text: &str) -> Result<u32, AnswerError> {
    text.parse().map_err(|cause| AnswerError { cause })
}

#[derive(Debug)]
struct ChargeError {
    cents: u32,
    cause: BankError,
}

#[derive(Debug)]
struct BankError(AnswerError);

#[derive(Debug)]
struct AnswerError {
    cause: ParseIntError,
}

impl fmt::Display for ChargeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not charge {} cents", self.cents)
    }
}

impl fmt::Display for BankError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bank did not say yes")
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its answer is no number")
    }
}

impl Error for ChargeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

impl Error for BankError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

impl Error for AnswerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

/// Prints an exception as error tracking would show it.
fn show(event: &Event) {
    println!("{} of {} on {}", event.name(), event.distinct_id(), event.property("route"));
    let list = event.property("$exception_list").as_array().unwrap();
    for (depth, entry) in list.iter().enumerate() {
        println!("{:width$}{}: {}", "", entry["type"].as_str().unwrap(), entry["value"], width = 2 * depth);
    }
    println!("\nsteps");
    for step in event.property("$exception_steps").as_array().unwrap() {
        println!("  {step}");
    }
    println!("\nframes, the entry point first");
    for frame in list[0]["stacktrace"]["frames"].as_array().unwrap() {
        match frame["filename"].as_str() {
            Some(file) => println!("  {file}:{}", frame["lineno"]),
            // The server finds the function by the image's build id, once its symbols were uploaded.
            None => println!("  {} in {}, in_app: {}", frame["instruction_addr"], frame["image_addr"], frame["in_app"]),
        }
    }
}
