//! The harness's calls: which there are, what they carry, what they are told.
//!
//! In: a [`Request`]. Out: a [`Response`]. A status of 400 or more fails the running test at once, so what the mock server
//! does to a batch is never an error here; only a call that makes no sense is.

use quillet::wire;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::instance::{self, Capture, FlagCall, Instance, Options};
use crate::registry::Registry;
use crate::server::{Request, Response};

/// What of the harness's tests this adapter takes part in: events over `/batch/`, plain or with gzip.
const CAPABILITIES: &[&str] = &["capture_v0", "encoding_gzip"];

/// Answers one call. Blocks as long as the call's work takes.
pub(crate) fn answer(registry: &Registry, request: &Request) -> Response {
    let result = match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/health") => Ok(health()),
        ("POST", "/init") => init(registry, request),
        ("POST", "/capture") => capture(registry, request),
        ("POST", "/flush") => flush(registry, request),
        ("POST", "/get_feature_flag") => get_feature_flag(registry, request),
        ("GET", "/state") => Ok(state(registry, request)),
        ("POST", "/reset") => Ok(reset(registry, request)),
        (method, path) => Err(Response::error(404, format!("no such call: {method} {path}"))),
    };
    result.map_or_else(|error| error, Response::ok)
}

fn health() -> Value {
    json!({
        "sdk_name": wire::LIB_NAME,
        "sdk_version": wire::LIB_VERSION,
        "adapter_version": env!("CARGO_PKG_VERSION"),
        "supports_parallel": true,
        "capabilities": CAPABILITIES,
    })
}

fn init(registry: &Registry, request: &Request) -> Result<Value, Response> {
    let options: Options = parse(request)?;
    registry.remove(&request.test_id);
    let instance = Instance::start(&options, request.test_id.as_deref())
        .map_err(|error| Response::error(400, error.to_string()))?;
    registry.insert(request.test_id.clone(), instance);
    Ok(json!({ "success": true }))
}

fn capture(registry: &Registry, request: &Request) -> Result<Value, Response> {
    let capture: Capture = parse(request)?;
    let instance = registry.find(&request.test_id).ok_or_else(not_initialised)?;
    let uuid = instance.capture(&capture).map_err(|problem| Response::error(400, problem))?;
    Ok(json!({ "success": true, "uuid": uuid.to_string() }))
}

fn flush(registry: &Registry, request: &Request) -> Result<Value, Response> {
    let instance = registry.find(&request.test_id).ok_or_else(not_initialised)?;
    let (delivered, undecided) = instance.flush();
    let mut answer = json!({ "success": true, "events_flushed": delivered });
    if let (Some(error), Some(fields)) = (undecided, answer.as_object_mut()) {
        // Not of the contract; for whoever reads the traffic.
        fields.insert("undecided".to_owned(), error.to_string().into());
    }
    Ok(answer)
}

/// Unknown flags and failed requests are values too: `null`.
fn get_feature_flag(registry: &Registry, request: &Request) -> Result<Value, Response> {
    let call: FlagCall = parse(request)?;
    let instance = registry.find(&request.test_id).ok_or_else(not_initialised)?;
    Ok(json!({ "success": true, "value": instance.feature_flag(&call) }))
}

fn state(registry: &Registry, request: &Request) -> Value {
    registry.find(&request.test_id).map_or_else(instance::empty_state, |instance| instance.state())
}

fn reset(registry: &Registry, request: &Request) -> Value {
    registry.remove(&request.test_id);
    json!({ "success": true })
}

fn parse<T: DeserializeOwned>(request: &Request) -> Result<T, Response> {
    serde_json::from_slice(&request.body).map_err(|error| Response::error(400, format!("{}: {error}", request.path)))
}

fn not_initialised() -> Response {
    Response::error(400, "call /init first")
}
