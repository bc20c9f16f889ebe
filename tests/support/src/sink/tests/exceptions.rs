//! The rules for `$exception`, each with a case that it accepts and one that it does not.

use super::*;

fn exception(change: Change) -> Value {
    let mut event = event(1);
    event["event"] = json!("$exception");
    event["properties"]["$exception_level"] = json!("error");
    event["properties"]["$exception_list"] = json!([
        {"type": "billing::ChargeError", "value": "card refused",
         "mechanism": {"type": "generic", "handled": true, "synthetic": false, "exception_id": 0},
         "stacktrace": {"type": "raw", "frames": [
            {"platform": "native", "lang": "rust", "function": "shop::main", "filename": "src/main.rs", "lineno": 12,
             "instruction_addr": "0x55d0c0a01a3f", "image_addr": "0x55d0c0a00000", "in_app": true}]}},
        {"type": "std::io::Error", "value": "",
         "mechanism": {"type": "chained", "source": "cause", "exception_id": 1, "parent_id": 0}}]);
    event["properties"]["$debug_images"] = json!([{"debug_id": "67452301-ab89-efcd-0123-456789abcdef",
        "image_addr": "0x55d0c0a00000", "image_size": 1_048_576, "type": "elf", "arch": "x86_64"}]);
    change(&mut event["properties"]);
    event
}

#[test]
fn exceptions_in_order() {
    let table: [(&str, Change); 6] = [
        ("as it is", |_| {}),
        ("no images", |p| remove(p, "$debug_images")),
        ("a fatal panic", |p| {
            p["$exception_level"] = json!("fatal");
            p["$exception_source"] = json!("rust.panic_hook");
            p["$exception_list"][0]["mechanism"] = json!({"type": "panic", "handled": false, "exception_id": 0});
        }),
        ("a place without a stack", |p| {
            remove(p, "$debug_images");
            p["$exception_list"][0]["stacktrace"]["frames"] = json!([{"platform": "custom", "lang": "rust",
                "function": "?", "filename": "src/a.rs", "lineno": 1, "colno": 2, "resolved": true, "in_app": true}]);
        }),
        ("an inlined frame", |p| {
            let frames = p["$exception_list"][0]["stacktrace"]["frames"].as_array_mut().unwrap();
            let mut inlined = frames[0].clone();
            inlined["inline"] = json!(true);
            frames.push(inlined);
        }),
        ("steps", |p| p["$exception_steps"] = json!([{"$message": "a", "$timestamp": "2026-03-01T12:00:01Z"}])),
    ];
    for (what, change) in table {
        assert_accepted(batch(&[exception(change)]), what);
    }
}

