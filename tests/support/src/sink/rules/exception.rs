//! The rules for `$exception`: the list, its mechanisms, its frames, its images and steps.
//!
//! The capture endpoint takes any of it; the error tracking service behind it does not, and a client never hears of
//! that. So everything here is a violation without a status.

use super::Findings;
use super::event::is_utc_timestamp;
use serde_json::{Map, Value};
use std::collections::HashSet;

const ENTRIES_MAX: usize = 50;
const FRAMES_MAX: usize = 64;
const VALUE_BYTES_MAX: usize = 10_000;
const STEPS_BYTES_MAX: usize = 32_768;

const LEVELS: [&str; 6] = ["fatal", "error", "warning", "log", "info", "debug"];

/// What the outermost entry's mechanism can be; every other entry is `chained`.
const BOUNDARIES: [&str; 7] = ["generic", "logger", "middleware", "task", "panic", "signal", "crash_reporter"];

/// What a nested entry can be to its parent.
const SOURCES: [&str; 6] = ["cause", "context", "unwrap", "member", "suppressed", "inner"];

/// Frames of any other platform cost the event its issue.
const PLATFORMS: [&str; 14] = [
    "native",
    "rust",
    "custom",
    "python",
    "ruby",
    "go",
    "php",
    "java",
    "dart",
    "apple",
    "hermes",
    "web:javascript",
    "node:javascript",
    "javascript",
];

/// What the service derives or deletes, and the flat form that makes no issue.
const NEVER_SENT: [&str; 14] = [
    "$exception_types",
    "$exception_values",
    "$exception_sources",
    "$exception_functions",
    "$exception_releases",
    "$exception_release",
    "$exception_handled",
    "$exception_fingerprint_version",
    "$exception_fingerprint_record",
    "$exception_proposed_fingerprint",
    "$exception_issue_id",
    "$cymbal_errors",
    "$exception_type",
    "$exception_message",
];

pub(super) fn judge(properties: &Map<String, Value>, findings: &mut Findings) {
    for key in NEVER_SENT {
        findings.note_unless(!properties.contains_key(key), format!("{key} must never be sent"));
    }
    for (key, value) in properties {
        let right = match key.as_str() {
            "$exception_level" => value.as_str().is_some_and(|level| LEVELS.contains(&level)),
            "$exception_source" => value.as_str().is_some_and(is_source),
            "$exception_fingerprint" => value.as_str().is_some_and(|text| !text.is_empty()),
            "$issue_name" | "$issue_description" | "$exception_panic_file" | "$release_id" => value.is_string(),
            "$exception_panic_line" | "$exception_panic_column" => is_u32(value),
            _ => true,
        };
        findings.note_unless(right, format!("{key} is {value}"));
    }
    let entries = match properties.get("$exception_list") {
        Some(Value::Array(entries)) if !entries.is_empty() => entries,
        _ => return findings.note("$exception_list is no array with an entry"),
    };
    let count = entries.len();
    findings.note_unless(count <= ENTRIES_MAX, format!("$exception_list has {count} entries"));
    let place = findings.place.clone();
    let mut ids = HashSet::new();
    for (index, entry) in entries.iter().enumerate() {
        findings.place = format!("{place} $exception_list[{index}]");
        match entry {
            Value::Object(entry) => judge_entry(index, entry, &mut ids, findings),
            _ => findings.note("an entry that is no object"),
        }
    }
    findings.place = place;
    judge_images(properties.get("$debug_images"), entries, findings);
    judge_steps(properties.get("$exception_steps"), findings);
}

fn judge_entry(index: usize, entry: &Map<String, Value>, ids: &mut HashSet<u64>, findings: &mut Findings) {
    for (key, value) in entry {
        let right = match key.as_str() {
            "type" => value.as_str().is_some_and(|text| !text.is_empty()),
            "value" => value.as_str().is_some_and(|text| text.len() <= VALUE_BYTES_MAX),
            "module" => value.is_string(),
            "thread_id" => value.as_i64().is_some_and(|id| i32::try_from(id).is_ok()),
            "mechanism" | "stacktrace" => value.is_object(),
            _ => false,
        };
        findings.note_unless(right, format!("{key} is {}", shortened(value)));
    }
    for key in ["type", "value", "mechanism"] {
        findings.note_unless(entry.contains_key(key), format!("{key} is missing"));
    }
    if let Some(Value::Object(mechanism)) = entry.get("mechanism") {
        judge_mechanism(index, mechanism, ids, findings);
    }
    if let Some(Value::Object(stacktrace)) = entry.get("stacktrace") {
        judge_stacktrace(stacktrace, findings);
    }
}

/// Unknown means absent: no member is null or empty.
fn judge_mechanism(index: usize, mechanism: &Map<String, Value>, ids: &mut HashSet<u64>, findings: &mut Findings) {
    let nested = index > 0;
    for (key, value) in mechanism {
        let text = value.as_str().unwrap_or_default();
        let right = match key.as_str() {
            "exception_id" => value.as_u64().is_some_and(|id| nested || id == 0),
            "parent_id" => nested && value.as_u64().is_some_and(|id| ids.contains(&id)),
            "type" if nested => text == "chained",
            "type" => BOUNDARIES.contains(&text),
            "source" => nested && SOURCES.contains(&text),
            "handled" | "synthetic" => value.is_boolean(),
            _ => false,
        };
        findings.note_unless(right, format!("mechanism.{key} is {value}"));
    }
    for key in ["exception_id", "type"] {
        findings.note_unless(mechanism.contains_key(key), format!("mechanism.{key} is missing"));
    }
    findings.note_unless(!nested || mechanism.contains_key("parent_id"), "mechanism.parent_id is missing");
    if let Some(id) = mechanism.get("exception_id").and_then(Value::as_u64) {
        findings.note_unless(ids.insert(id), format!("mechanism.exception_id {id} twice"));
    }
    let died = matches!(mechanism.get("type").and_then(Value::as_str), Some("panic" | "signal" | "crash_reporter"));
    let handled = mechanism.get("handled") == Some(&Value::Bool(true));
    findings.note_unless(!(died && handled), "a panic or crash is not handled");
}

