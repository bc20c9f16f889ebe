//! JSON that somebody else wrote, read where it lies: no copy, no allocation, no recursion.
//!
//! In: text that [`RawJson`] has checked once. Out: [`Json`] values and [`Text`] that borrow it. Because the grammar was
//! checked, walking need not be suspicious; because the network wrote it, nothing here indexes, adds or recurses without
//! a bound. Walking an array or object costs one pass over its bytes, whatever is nested in it.

use core::fmt;

use crate::raw::{RawJson, RawJsonError};

/// One value inside of checked JSON text, without white space around it.
///
/// ```
/// use quillet_core::flags::Json;
///
/// let plan = Json::parse(r#"{"name": "pro", "seats": [1, 2.5]}"#)?;
/// assert!(plan.member("name").is_some_and(|name| name.as_text().is_some_and(|text| text == "pro")));
/// let seats: Option<f64> = plan.member("seats").map(|seats| seats.elements().filter_map(|seat| seat.as_f64()).sum());
/// assert_eq!(seats, Some(3.5));
/// # Ok::<(), quillet_core::RawJsonError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Json<'a> {
    text: &'a str,
}

impl<'a> Json<'a> {
    /// Checks `text` as [`RawJson::parse`] does. Linear in its length.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub fn parse(text: &'a str) -> Result<Self, RawJsonError> {
        RawJson::parse(text).map(Self::from)
    }

    /// The value as it was written, white space inside of it included.
    pub const fn as_str(self) -> &'a str {
        self.text
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.text == "null"
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.text.starts_with('{')
    }

    /// Whether it is an array.
    pub fn is_array(self) -> bool {
        self.text.starts_with('[')
    }

    /// The value of `true` or `false`.
    pub fn as_bool(self) -> Option<bool> {
        match self.text {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// The value of a number.
    pub fn as_f64(self) -> Option<f64> {
        if self.is_number() { self.text.parse().ok() } else { None }
    }

    /// The value of a whole number that fits.
    pub fn as_u64(self) -> Option<u64> {
        if self.is_number() { self.text.parse().ok() } else { None }
    }

    /// The content of a string.
    pub fn as_text(self) -> Option<Text<'a>> {
        self.text.strip_prefix('"')?.strip_suffix('"').map(Text::from_escaped)
    }

    /// Keys and values of an object, in the order in which they were written; nothing if it is none.
    pub fn members(self) -> Members<'a> {
        Members { rest: if self.is_object() { inside(self.text) } else { "" } }
    }

    /// Values of an array; nothing if it is none.
    pub fn elements(self) -> Elements<'a> {
        Elements { rest: if self.is_array() { inside(self.text) } else { "" } }
    }

    /// The value of an object's member. Of several with this key the last one counts, as for most readers of JSON.
    pub fn member(self, key: &str) -> Option<Self> {
        self.members().filter(|(name, _)| *name == *key).last().map(|(_, value)| value)
    }

    /// A member that is there and not `null`.
    pub(super) fn given(self, key: &str) -> Option<Self> {
        self.member(key).filter(|value| !value.is_null())
    }

    /// A value of text that was checked before: a part of it, found again by its place.
    pub(super) const fn of_checked(text: &'a str) -> Self {
        Self { text }
    }

    fn is_number(self) -> bool {
        self.text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }
}

impl<'a> From<RawJson<'a>> for Json<'a> {
    fn from(raw: RawJson<'a>) -> Self {
        Self { text: raw.as_str().trim_matches(WHITE) }
    }
}

impl fmt::Debug for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

/// White space between tokens.
const WHITE: [char; 4] = [' ', '\n', '\r', '\t'];

/// Iterator over an object; see [`Json::members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Members<'a> {
    type Item = (Text<'a>, Json<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, rest) = next_value(self.rest)?;
        let rest = rest.trim_start_matches(WHITE).strip_prefix(':')?;
        let (value, rest) = next_value(rest)?;
        self.rest = behind_comma(rest);
        Some((Json { text: key }.as_text()?, Json { text: value }))
    }
}