#[test]
fn exceptions_that_make_no_issue() {
    let table: [(&str, Change); 44] = [
        ("$exception_list is no array", |p| {
            remove(p, "$exception_list");
            remove(p, "$debug_images");
        }),
        ("$exception_list is no array", |p| {
            p["$exception_list"] = json!([]);
            remove(p, "$debug_images");
        }),
        ("an entry that is no object", |p| p["$exception_list"].as_array_mut().unwrap().push(json!(1))),
        ("$exception_list has 51 entries", |p| {
            for id in 2..51 {
                let entry = json!({"type": "E", "value": "", "mechanism":
                    {"type": "chained", "exception_id": id, "parent_id": id - 1}});
                p["$exception_list"].as_array_mut().unwrap().push(entry);
            }
        }),
        ("$exception_handled must never be sent", |p| p["$exception_handled"] = json!(true)),
        ("$exception_types must never be sent", |p| p["$exception_types"] = json!([])),
        ("$exception_message must never be sent", |p| p["$exception_message"] = json!("x")),
        ("$exception_level is", |p| p["$exception_level"] = json!("critical")),
        ("$exception_source is", |p| p["$exception_source"] = json!("PanicHook")),
        ("$exception_fingerprint is", |p| p["$exception_fingerprint"] = json!("")),
        ("$exception_panic_line is", |p| p["$exception_panic_line"] = json!("12")),
        ("type is missing", |p| remove(&mut p["$exception_list"][0], "type")),
        ("type is \"\"", |p| p["$exception_list"][0]["type"] = json!("")),
        ("value is missing", |p| remove(&mut p["$exception_list"][0], "value")),
        ("value is null", |p| p["$exception_list"][0]["value"] = json!(null)),
        ("value is", |p| p["$exception_list"][0]["value"] = json!("x".repeat(10_001))),
        ("id is", |p| p["$exception_list"][0]["id"] = json!("x")),
        ("thread_id is", |p| p["$exception_list"][0]["thread_id"] = json!(1_u64 << 31)),
        ("module is null", |p| p["$exception_list"][0]["module"] = json!(null)),
        ("mechanism is missing", |p| remove(&mut p["$exception_list"][1], "mechanism")),
        ("mechanism.type is \"chained\"", |p| p["$exception_list"][0]["mechanism"]["type"] = json!("chained")),
        ("mechanism.type is \"generic\"", |p| p["$exception_list"][1]["mechanism"]["type"] = json!("generic")),
        ("mechanism.handled is null", |p| p["$exception_list"][0]["mechanism"]["handled"] = json!(null)),
        ("mechanism.synthetic is null", |p| p["$exception_list"][0]["mechanism"]["synthetic"] = json!(null)),
        ("mechanism.source is \"\"", |p| p["$exception_list"][1]["mechanism"]["source"] = json!("")),
        ("mechanism.source is", |p| p["$exception_list"][0]["mechanism"]["source"] = json!("cause")),
        ("mechanism.parent_id is", |p| p["$exception_list"][0]["mechanism"]["parent_id"] = json!(0)),
        ("mechanism.parent_id is", |p| p["$exception_list"][1]["mechanism"]["parent_id"] = json!(1)),
        ("mechanism.parent_id is missing", |p| remove(&mut p["$exception_list"][1]["mechanism"], "parent_id")),
        ("mechanism.exception_id is missing", |p| remove(&mut p["$exception_list"][1]["mechanism"], "exception_id")),
        ("exception_id 0 twice", |p| p["$exception_list"][1]["mechanism"]["exception_id"] = json!(0)),
        ("is not handled", |p| p["$exception_list"][0]["mechanism"]["type"] = json!("signal")),
        ("mechanism.x is", |p| p["$exception_list"][0]["mechanism"]["x"] = json!(1)),
        ("stacktrace.type is", |p| p["$exception_list"][0]["stacktrace"]["type"] = json!("cooked")),
        ("platform is \"wasm\"", |p| p["$exception_list"][0]["stacktrace"]["frames"][0]["platform"] = json!("wasm")),
        ("instruction_addr is", |p| {
            p["$exception_list"][0]["stacktrace"]["frames"][0]["instruction_addr"] = json!(4096);
        }),
        ("lineno is", |p| p["$exception_list"][0]["stacktrace"]["frames"][0]["lineno"] = json!(0)),
        ("function is null", |p| p["$exception_list"][0]["stacktrace"]["frames"][0]["function"] = json!(null)),
        ("away from its physical one", |p| {
            p["$exception_list"][0]["stacktrace"]["frames"][0]["inline"] = json!(true);
        }),
        ("a stack of 65 frames", |p| {
            let frames = p["$exception_list"][0]["stacktrace"]["frames"].as_array_mut().unwrap();
            *frames = vec![frames[0].clone(); 65];
        }),
        ("image 0: debug_id is missing", |p| remove(&mut p["$debug_images"][0], "debug_id")),
        ("image 0: no frame lies in it", |p| p["$debug_images"][0]["image_addr"] = json!("0x1")),
        ("image 0: type is", |p| p["$debug_images"][0]["type"] = json!("coff")),
        ("step 0: $timestamp is wrong", |p| p["$exception_steps"] = json!([{"$message": "x", "$timestamp": "now"}])),
    ];
    for (text, change) in table {
        assert_violation(batch(&[exception(change)]), 200, text);
    }
}
