//! An error and what caused it, as texts.
//!
//! In: an error and its `source()`s. Out: a [`Chain`], in memory of a fixed size: as many entries and bytes as are sent at
//! most. Nothing is allocated here; what an error's own `Display` and `Debug` do is its affair.
//!
//! A type behind `dyn Error` has no name that could be asked for. The standard library's errors and those that the program
//! has named are recognised by downcast; of others `Debug` is asked, which begins with a name where it is derived: that of
//! the struct, or of the enum's variant.

use core::any::type_name;
use core::error::Error;
use core::fmt::{self, Display, Write};
use core::ops::Range;

use quillet_core::Cause;
use quillet_core::limits::CAUSES_MAX;

/// Bytes of all texts of an error and its causes that are sent.
const TEXT_BYTES: usize = 16 * 1024;

/// Bytes of one message that are sent. The server cuts at 10,000.
const MESSAGE_BYTES: usize = 8 * 1024;

/// Bytes of a type's name that are sent.
const NAME_BYTES: usize = 256;

/// The type of what can be said nothing about.
const UNKNOWN: &str = "Error";

/// Recognises one type behind a `dyn Error`.
pub(crate) type Recognise = fn(&(dyn Error + 'static)) -> Option<&'static str>;

/// How to recognise an `E`.
pub(crate) fn recognise<E: Error + 'static>() -> Recognise {
    |error| error.is::<E>().then(|| type_name::<E>())
}

/// An error of the standard library's.
struct Known {
    is: fn(&(dyn Error + 'static)) -> bool,
    /// Where it was defined.
    type_name: fn() -> &'static str,
    /// The path a program writes.
    name: &'static str,
}

/// The standard library's errors, by the path a program writes. Not the one they were defined at.
const KNOWN: &[Known] = {
    macro_rules! known {
        ($($type:ty => $name:literal),* $(,)?) => {
            &[$(Known { is: |error| error.is::<$type>(), type_name: type_name::<$type>, name: $name }),*]
        };
    }
    known! {
        std::io::Error => "std::io::Error",
        core::fmt::Error => "std::fmt::Error",
        core::num::ParseIntError => "std::num::ParseIntError",
        core::num::ParseFloatError => "std::num::ParseFloatError",
        core::num::TryFromIntError => "std::num::TryFromIntError",
        core::str::Utf8Error => "std::str::Utf8Error",
        core::str::ParseBoolError => "std::str::ParseBoolError",
        std::string::FromUtf8Error => "std::string::FromUtf8Error",
        core::array::TryFromSliceError => "std::array::TryFromSliceError",
        core::char::ParseCharError => "std::char::ParseCharError",
        std::env::VarError => "std::env::VarError",
        std::net::AddrParseError => "std::net::AddrParseError",
        std::time::SystemTimeError => "std::time::SystemTimeError",
        std::sync::mpsc::RecvError => "std::sync::mpsc::RecvError",
        std::sync::mpsc::RecvTimeoutError => "std::sync::mpsc::RecvTimeoutError",
        std::thread::AccessError => "std::thread::AccessError",
        std::path::StripPrefixError => "std::path::StripPrefixError",
        std::ffi::NulError => "std::ffi::NulError",
        core::cell::BorrowError => "std::cell::BorrowError",
        core::cell::BorrowMutError => "std::cell::BorrowMutError",
    }
};

/// An error and its causes.
pub(crate) struct Chain {
    text: heapless::String<TEXT_BYTES>,
    /// Type and message of each, the error itself first.
    entries: heapless::Vec<(Range<usize>, Range<usize>), { CAUSES_MAX + 1 }>,
}

impl Chain {
    pub(crate) const fn new() -> Self {
        Self { text: heapless::String::new(), entries: heapless::Vec::new() }
    }

    /// Adds an entry. What there is no room for is left out.
    pub(crate) fn push(&mut self, name: &str, message: &dyn Display) {
        let name = self.add(NAME_BYTES, &name);
        let message = self.add(MESSAGE_BYTES, message);
        let _ = self.entries.push((name, message));
    }

    /// Adds the causes of `error`.
    pub(crate) fn push_causes(&mut self, error: &(dyn Error + '_), known: &[Recognise]) {
        let mut cause = error.source();
        while let Some(error) = cause.filter(|_| !self.entries.is_full()) {
            let mut room = heapless::String::new();
            let name = name_of(error, known, &mut room);
            self.push(name, &error);
            cause = error.source();
        }
    }

    /// Type and message of the error itself.
    pub(crate) fn outermost(&self) -> (&str, &str) {
        self.entries.first().map_or((UNKNOWN, ""), |entry| self.texts(entry))
    }

    pub(crate) fn causes(&self) -> impl Iterator<Item = Cause<'_>> {
        self.entries.iter().skip(1).map(|entry| {
            let (name, message) = self.texts(entry);
            Cause::new(name, message)
        })
    }

    fn texts(&self, (name, message): &(Range<usize>, Range<usize>)) -> (&str, &str) {
        let text = |range: &Range<usize>| self.text.get(range.clone()).unwrap_or_default();
        (text(name), text(message))
    }

    fn add(&mut self, most: usize, text: &dyn Display) -> Range<usize> {
        let start = self.text.len();
        let mut cut = Cut { text: &mut self.text, left: most };
        // Whatever a `Display` says went wrong, what it has written is worth having.
        let _ = write!(cut, "{text}");
        start..self.text.len()
    }
}

/// Takes the beginning of what is written, and says nothing of the rest: a `Display` may take an error for a reason to panic.
struct Cut<'a> {
    text: &'a mut heapless::String<TEXT_BYTES>,
    left: usize,
}

impl Write for Cut<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let most = self.left.min(self.text.capacity() - self.text.len()).min(piece.len());
        let end = (0..=most).rev().find(|end| piece.is_char_boundary(*end)).unwrap_or(0);
        let _ = self.text.push_str(piece.get(..end).unwrap_or_default());
        // Nothing behind a gap.
        self.left = if end < piece.len() { 0 } else { self.left - end };
        Ok(())
    }
}