/// Iterator over an array; see [`Json::elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Elements<'a> {
    type Item = Json<'a>;

    fn next(&mut self) -> Option<Json<'a>> {
        let (value, rest) = next_value(self.rest)?;
        self.rest = behind_comma(rest);
        Some(Json { text: value })
    }
}

/// What lies between the outer brackets of an array or object.
fn inside(text: &str) -> &str {
    let end = text.len().saturating_sub(1);
    text.get(1..end).unwrap_or_default()
}

fn behind_comma(rest: &str) -> &str {
    let rest = rest.trim_start_matches(WHITE);
    rest.strip_prefix(',').unwrap_or(rest)
}

/// The first value of `text` and what follows it; `None` if there is nothing but white space.
fn next_value(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches(WHITE);
    let len = value_len(text.as_bytes());
    if len == 0 { None } else { text.split_at_checked(len) }
}

/// Length of the value that `text`, which is checked JSON from there on, begins with.
fn value_len(text: &[u8]) -> usize {
    match text.first() {
        None => 0,
        Some(b'"') => string_len(text),
        Some(b'{' | b'[') => container_len(text),
        Some(_) => {
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':' | b' ' | b'\n' | b'\r' | b'\t');
            text.iter().position(ends).unwrap_or(text.len())
        }
    }
}

/// Length of a string with both of its quotes.
fn string_len(text: &[u8]) -> usize {
    let mut escaped = true; // of the opening quote: it does not close anything
    let close = text.iter().position(|&byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    close.map_or(text.len(), |at| at + 1)
}

fn container_len(text: &[u8]) -> usize {
    let (mut at, mut depth) = (0_usize, 0_usize);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => {
                at += string_len(text.get(at..).unwrap_or_default());
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// A string inside of JSON text, still with its escapes: compared, printed and walked as what it means.
#[derive(Clone, Copy)]
pub struct Text<'a> {
    escaped: &'a str,
    plain: bool,
}

impl<'a> Text<'a> {
    /// The text itself, if nothing in it is escaped; almost always.
    #[inline]
    pub const fn as_plain(self) -> Option<&'a str> {
        if self.plain { Some(self.escaped) } else { None }
    }

    /// Whether there is nothing in it.
    pub const fn is_empty(self) -> bool {
        self.escaped.is_empty()
    }

    /// Its characters, escapes resolved.
    pub fn chars(self) -> Chars<'a> {
        Chars { rest: self.escaped.chars() }
    }

    /// Writes the text into `memory` where it must, and returns it. `None` if it does not fit.
    pub fn decode<'m>(self, memory: &'m mut [u8]) -> Option<&'m str>
    where
        'a: 'm,
    {
        if let Some(plain) = self.as_plain() {
            return Some(plain);
        }
        let mut len = 0_usize;
        for char in self.chars() {
            len += char.encode_utf8(memory.get_mut(len..len.checked_add(char.len_utf8())?)?).len();
        }
        core::str::from_utf8(memory.get(..len)?).ok()
    }

    /// As it stands in the JSON, without quotes.
    pub(super) const fn escaped(self) -> &'a str {
        self.escaped
    }

    pub(super) fn from_escaped(escaped: &'a str) -> Self {
        Self { escaped, plain: !escaped.as_bytes().contains(&b'\\') }
    }

    /// The same for text that is known to be plain, or known not to be.
    pub(super) const fn from_parts(escaped: &'a str, plain: bool) -> Self {
        Self { escaped, plain }
    }
}

impl PartialEq<str> for Text<'_> {
    #[inline]
    fn eq(&self, other: &str) -> bool {
        if self.plain { self.escaped == other } else { self.chars().eq(other.chars()) }
    }
}

impl PartialEq<&str> for Text<'_> {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        match other.as_plain() {
            Some(plain) => *self == *plain,
            None => self.chars().eq(other.chars()),
        }
    }
}

impl Eq for Text<'_> {}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_plain() {
            Some(plain) => f.write_str(plain),
            None => self.chars().try_for_each(|char| fmt::Write::write_char(f, char)),
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.escaped)
    }
}

