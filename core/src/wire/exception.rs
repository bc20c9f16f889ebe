//! The part of an event that error tracking reads: list, mechanism, frames, images.
//!
//! In: an [`Exception`]. Out: properties behind a comma, through [`Out`]. A mistake in here costs the event its issue
//! without a word to the client, so nothing is written that is not known: unknown means absent, never `null`.
//!
//! Frames go from the entry point to the place of the error; addresses come the other way round and are turned here. The
//! image of a frame is the one that its address lies in; `$debug_images` lists those with a build id, each once.

use super::event::write_key;
use super::key;
use super::writer::Out;
use crate::exception::{Cause, Exception, Frame, Image, Mechanism, Place};

/// What PostHog calls the machine that addresses belong to.
const ARCH: &str = if cfg!(target_arch = "x86_64") {
    "x86_64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else if cfg!(target_arch = "arm") {
    "arm"
} else if cfg!(target_arch = "x86") {
    "x86"
} else if cfg!(target_arch = "riscv64") {
    "riscv64"
} else if cfg!(target_arch = "riscv32") {
    "riscv32"
} else {
    "unknown"
};

/// How images of this target are called.
const IMAGE_TYPE: &str = if cfg!(target_vendor = "apple") {
    "macho"
} else if cfg!(windows) {
    "pe"
} else {
    "elf"
};

/// Writes everything about the exception; its steps only `with_steps`, because an event may bring its own.
pub(super) fn write_exception<O: Out>(out: &mut O, exception: &Exception<'_>, with_steps: bool) {
    if let Some(level) = exception.level {
        write_key(out, key::EXCEPTION_LEVEL);
        out.string(level.as_str());
    }
    if let Some(source) = exception.source {
        write_key(out, key::EXCEPTION_SOURCE);
        out.string(source);
    }
    write_key(out, key::EXCEPTION_LIST);
    out.bytes(b"[{\"type\":");
    write_type(out, exception.type_name);
    out.bytes(b",\"value\":");
    out.string(exception.message);
    if let Some(id) = exception.thread_id {
        out.bytes(b",\"thread_id\":");
        out.int(i64::from(id));
    }
    out.bytes(b",\"mechanism\":{\"type\":");
    out.string(exception.mechanism.as_str());
    // What is not known is absent: the server reads `null` and `false` as statements.
    if let Some(handled) = exception.handled {
        out.bytes(if handled { b",\"handled\":true" } else { b",\"handled\":false" });
    }
    if let Some(synthetic) = exception.synthetic {
        out.bytes(if synthetic { b",\"synthetic\":true" } else { b",\"synthetic\":false" });
    }
    out.bytes(b",\"exception_id\":0}");
    write_stack(out, exception);
    out.bytes(b"}");
    write_causes(out, exception.kept_causes());
    out.bytes(b"]");
    write_images(out, exception);
    write_texts(out, exception);
    if with_steps && !exception.steps.is_empty() {
        write_key(out, key::EXCEPTION_STEPS);
        let mut before: &[u8] = b"[";
        for step in exception.steps.iter() {
            out.bytes(before);
            out.bytes(step);
            before = b",";
        }
        out.bytes(b"]");
    }
}

