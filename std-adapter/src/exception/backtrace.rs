//! A backtrace with symbols, as frames.
//!
//! In: a [`Backtrace`] that somebody captured where the error arose, or that was captured with its report. Out: functions,
//! files and lines. The standard library gives frames out as text only, so the text is read; making it looks symbols up,
//! which takes milliseconds and memory. That is why nothing here runs unless an error brought a backtrace along
//! (`RUST_BACKTRACE`, `RUST_LIB_BACKTRACE`) or the client was built with `resolve_symbols`.

use core::fmt::{self, Write};
use std::backtrace::{Backtrace, BacktraceStatus};

use quillet_core::Frame;
use quillet_core::limits::FRAMES_MAX;

/// Bytes of a backtrace's text that are read. The innermost frames come first.
const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Crates whose frames are not the application's.
const LIBRARIES: [&str; 16] = [
    "alloc",
    "anyhow",
    "backtrace",
    "color_eyre",
    "core",
    "eyre",
    "futures",
    "hyper",
    "log",
    "quillet",
    "quillet_core",
    "reqwest",
    "std",
    "stable_eyre",
    "tokio",
    "tracing",
];

/// Parts of paths at which code lies that is not the application's.
const LIBRARY_PATHS: [&str; 8] = [
    "/.cargo/registry/",
    "/.cargo/git/",
    "/cargo/registry/",
    "/rustc/",
    "/rustlib/",
    "/.rustup/toolchains/",
    "/vendor/",
    "/library/std/src/",
];

/// Start-up and unwinding, for frames without a file.
const GLUE: [&str; 5] = ["main", "_start", "__libc_start_main", "start_thread", "clone"];

/// The text of a backtrace, if there is one: what its frames borrow.
pub(crate) fn text(backtrace: &Backtrace) -> Option<String> {
    if backtrace.status() != BacktraceStatus::Captured {
        return None;
    }
    let mut text = Bounded(String::new());
    // Ended early is as good as whole.
    let _ = write!(text, "{backtrace}");
    Some(text.0)
}

/// The frames in a backtrace's text, innermost first, without those that captured it.
pub(crate) fn frames(text: &str) -> heapless::Vec<Frame<'_>, FRAMES_MAX> {
    let mut frames = heapless::Vec::<Frame<'_>, FRAMES_MAX>::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(function) = numbered(line) else { continue };
        let place = lines.next_if(|line| line.trim_start().starts_with("at "));
        if frames.is_empty() && is_of_capture(function) {
            continue;
        }
        let (file, line, column) = place.map_or(("", 0, 0), location);
        let frame = Frame::new(function).location(file, line, column).in_app(is_in_app(function, file));
        if frames.push(frame).is_err() {
            break;
        }
    }
    frames
}

/// The function in a line like `  12: shop::charge::h0123456789abcdef`.
fn numbered(line: &str) -> Option<&str> {
    let (number, function) = line.trim_start().split_once(": ")?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let function = function.trim();
    match function.rsplit_once("::h") {
        Some((path, hash)) if hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => Some(path),
        _ => Some(function),
    }
}

/// File, line and column in a line like `  at src/main.rs:12:5`.
fn location(line: &str) -> (&str, u32, u32) {
    let place = line.trim_start().trim_start_matches("at ").trim();
    let number = |text: &str| text.parse::<u32>().ok();
    let Some((rest, last)) = place.rsplit_once(':') else { return (place, 0, 0) };
    let Some(last) = number(last) else { return (place, 0, 0) };
    match rest.rsplit_once(':').and_then(|(file, line)| Some((file, number(line)?))) {
        Some((file, line)) => (file, line, last),
        None => (rest, last, 0),
    }
}

/// Whether a frame belongs to taking the backtrace, not to what happened.
fn is_of_capture(function: &str) -> bool {
    let path = function.trim_start_matches(['<', '&']);
    ["std::backtrace", "quillet::", "anyhow::", "eyre::", "backtrace::"].iter().any(|start| path.starts_with(start))
        || function.contains(" as anyhow::")
        || function.contains(" as eyre::")
        || function.contains("as core::convert::From<")
}

fn is_in_app(function: &str, file: &str) -> bool {
    // `<T as Trait>::method` belongs to the crate of `T`.
    let path = function.trim_start_matches(['<', '&']);
    let crate_name = path.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
    let is_library = |library: &str| {
        crate_name == library
            || crate_name.strip_prefix(library).is_some_and(|rest| rest.starts_with('_') && library != "quillet")
    };
    let glue = file.is_empty() && (GLUE.contains(&function) || function.starts_with("__"));
    !glue
        && !LIBRARIES.iter().any(|library| is_library(library))
        && !LIBRARY_PATHS.iter().any(|part| file.contains(part))
}

/// Text up to a bound; then an end to the formatting.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.0.len() + piece.len() > TEXT_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that fails should stop")]
    use super::*;

    #[test]
    fn a_backtrace_is_read_as_the_standard_library_writes_it() {
        let text = "   0: anyhow::error::<impl core::convert::From<E> for anyhow::Error>::from
             at /root/.cargo/registry/src/index.crates.io-1/anyhow-1.0.104/src/backtrace.rs:10:14
   1: shop::billing::charge::h0123456789abcdef
             at ./src/billing.rs:88:9
   2: <shop::Card as core::ops::drop::Drop>::drop
             at C:\\shop\\src\\card.rs:7
   3: std::rt::lang_start::{{closure}}
             at /rustc/abc/library/std/src/rt.rs:206:18
   4: main
   5: __libc_start_main
";
        let expected = [
            Frame::new("shop::billing::charge").location("./src/billing.rs", 88, 9),
            Frame::new("<shop::Card as core::ops::drop::Drop>::drop").location("C:\\shop\\src\\card.rs", 7, 0),
            Frame::new("std::rt::lang_start::{{closure}}")
                .location("/rustc/abc/library/std/src/rt.rs", 206, 18)
                .in_app(false),
            Frame::new("main").in_app(false),
            Frame::new("__libc_start_main").in_app(false),
        ];
        assert_eq!(frames(text).as_slice(), expected);
    }

    #[test]
    fn any_text_is_read_without_harm() {
        for text in ["", ":", "0:", "0: ", "  at x:1", "1: f\n at ", "99: f\n at a:b:c\n at :::", "<unknown>", "é: f"]
        {
            assert!(frames(text).len() <= 1, "{text:?}");
        }
        let many: String = (0..200).map(|n| format!("{n}: f{n}\n")).collect();
        assert_eq!(frames(&many).len(), FRAMES_MAX);
        assert_eq!(frames(&many)[0], Frame::new("f0"));
    }

    #[test]
    fn a_real_one_leads_to_who_called_and_not_to_this_library() {
        let text = text(&Backtrace::force_capture()).unwrap();
        assert!(text.contains("a_real_one_leads_to_who_called"), "{text}");
        let frames = frames(&text);
        let says = |frame: &Frame<'_>, part: &str| format!("{frame:?}").contains(part);
        assert!(frames.iter().any(|frame| says(frame, "test::run_test")), "{text}");
        assert!(!says(&frames[0], "quillet::") && says(&frames[0], "in_app"), "{text}");
        assert!(super::text(&Backtrace::disabled()).is_none());
    }
}