/// The characters of a [`Text`].
#[derive(Clone, Debug)]
pub struct Chars<'a> {
    rest: core::str::Chars<'a>,
}

impl Iterator for Chars<'_> {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let char = self.rest.next()?;
        if char != '\\' {
            return Some(char);
        }
        Some(match self.rest.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => self.unicode(),
            // A quote, a backslash or a slash; the check let nothing else through.
            same => same,
        })
    }
}

impl Chars<'_> {
    /// What follows `\u`: a code point, or a pair of surrogates. The check let no half pair through.
    fn unicode(&mut self) -> char {
        let mut code = self.quad();
        if (0xd800..0xdc00).contains(&code) {
            self.rest.next();
            self.rest.next();
            code = 0x1_0000 + ((code & 0x3ff) << 10 | self.quad() & 0x3ff);
        }
        char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn quad(&mut self) -> u32 {
        let digits = self.rest.by_ref().take(4).map(|digit| digit.to_digit(16).unwrap_or(0));
        digits.fold(0, |code, digit| code << 4 | digit)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

    use proptest::prelude::*;
    use std::format;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use super::*;

    /// Our reading of `text`, rebuilt with serde_json's types.
    fn read(json: Json<'_>) -> serde_json::Value {
        if json.is_object() {
            json.members().map(|(key, value)| (key.to_string(), read(value))).collect()
        } else if json.is_array() {
            json.elements().map(read).collect()
        } else if let Some(text) = json.as_text() {
            text.to_string().into()
        } else if let Some(value) = json.as_bool() {
            value.into()
        } else if json.is_null() {
            serde_json::Value::Null
        } else {
            serde_json::from_str(json.as_str()).unwrap()
        }
    }

    #[test]
    fn what_is_read_is_what_was_written() {
        for text in [
            " {} ",
            "[ ]",
            "[[],{}, [1 , 2],\n{\"a\" : { \"b\":[null]} } ]",
            r#"{"a":"}","b":"\"]","c\\":"\\","d":"\\\"","":""}"#,
            r#"["\u0041\u00e9\ud83d\ude00\/\b\f\n\r\t","é😀"]"#,
            "-1.5e3",
            "\"\"",
            "true",
            r#"{"twice":1,"twice":2}"#,
        ] {
            assert_eq!(read(Json::parse(text).unwrap()), serde_json::from_str::<serde_json::Value>(text).unwrap());
        }
    }

    #[test]
    fn the_last_of_two_equal_keys_counts() {
        let json = Json::parse(r#"{"a":1,"b":2,"a":null,"\u0061":3}"#).unwrap();
        assert_eq!(json.member("a").and_then(Json::as_u64), Some(3));
        assert!(json.member("c").is_none());
    }

    #[test]
    fn text_is_compared_by_meaning() {
        let pair = Json::parse(r#"["\u0061b","ab","a\u0062","abc"]"#).unwrap();
        let [one, two, three, four] = pair.elements().filter_map(Json::as_text).collect::<Vec<_>>()[..] else {
            unreachable!("four texts")
        };
        assert_eq!([one, two, three], [two, three, one]);
        assert_ne!(one, four);
        assert!(one == "ab");
        assert!(one.as_plain().is_none() && two.as_plain() == Some("ab"));
        assert_eq!(one.decode(&mut [0; 2]), Some("ab"));
        assert_eq!(one.decode(&mut [0; 1]), None);
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".*".prop_map(|text| text.into()),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(".*", inner, 0..6)
                    .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_document_is_read_as_serde_json_wrote_it(value in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            prop_assert_eq!(read(Json::parse(&text).unwrap()), value);
        }

        /// Only checked text is walked, but a mistake of ours must not become a panic or a loop without end.
        #[test]
        fn even_text_that_was_not_checked_ends(text in "[\\[\\]{}\",:\\\\ua1 ]{0,40}") {
            let json = Json::of_checked(&text);
            let walked = json.members().count() + json.elements().count();
            prop_assert!(walked <= text.len());
            let text: String = json.as_text().map(|text| format!("{text}")).unwrap_or_default();
            prop_assert!(text.len() <= 4 * 40);
        }
    }
}