/// Each cause behind a comma: its parent is the entry before it.
fn write_causes<O: Out>(out: &mut O, causes: &[Cause<'_>]) {
    for (parent, cause) in (0u64..).zip(causes) {
        out.bytes(b",{\"type\":");
        write_type(out, cause.type_name);
        out.bytes(b",\"value\":");
        out.string(cause.message);
        out.bytes(b",\"mechanism\":{\"type\":\"chained\",\"source\":\"cause\",\"exception_id\":");
        out.uint(parent + 1);
        out.bytes(b",\"parent_id\":");
        out.uint(parent);
        out.bytes(b"}}");
    }
}

/// The server makes an issue of nothing without a type.
fn write_type<O: Out>(out: &mut O, type_name: &str) {
    out.string(if type_name.is_empty() { "Error" } else { type_name });
}

fn write_texts<O: Out>(out: &mut O, exception: &Exception<'_>) {
    if let (Some(Place { file, line, column }), Mechanism::Panic) = (exception.place, exception.mechanism) {
        write_key(out, key::EXCEPTION_PANIC_FILE);
        out.string(file);
        write_key(out, key::EXCEPTION_PANIC_LINE);
        out.uint(u64::from(line));
        write_key(out, key::EXCEPTION_PANIC_COLUMN);
        out.uint(u64::from(column));
    }
    if let Some(name) = exception.thread_name {
        write_key(out, key::EXCEPTION_THREAD_NAME);
        out.string(name);
    }
    if exception.suppressed > 0 {
        write_key(out, key::EXCEPTION_SUPPRESSED);
        out.uint(exception.suppressed);
    }
    if let Some(fingerprint) = exception.fingerprint {
        write_key(out, key::EXCEPTION_FINGERPRINT);
        out.string(fingerprint);
    }
    if let Some(text) = exception.stack_text {
        write_key(out, key::EXCEPTION_STACK_TEXT);
        out.string(text);
    }
}

fn write_stack<O: Out>(out: &mut O, exception: &Exception<'_>) {
    const OPEN: &[u8] = b",\"stacktrace\":{\"type\":\"raw\",\"frames\":[";
    let (frames, addresses) = (exception.kept_frames(), exception.kept_addresses());
    if frames.is_empty() && addresses.is_empty() && exception.place.is_none() {
        return;
    }
    let mut before = OPEN;
    for frame in frames.iter().rev() {
        out.bytes(before);
        write_known_frame(out, frame);
        before = b",";
    }
    for address in addresses.iter().rev() {
        out.bytes(before);
        write_address_frame(out, *address, exception.images);
        before = b",";
    }
    // Neither address nor function: the server groups by file and line as long as no frame is resolved, and leaves this
    // one out once the addresses are.
    if let Some(Place { file, line, column }) = exception.place.filter(|_| frames.is_empty()) {
        out.bytes(before);
        out.bytes(b"{\"platform\":\"native\",\"lang\":\"rust\"");
        write_file(out, file, line, column);
        out.bytes(b",\"in_app\":true}");
    }
    out.bytes(b"]}");
}

fn write_known_frame<O: Out>(out: &mut O, frame: &Frame<'_>) {
    out.bytes(b"{\"platform\":\"native\",\"lang\":\"rust\",\"client_resolved\":true,\"function\":");
    out.string(frame.function);
    if !frame.file.is_empty() {
        write_file(out, frame.file, frame.line, frame.column);
    }
    out.bytes(if frame.in_app { b",\"in_app\":true}" } else { b",\"in_app\":false}" });
}

fn write_file<O: Out>(out: &mut O, file: &str, line: u32, column: u32) {
    out.bytes(b",\"filename\":");
    out.string(file);
    for (name, number) in [(&b",\"lineno\":"[..], line), (b",\"colno\":", column)] {
        if number > 0 {
            out.bytes(name);
            out.uint(u64::from(number));
        }
    }
}

fn write_address_frame<O: Out>(out: &mut O, address: u64, images: &[Image<'_>]) {
    out.bytes(b"{\"platform\":\"native\",\"lang\":\"rust\",\"instruction_addr\":");
    write_hex(out, address);
    let image = image_of(address, images);
    if let Some(image) = image {
        out.bytes(b",\"image_addr\":");
        write_hex(out, image.start);
    }
    // The server takes a frame that says nothing for the application's.
    let in_app = image.map_or(images.is_empty(), |image| image.in_app);
    out.bytes(if in_app { b",\"in_app\":true}" } else { b",\"in_app\":false}" });
}

fn write_images<O: Out>(out: &mut O, exception: &Exception<'_>) {
    let mut before: &[u8] = b"[";
    for image in used_images(exception) {
        if before == b"[" {
            write_key(out, key::DEBUG_IMAGES);
        }
        out.bytes(before);
        out.bytes(b"{\"debug_id\":\"");
        write_debug_id(out, image.build_id);
        out.bytes(b"\",\"image_addr\":");
        write_hex(out, image.start);
        out.bytes(b",\"image_size\":");
        out.uint(image.bytes);
        out.bytes(b",\"type\":");
        out.string(IMAGE_TYPE);
        out.bytes(b",\"arch\":");
        out.string(ARCH);
        if !image.file.is_empty() {
            out.bytes(b",\"code_file\":");
            out.string(image.file);
        }
        out.bytes(b",\"code_id\":\"");
        image.build_id.iter().for_each(|byte| write_hex_byte(out, *byte));
        out.bytes(b"\"}");
        before = b",";
    }
    if before == b"," {
        out.bytes(b"]");
    }
}

/// The image of an address: the first that holds it.
fn image_of<'a>(address: u64, images: &'a [Image<'a>]) -> Option<&'a Image<'a>> {
    images.iter().find(|image| image.contains(address))
}

/// The images that a kept frame lies in and that have a build id, each start once.
fn used_images<'a>(exception: &Exception<'a>) -> impl Iterator<Item = &'a Image<'a>> {
    let (addresses, images) = (exception.kept_addresses(), exception.images);
    images.iter().enumerate().filter_map(move |(at, image)| {
        let is_first = !images.iter().take(at).any(|earlier| earlier.start == image.start);
        let is_used = || {
            addresses.iter().any(|address| image_of(*address, images).is_some_and(|found| found.start == image.start))
        };
        (is_first && !image.build_id.is_empty() && is_used()).then_some(image)
    })
}

/// A build id as PostHog looks symbols up by it: the first 16 bytes as a little-endian GUID for ELF on a little-endian
/// target, as they are for the others.
fn write_debug_id<O: Out>(out: &mut O, build_id: &[u8]) {
    const ELF: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let swapped = cfg!(target_endian = "little") && !cfg!(target_vendor = "apple") && !cfg!(windows);
    for (at, from) in ELF.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            out.bytes(b"-");
        }
        let from = if swapped { from } else { at };
        write_hex_byte(out, build_id.get(from).copied().unwrap_or(0));
    }
}