/// What an error behind `dyn Error` is called: `room` takes a name that has to be put together.
pub(crate) fn name_of<'a>(
    error: &(dyn Error + 'static),
    known: &[Recognise],
    room: &'a mut heapless::String<NAME_BYTES>,
) -> &'a str {
    let own = known.iter().find_map(|recognise| recognise(error)).map(tidy_name);
    let known = own.or_else(|| KNOWN.iter().find(|known| (known.is)(error)).map(|known| known.name));
    known.unwrap_or_else(|| debug_name(error, room))
}

/// `type_name` of an error as its users write it: without references, boxes, `dyn` and generics, and the standard library's
/// by their public paths.
pub(crate) fn tidy_name(name: &'static str) -> &'static str {
    let mut rest = name;
    loop {
        let inner = ["&mut ", "&", "dyn ", "alloc::boxed::Box<", "alloc::sync::Arc<", "alloc::rc::Rc<"];
        match inner.iter().find_map(|prefix| rest.strip_prefix(prefix)) {
            Some(inner) => rest = inner,
            None => break,
        }
    }
    let end = rest.find(['<', '>', ' ', '+', ',']).unwrap_or(rest.len());
    let path = rest.get(..end).unwrap_or_default();
    let public = KNOWN.iter().find(|known| (known.type_name)() == path).map(|known| known.name);
    match public.unwrap_or(path) {
        "" | "core::error::Error" => UNKNOWN,
        path => path,
    }
}

/// The name that a derived `Debug` begins with, or [`UNKNOWN`].
fn debug_name<'a>(error: &(dyn Error + 'static), room: &'a mut heapless::String<NAME_BYTES>) -> &'a str {
    /// Takes an identifier and the two characters behind it, then has the formatting end.
    struct Beginning<'a> {
        text: &'a mut heapless::String<NAME_BYTES>,
        behind: usize,
    }

    impl Write for Beginning<'_> {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            for c in piece.chars() {
                self.text.push(c).map_err(|_| fmt::Error)?;
                self.behind += usize::from(self.behind > 0 || !is_of_identifier(c));
                if self.behind == 2 {
                    return Err(fmt::Error);
                }
            }
            Ok(())
        }
    }

    room.clear();
    let is_whole = write!(Beginning { text: room, behind: 0 }, "{error:?}").is_ok();
    let text = room.as_str();
    let name = text.split(|c| !is_of_identifier(c)).next().unwrap_or_default();
    let behind = text.get(name.len()..).unwrap_or_default();
    // A unit, a tuple, a struct. A sentence may begin with a capital too, but goes on in another way.
    let is_derived = if behind.is_empty() { is_whole } else { behind.starts_with('(') || behind == " {" };
    if name.starts_with(|c: char| c.is_ascii_uppercase()) && is_derived { name } else { UNKNOWN }
}