fn judge_stacktrace(stacktrace: &Map<String, Value>, findings: &mut Findings) {
    let kind = stacktrace.get("type").and_then(Value::as_str).unwrap_or_default();
    findings.note_unless(matches!(kind, "raw" | "resolved"), format!("stacktrace.type is {kind:?}"));
    let Some(Value::Array(frames)) = stacktrace.get("frames") else {
        return findings.note("stacktrace.frames is no array");
    };
    let count = frames.len();
    findings.note_unless(count <= FRAMES_MAX, format!("a stack of {count} frames"));
    let mut before = &Value::Null;
    for (index, frame) in frames.iter().enumerate() {
        match frame {
            Value::Object(fields) => judge_frame(index, fields, before, findings),
            _ => findings.note(format!("frame {index} is no object")),
        }
        before = frame;
    }
}

fn judge_frame(index: usize, frame: &Map<String, Value>, before: &Value, findings: &mut Findings) {
    let platform = frame.get("platform").and_then(Value::as_str).unwrap_or_default();
    findings.note_unless(PLATFORMS.contains(&platform), format!("frame {index}: platform is {platform:?}"));
    for (key, value) in frame {
        let right = match key.as_str() {
            "in_app" | "synthetic" | "client_resolved" | "inline" | "resolved" => value.is_boolean(),
            "instruction_addr" | "image_addr" | "symbol_addr" => value.as_str().is_some_and(is_hex),
            "function" | "filename" | "module" | "lang" | "platform" | "context_line" => value.is_string(),
            "lineno" | "colno" => value.as_u64().is_some_and(|number| number > 0) && is_u32(value),
            "pre_context" | "post_context" => {
                value.as_array().is_some_and(|lines| lines.len() <= 10 && lines.iter().all(Value::is_string))
            }
            // The server ignores what it does not know, but it takes nothing that is null for a value.
            _ => !value.is_null(),
        };
        findings.note_unless(right, format!("frame {index}: {key} is {value}"));
    }
    if platform == "custom" {
        for key in ["lang", "function"] {
            findings.note_unless(frame.contains_key(key), format!("frame {index}: {key} is missing"));
        }
    }
    if frame.get("inline") == Some(&Value::Bool(true)) {
        let same = |key: &str| frame.get(key).is_some() && frame.get(key) == before.get(key);
        let follows = same("instruction_addr") && same("image_addr");
        findings.note_unless(follows, format!("frame {index}: an inlined frame away from its physical one"));
    }
}

/// Only images that a frame refers to, each once.
fn judge_images(images: Option<&Value>, entries: &[Value], findings: &mut Findings) {
    let Some(images) = images else { return };
    let Value::Array(images) = images else {
        return findings.note("$debug_images is no array");
    };
    let mut referenced = HashSet::new();
    for entry in entries {
        let frames = entry.get("stacktrace").and_then(|stack| stack.get("frames")).and_then(Value::as_array);
        let addresses = frames.into_iter().flatten().filter_map(|frame| frame.get("image_addr")?.as_str());
        referenced.extend(addresses);
    }
    let mut seen = HashSet::new();
    for (index, image) in images.iter().enumerate() {
        let text = |key: &str| image.get(key).and_then(Value::as_str).unwrap_or_default();
        let address = text("image_addr");
        findings.note_unless(!text("debug_id").is_empty(), format!("image {index}: debug_id is missing"));
        findings.note_unless(is_hex(address), format!("image {index}: image_addr is {address:?}"));
        findings.note_unless(referenced.contains(address), format!("image {index}: no frame lies in it"));
        findings.note_unless(seen.insert(address), format!("image {index}: twice"));
        for (key, value) in image.as_object().into_iter().flatten() {
            let right = match key.as_str() {
                "type" => matches!(value.as_str(), Some("elf" | "macho" | "pe")),
                "image_vmaddr" => value.as_str().is_some_and(is_hex),
                "image_size" => value.is_u64(),
                "code_file" | "arch" | "code_id" | "debug_id" | "image_addr" => value.is_string(),
                _ => false,
            };
            findings.note_unless(right, format!("image {index}: {key} is {value}"));
        }
    }
}

fn judge_steps(steps: Option<&Value>, findings: &mut Findings) {
    let Some(steps) = steps else { return };
    let Value::Array(items) = steps else {
        return findings.note("$exception_steps is no array");
    };
    let bytes = steps.to_string().len();
    findings.note_unless(bytes <= STEPS_BYTES_MAX, format!("$exception_steps of {bytes} bytes"));
    for (index, step) in items.iter().enumerate() {
        let text = |key: &str| step.get(key).and_then(Value::as_str).unwrap_or_default();
        findings.note_unless(!text("$message").is_empty(), format!("step {index}: $message is missing"));
        findings.note_unless(is_utc_timestamp(text("$timestamp")), format!("step {index}: $timestamp is wrong"));
    }
}

/// `<technology>.<hook>` in lower case.
fn is_source(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    text.split('.').count() >= 2 && text.split('.').all(word)
}

/// `0x` and up to 16 hex digits.
fn is_hex(text: &str) -> bool {
    text.strip_prefix("0x")
        .is_some_and(|digits| (1..=16).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn is_u32(value: &Value) -> bool {
    value.as_u64().is_some_and(|number| u32::try_from(number).is_ok())
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(100).collect()
}