fn write_hex_byte<O: Out>(out: &mut O, byte: u8) {
    out.bytes(&[hex_digit(byte >> 4), hex_digit(byte)]);
}

/// A number as `"0x…"`, without leading zeros.
fn write_hex<O: Out>(out: &mut O, number: u64) {
    let digits: [u8; 16] = core::array::from_fn(|at| hex_digit((number >> (60 - 4 * at)) as u8));
    let zeros = (number.leading_zeros() as usize / 4).min(15);
    out.bytes(b"\"0x");
    out.bytes(digits.get(zeros..).unwrap_or_default());
    out.bytes(b"\"");
}

pub(crate) fn hex_digit(nibble: u8) -> u8 {
    let nibble = nibble & 0x0f;
    if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::super::writer::Writer;
    use super::*;
    use crate::limits::FRAMES_MAX;
    use crate::{Level, Mechanism};
    use serde_json::Value;
    use std::string::String;
    use std::vec::Vec;

    /// The properties as an object.
    fn written(exception: &Exception<'_>) -> Value {
        let mut memory = [0; 32 * 1024];
        let mut out = Writer::new(&mut memory);
        write_exception(&mut out, exception, true);
        let len = out.finish().unwrap();
        let mut counter = Writer::new(&mut []);
        write_exception(&mut counter, exception, true);
        assert_eq!(counter.wanted(), len);
        let text = std::str::from_utf8(&memory[1..len]).unwrap();
        serde_json::from_str(&std::format!("{{{text}}}")).unwrap()
    }

    #[test]
    fn a_panic_looks_as_the_protocol_shows_it() {
        let id = [
            0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef, 1, 2, 3, 4,
        ];
        let images = [Image::new(0x55d0_c0a0_0000, 0x10_0000).build_id(&id).in_app(true).file("/bin/shop")];
        let exception = Exception::new("Panic", "index out of bounds")
            .mechanism(Mechanism::Panic)
            .handled(false)
            .level(Level::Fatal)
            .source("rust.panic_hook")
            .location("src/main.rs", 12, 5)
            .thread(Some(17), "worker")
            .stack(&[0x55d0_c0a0_1a3f, 0x1], &images);
        let value = written(&exception);
        let entry = &value[key::EXCEPTION_LIST][0];
        assert_eq!(entry["mechanism"], serde_json::json!({"type": "panic", "handled": false, "exception_id": 0}));
        assert_eq!(entry["thread_id"], 17);
        assert_eq!(value[key::EXCEPTION_THREAD_NAME], "worker");
        let frames = entry["stacktrace"]["frames"].as_array().unwrap();
        // Entry point first; the place in the source last.
        assert_eq!(frames[0]["instruction_addr"], "0x1");
        assert_eq!((&frames[0]["in_app"], frames[0].get("image_addr")), (&Value::Bool(false), None));
        assert_eq!(frames[1]["instruction_addr"], "0x55d0c0a01a3f");
        assert_eq!(frames[1]["image_addr"], "0x55d0c0a00000");
        assert_eq!((&frames[2]["filename"], &frames[2]["lineno"]), (&"src/main.rs".into(), &12.into()));
        let image = &value[key::DEBUG_IMAGES][0];
        if cfg!(all(target_endian = "little", target_os = "linux")) {
            assert_eq!(image["debug_id"], "67452301-ab89-efcd-0123-456789abcdef");
        }
        assert_eq!(image["code_id"], "0123456789abcdef0123456789abcdef01020304");
        assert_eq!(image["image_size"], 0x10_0000);
    }

    #[test]
    fn the_innermost_frames_are_kept_and_only_their_images() {
        let addresses: Vec<u64> = (0..200).map(|at| 0x1000 + at).collect();
        let images = [Image::new(0x1000, 10).build_id(&[7; 16]), Image::new(0x1000 + 100, 10).build_id(&[8; 16])];
        for (exception, most) in [
            (Exception::new("E", "").stack(&addresses, &images), FRAMES_MAX),
            (Exception::new("E", "").stack(&addresses, &images).location("a.rs", 1, 0), FRAMES_MAX - 1),
        ] {
            let value = written(&exception);
            let frames = value[key::EXCEPTION_LIST][0]["stacktrace"]["frames"].as_array().unwrap();
            assert_eq!(frames.len(), FRAMES_MAX);
            let last: String = std::format!("{:#x}", 0x1000 + most - 1);
            assert_eq!(frames[0]["instruction_addr"], last.as_str());
            assert_eq!(value[key::DEBUG_IMAGES].as_array().unwrap().len(), 1);
        }
    }

    #[test]
    fn causes_refer_to_the_entry_before_them() {
        let causes: Vec<_> = (0..60).map(|_| Cause::new("io::Error", "reset")).collect();
        let list = &written(&Exception::new("E", "").synthetic(true).causes(&causes))[key::EXCEPTION_LIST];
        assert_eq!(list.as_array().unwrap().len(), 50);
        assert_eq!(list[0]["mechanism"]["synthetic"], true);
        for id in 1..50 {
            let mechanism = serde_json::json!({
                "type": "chained", "source": "cause", "exception_id": id, "parent_id": id - 1
            });
            assert_eq!(list[id], serde_json::json!({"type": "io::Error", "value": "reset", "mechanism": mechanism}));
        }
        let nameless = [Cause::new("", "x")];
        assert_eq!(written(&Exception::new("E", "").causes(&nameless))[key::EXCEPTION_LIST][1]["type"], "Error");
    }

    #[test]
    fn known_frames_stand_in_for_addresses_and_place() {
        let frames = [Frame::new("shop::charge").location("src/a.rs", 7, 0), Frame::new("std::rt").in_app(false)];
        let value = written(&Exception::new("E", "").frames(&frames).stack(&[1], &[]).location("b.rs", 1, 2));
        let expected = serde_json::json!([
            {"platform": "native", "lang": "rust", "client_resolved": true, "function": "std::rt", "in_app": false},
            {"platform": "native", "lang": "rust", "client_resolved": true, "function": "shop::charge",
                "filename": "src/a.rs", "lineno": 7, "in_app": true},
        ]);
        assert_eq!(value[key::EXCEPTION_LIST][0]["stacktrace"]["frames"], expected);
        assert!(value.get(key::EXCEPTION_PANIC_FILE).is_none(), "only panics have those");
    }

    #[test]
    fn what_is_unknown_is_absent() {
        let value = written(&Exception::new("", "x").stack(&[], &[Image::new(0, 10).build_id(&[1])]));
        assert_eq!(
            value,
            serde_json::json!({key::EXCEPTION_LIST: [
                {"type": "Error", "value": "x", "mechanism": {"type": "generic", "exception_id": 0}}
            ]})
        );
        let value = written(&Exception::new("E", "").stack(&[u64::MAX], &[]));
        let frame = &value[key::EXCEPTION_LIST][0]["stacktrace"]["frames"][0];
        assert_eq!((&frame["instruction_addr"], &frame["in_app"]), (&"0xffffffffffffffff".into(), &true.into()));
    }
}