fn is_of_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;

    macro_rules! error {
        ($($(#[$meta:meta])* $type:ty),*) => {$(
            impl Display for $type {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("it failed")
                }
            }
            impl Error for $type {}
        )*};
    }

    #[derive(Debug)]
    struct Unit;
    #[derive(Debug)]
    struct Tuple(#[allow(dead_code, reason = "read by Debug")] u8);
    #[derive(Debug)]
    struct Struct {
        #[allow(dead_code, reason = "read by Debug")]
        a: u8,
    }
    #[derive(Debug)]
    enum Variants {
        Refused,
        Late(#[allow(dead_code, reason = "read by Debug")] u8),
    }
    struct Says(&'static str);
    impl fmt::Debug for Says {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }
    #[derive(Debug)]
    struct Generic<T>(#[allow(dead_code, reason = "read by Debug")] T);
    error!(Unit, Tuple, Struct, Variants, Says, Generic<Unit>);

    #[test]
    fn names_behind_dyn_are_recognised_or_derived_or_none() {
        let name = |error: &(dyn Error + 'static)| name_of(error, &[], &mut heapless::String::new()).to_owned();
        assert_eq!(name(&std::io::Error::other("x")), "std::io::Error");
        assert_eq!(name(&"x".parse::<i32>().unwrap_err()), "std::num::ParseIntError");
        assert_eq!(name(&Unit), "Unit");
        assert_eq!(name(&Tuple(1)), "Tuple");
        assert_eq!(name(&Struct { a: 1 }), "Struct");
        assert_eq!((name(&Variants::Refused), name(&Variants::Late(1))), ("Refused".into(), "Late".into()));
        for text in ["", "no such file", "No such file", "\"quoted\"", "E: x", "{", "Überlauf"] {
            assert_eq!(name(&Says(text)), "Error", "{text:?}");
        }
        assert_eq!(name(&Says(String::leak("A".repeat(1000)))), "Error", "no name is so long");
        let known = [recognise::<Variants>()];
        let named = name_of(&Variants::Refused, &known, &mut heapless::String::new()).to_owned();
        assert!(named.ends_with("::Variants"), "{named}");
    }

    #[test]
    fn type_names_lose_what_is_no_name() {
        assert!(tidy_name(type_name::<Generic<Unit>>()).ends_with("chain::tests::Generic"));
        assert!(tidy_name(type_name::<&&Unit>()).ends_with("chain::tests::Unit"));
        assert!(tidy_name(type_name::<Box<Unit>>()).ends_with("chain::tests::Unit"));
        assert_eq!(tidy_name(type_name::<std::io::Error>()), "std::io::Error");
        assert_eq!(tidy_name(type_name::<&std::io::Error>()), "std::io::Error");
        assert_eq!(tidy_name(type_name::<dyn Error>()), "Error");
        assert_eq!(tidy_name(type_name::<Box<dyn Error + Send + Sync>>()), "Error");
    }

    /// An error that is its own cause, for ever.
    #[derive(Debug)]
    struct Endless(String);
    impl Display for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)?;
            Err(fmt::Error)
        }
    }
    impl Error for Endless {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(self)
        }
    }

    #[test]
    fn a_chain_is_bounded_in_entries_and_bytes() {
        for (message, most) in [("x".to_owned(), 1), ("ä".repeat(300), 600), ("ä".repeat(9000), MESSAGE_BYTES)] {
            let mut chain = Chain::new();
            let error = Endless(message);
            chain.push("Endless", &error);
            chain.push_causes(&error, &[]);
            assert_eq!(chain.causes().count(), CAUSES_MAX);
            assert_eq!(chain.outermost().0, "Endless");
            assert!(chain.outermost().1.len() <= most && chain.outermost().1.len() + 2 > most);
            assert!(chain.text.len() <= TEXT_BYTES);
        }
    }

    #[test]
    fn nothing_follows_a_gap() {
        let mut chain = Chain::new();
        chain.push("E", &format_args!("{}{}{}", "a".repeat(MESSAGE_BYTES - 1), "é", "b"));
        assert_eq!(chain.outermost().1.len(), MESSAGE_BYTES - 1);
    }
}
