//! Definitions that own their text and their index, and the engine for their patterns.
//!
//! In: a document of definitions, as text or as a file. Out: a [`DefinitionSet`], which never changes: a newer document is
//! a new set, put in its place at once, so that no evaluation sees half of each.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use quillet_core::Timestamp;
#[cfg(feature = "regex")]
use quillet_core::flags::Patterns;
use quillet_core::flags::{Definitions, DefinitionsError, FlagSubject, Inconclusive, LocalFlag, Slot};

use crate::error::BuildError;

/// Longest document, in bytes.
pub(super) const DOCUMENT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A document and its index.
pub(crate) struct DefinitionSet {
    text: Box<str>,
    slots: Box<[Slot]>,
    /// Laid over `text` and `slots` at each use: a struct cannot borrow from itself.
    layout: Definitions<'static>,
    #[cfg(feature = "regex")]
    patterns: Engine,
}

impl DefinitionSet {
    pub(super) fn parse(text: impl Into<Box<str>>) -> Result<Self, DefinitionsError> {
        let text: Box<str> = text.into();
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(DefinitionsError::TooLong);
        }
        let mut slots = Vec::new();
        let most = Definitions::slots_for(&text);
        slots.try_reserve_exact(most).map_err(|_| DefinitionsError::NoRoom)?;
        slots.resize(most, Slot::EMPTY);
        let definitions = Definitions::index(&text, &mut slots)?;
        let (layout, used) = (definitions.over("", &[]), definitions.slots_used());
        #[cfg(feature = "regex")]
        let patterns = Engine::new(&definitions);
        slots.truncate(used);
        Ok(Self {
            text,
            slots: slots.into_boxed_slice(),
            layout,
            #[cfg(feature = "regex")]
            patterns,
        })
    }

    /// Reads a file, once. For a client being built.
    pub(super) fn read(path: &Path) -> Result<Self, BuildError> {
        let text = read_text(path).map_err(|error| BuildError::FlagDefinitionsFile(error.kind()))?;
        Self::parse(text).map_err(BuildError::FlagDefinitions)
    }

    pub(super) fn as_definitions(&self) -> Definitions<'_> {
        self.layout.over(&self.text, &self.slots)
    }

    /// Whether the minimal form of `$feature_flag_called` is wanted.
    pub(super) fn is_minimal(&self) -> bool {
        self.layout.minimal_called_events()
    }

    /// What a flag is for somebody. Allocates nothing, except that an engine for patterns may.
    pub(super) fn evaluate(
        &self,
        key: &str,
        subject: &FlagSubject<'_>,
        now: Timestamp,
    ) -> Result<LocalFlag<'_>, Inconclusive> {
        #[cfg(feature = "regex")]
        let patterns = Some(&self.patterns as &dyn Patterns);
        #[cfg(not(feature = "regex"))]
        let patterns = None;
        self.as_definitions().evaluate_with(key, subject, now, patterns)
    }
}

/// A file's text, if it is not too long.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let limit = u64::try_from(DOCUMENT_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_string(&mut text)?;
    Ok(text)
}

/// Patterns compiled when their document was read.
///
/// The server's engine knows more than `regex-lite`: look-around, back-references, the classes of Unicode. A pattern that
/// does not compile, and a text or pattern beyond ASCII, is left to the server.
#[cfg(feature = "regex")]
struct Engine {
    /// By number.
    compiled: Vec<Option<regex_lite::Regex>>,
}

#[cfg(feature = "regex")]
impl Engine {
    /// Longest pattern that is compiled, in bytes.
    const PATTERN_BYTES_MAX: usize = 1024;

    fn new(definitions: &Definitions<'_>) -> Self {
        let mut compiled = Vec::new();
        for (number, pattern) in definitions.patterns() {
            let place = number as usize;
            if compiled.len() <= place {
                compiled.resize_with(place + 1, || None);
            }
            let pattern = pattern.to_string();
            if let Some(slot) = compiled.get_mut(place).filter(|_| Self::is_common(&pattern)) {
                *slot = regex_lite::Regex::new(&pattern).ok();
            }
        }
        Self { compiled }
    }

    /// Whether the pattern means the same to every engine that can read it.
    fn is_common(pattern: &str) -> bool {
        pattern.is_ascii() && pattern.len() <= Self::PATTERN_BYTES_MAX
    }
}

#[cfg(feature = "regex")]
impl Patterns for Engine {
    fn is_match(&self, number: u32, _pattern: &str, text: &str) -> Option<bool> {
        let compiled = self.compiled.get(number as usize)?.as_ref()?;
        text.is_ascii().then(|| compiled.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

    use quillet_core::props;

    use super::*;

    const NOW: Timestamp = Timestamp::from_unix_ms(1_795_000_000_000);

    fn with_pattern(pattern: &str) -> DefinitionSet {
        let text = format!(
            r#"{{"flags":[{{"key":"f","active":true,"filters":{{"groups":[{{"properties":[
                {{"key":"email","operator":"regex","value":"{pattern}"}}]}}]}}}}]}}"#
        );
        DefinitionSet::parse(text).unwrap()
    }

    fn ask(pattern: &str, email: &str) -> Result<bool, Inconclusive> {
        let properties = props! { "email": email };
        let subject = FlagSubject::new("x").person_properties(properties);
        with_pattern(pattern).evaluate("f", &subject, NOW).map(|flag| flag.value().is_enabled())
    }

    #[cfg(feature = "regex")]
    #[test]
    fn patterns_are_searched_for_anywhere_and_case_counts() {
        assert_eq!(ask(r"@example\\.com$", "ada@example.com"), Ok(true));
        assert_eq!(ask(r"@example\\.com$", "ada@exampleXcom"), Ok(false));
        assert_eq!(ask("ADA", "ada@example.com"), Ok(false));
        assert_eq!(ask("(?i)ADA", "ada@example.com"), Ok(true));
        for (pattern, email) in [("(?=a)", "a"), ("(", "a"), ("a", "ä"), ("ä", "a"), (r"(a)\\1", "aa")] {
            assert_eq!(ask(pattern, email), Err(Inconclusive::Pattern), "{pattern}");
        }
    }

    #[cfg(not(feature = "regex"))]
    #[test]
    fn without_an_engine_patterns_are_inconclusive() {
        assert_eq!(ask(r"@example\\.com$", "ada@example.com"), Err(Inconclusive::NoPatterns));
    }

    #[test]
    fn a_set_keeps_no_more_slots_than_it_uses() {
        let set = with_pattern("x");
        assert_eq!(set.slots.len(), set.as_definitions().slots_used());
        assert!(set.as_definitions().contains("f"));
    }
}
