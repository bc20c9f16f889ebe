//! What a parsed [`Value`](serde_json::Value) no longer shows: where each event stood, keys written twice, needless
//! escapes.
//!
//! Input: text that serde_json has accepted, so this walk checks no grammar and its depth is bounded by serde_json's
//! 128. On any other text it stops early and never panics.

use std::collections::HashSet;
use std::ops::Range;

/// What one walk over a body found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The bytes of each element of `batch`.
    pub(super) events: Vec<Range<usize>>,
    pub(super) duplicates: Vec<Duplicate>,
    /// Escapes of characters that need none: the event's index, `None` for the envelope, and the escape.
    pub(super) escapes: Vec<(Option<usize>, String)>,
    /// Events with a raw newline in them. Strings have none, so it stands between tokens.
    pub(super) newlines: Vec<usize>,
}

/// A key that an object has twice.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub(super) place: Place,
    pub(super) event: Option<usize>,
    pub(super) key: String,
}

/// Which value of the body is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The envelope.
    Root,
    /// The array of events.
    Batch,
    /// An event.
    Event,
    /// An event's properties.
    Properties,
    /// Anything else.
    Deep,
}

impl Scan {
    pub(super) fn of(text: &str) -> Self {
        let mut walk = Walk { text, at: 0, event: None, scan: Self::default() };
        // `None` means that the text was not JSON after all; what was found so far stands.
        let _ = walk.value(Place::Root);
        walk.scan
    }
}

struct Walk<'t> {
    text: &'t str,
    at: usize,
    /// The index of the event being read.
    event: Option<usize>,
    scan: Scan,
}

impl Walk<'_> {
    fn value(&mut self, place: Place) -> Option<()> {
        match self.peek()? {
            b'{' => self.object(place),
            b'[' => self.array(place),
            b'"' => self.string().map(drop),
            _ => self.literal(),
        }
    }

    /// A number, `true`, `false` or `null`.
    fn literal(&mut self) -> Option<()> {
        let start = self.at;
        let belongs = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        while self.text.as_bytes().get(self.at).copied().is_some_and(belongs) {
            self.at += 1;
        }
        // Without this an array of nonsense would never end.
        (self.at > start).then_some(())
    }

    fn object(&mut self, place: Place) -> Option<()> {
        let mut keys = HashSet::new();
        self.at += 1;
        while self.peek()? != b'}' {
            let key = self.string()?;
            if self.peek()? != b':' {
                return None;
            }
            self.at += 1;
            self.value(inside(place, &key))?;
            let alias = canonical(place, &key);
            if !keys.insert(alias) {
                self.scan.duplicates.push(Duplicate { place, event: self.event, key });
            }
            self.comma()?;
        }
        self.at += 1;
        Some(())
    }

    fn array(&mut self, place: Place) -> Option<()> {
        self.at += 1;
        while self.peek()? != b']' {
            if place == Place::Batch {
                self.event = Some(self.scan.events.len());
                let start = self.at;
                self.value(Place::Event)?;
                self.scan.events.push(start..self.at);
                let raw = self.text.get(start..self.at)?;
                if raw.contains('\n') {
                    self.scan.newlines.extend(self.event);
                }
                self.event = None;
            } else {
                self.value(Place::Deep)?;
            }
            self.comma()?;
        }
        self.at += 1;
        Some(())
    }

    /// Reads a string and answers what it means.
    fn string(&mut self) -> Option<String> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at;
        self.at += 1;
        loop {
            match self.text.as_bytes().get(self.at)? {
                b'"' => break,
                b'\\' => self.escape()?,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        serde_json::from_str(self.text.get(start..self.at)?).ok()
    }

    fn escape(&mut self) -> Option<()> {
        let start = self.at;
        let letter = *self.text.as_bytes().get(start + 1)?;
        self.at += if letter == b'u' { 6 } else { 2 };
        let escape = self.text.get(start..self.at)?;
        let needless = match letter {
            b'/' => true,
            b'u' => u16::from_str_radix(escape.get(2..)?, 16).ok()? >= 0x20,
            _ => false,
        };
        if needless {
            self.scan.escapes.push((self.event, escape.to_owned()));
        }
        Some(())
    }

    /// Goes past a comma, if there is one; a closing bracket is for the caller.
    fn comma(&mut self) -> Option<()> {
        if self.peek()? == b',' {
            self.at += 1;
        }
        Some(())
    }

    /// The next byte that is not white space.
    fn peek(&mut self) -> Option<u8> {
        while self.text.as_bytes().get(self.at)?.is_ascii_whitespace() {
            self.at += 1;
        }
        self.text.as_bytes().get(self.at).copied()
    }
}

fn inside(place: Place, key: &str) -> Place {
    match (place, key) {
        (Place::Root, "batch") => Place::Batch,
        (Place::Event, "properties") => Place::Properties,
        _ => Place::Deep,
    }
}

/// The server knows some keys by two names, and takes both together for a key written twice.
fn canonical(place: Place, key: &str) -> String {
    match (place, key) {
        (Place::Event, "$distinct_id") => "distinct_id",
        (Place::Root, "token") => "api_key",
        _ => key,
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn events_are_found_where_they_stand() {
        let text = r#"{"api_key":"k","batch":[{"a":[1,{"b":"]}"}]},
{"c":-1.5e3, "d":null} ,{}],"sent_at":"x"}"#;
        let scan = Scan::of(text);
        let events: Vec<&str> = scan.events.iter().map(|span| &text[span.clone()]).collect();
        assert_eq!(events, [r#"{"a":[1,{"b":"]}"}]}"#, r#"{"c":-1.5e3, "d":null}"#, "{}"]);
        assert!(scan.duplicates.is_empty() && scan.escapes.is_empty() && scan.newlines.is_empty());
    }

    #[test]
    fn duplicates_are_found_by_meaning_and_place() {
        let text =
            r#"{"batch":[{"event":"a","\u0065vent":"b","properties":{"x":1,"y":{"z":1,"z":2},"x":3}}],"batch":[]}"#;
        let found: Vec<_> = Scan::of(text).duplicates.into_iter().map(|dup| (dup.place, dup.event, dup.key)).collect();
        let expected = [
            (Place::Event, Some(0), "event"),
            (Place::Deep, Some(0), "z"),
            (Place::Properties, Some(0), "x"),
            (Place::Root, None, "batch"),
        ];
        assert_eq!(found, expected.map(|(place, event, key)| (place, event, key.to_owned())));
    }

    #[test]
    fn an_alias_is_the_same_key() {
        let scan = Scan::of(r#"{"batch":[{"distinct_id":"a","$distinct_id":"a"}]}"#);
        assert_eq!(scan.duplicates[0].key, "$distinct_id");
    }

    #[test]
    fn needless_escapes_are_found_and_needed_ones_are_not() {
        let text = r#"{"k":"\u00e9\/\ud83d\ude00\u0041","n":"\n\"\\\u0000\u001F"}"#;
        let found: Vec<String> = Scan::of(text).escapes.into_iter().map(|(_, escape)| escape).collect();
        assert_eq!(found, [r"\u00e9", r"\/", r"\ud83d", r"\ude00", r"\u0041"]);
    }

    #[test]
    fn text_that_is_no_json_ends_the_walk() {
        for text in ["", "{", "[", "{\"a\"", "{\"a\":", "\"\\", "\"\\u12", "{\"batch\":[{", "]", "{]", "[}", "{1:2}"] {
            let _ = Scan::of(text);
        }
    }
}
