//! An error, borrowed: what error tracking is told about it, before a byte of it is written.
//!
//! In: texts, causes, a place in the source, instruction addresses or frames of the caller's. Out: an [`Exception`], which
//! [`Event::exception`](crate::Event::exception) turns into an event. Nothing here looks at a stack: who captures the
//! addresses, and when, is the caller's business, so that it works in a panic hook and for a process that is dead.

use crate::limits::{CAUSES_MAX, FRAMES_MAX};
use crate::steps::StepsRead;

/// An error as error tracking wants it.
///
/// ```
/// use quillet_core::{Event, Exception, Level};
///
/// let error = Exception::new("billing::ChargeError", "card refused").handled(true).level(Level::Error);
/// let event = Event::exception("customer-7", &error);
/// # let _ = event;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Exception<'a> {
    pub(crate) type_name: &'a str,
    pub(crate) message: &'a str,
    pub(crate) mechanism: Mechanism,
    pub(crate) handled: Option<bool>,
    pub(crate) level: Option<Level>,
    pub(crate) source: Option<&'a str>,
    pub(crate) fingerprint: Option<&'a str>,
    pub(crate) stack_text: Option<&'a str>,
    pub(crate) place: Option<Place<'a>>,
    pub(crate) thread_id: Option<i32>,
    pub(crate) thread_name: Option<&'a str>,
    pub(crate) addresses: &'a [u64],
    pub(crate) images: &'a [Image<'a>],
    pub(crate) frames: &'a [Frame<'a>],
    pub(crate) synthetic: Option<bool>,
    pub(crate) causes: &'a [Cause<'a>],
    pub(crate) suppressed: u64,
    pub(crate) steps: StepsRead<'a>,
}

/// Where in the source something was raised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a str,
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl<'a> Exception<'a> {
    /// An error of type `type_name` (empty becomes `Error`) saying `message` (may be empty).
    pub const fn new(type_name: &'a str, message: &'a str) -> Self {
        Self {
            type_name,
            message,
            mechanism: Mechanism::Generic,
            handled: None,
            level: None,
            source: None,
            fingerprint: None,
            stack_text: None,
            place: None,
            thread_id: None,
            thread_name: None,
            addresses: &[],
            images: &[],
            frames: &[],
            synthetic: None,
            causes: &[],
            suppressed: 0,
            steps: StepsRead::NONE,
        }
    }

    /// What led to it: the immediate cause first, then what caused that, and so on. Of more than
    /// [`CAUSES_MAX`](crate::limits::CAUSES_MAX) the first are sent.
    pub const fn causes(mut self, causes: &'a [Cause<'a>]) -> Self {
        self.causes = causes;
        self
    }

    /// What kind of boundary saw it. Default: [`Mechanism::Generic`], a deliberate capture.
    pub const fn mechanism(mut self, mechanism: Mechanism) -> Self {
        self.mechanism = mechanism;
        self
    }

    /// Whether the program dealt with it. Never guessed: not called, nothing is said about it.
    pub const fn handled(mut self, handled: bool) -> Self {
        self.handled = Some(handled);
        self
    }

    /// How bad it was.
    pub const fn level(mut self, level: Level) -> Self {
        self.level = Some(level);
        self
    }

    /// The hook that saw it, as `<technology>.<hook>` in lower case. For integrations; leave it out otherwise.
    pub const fn source(mut self, source: &'a str) -> Self {
        self.source = if source.is_empty() { None } else { Some(source) };
        self
    }

    /// Puts all errors with this text into one issue, whatever the server would have done. An empty one is ignored.
    pub const fn fingerprint(mut self, fingerprint: &'a str) -> Self {
        self.fingerprint = if fingerprint.is_empty() { None } else { Some(fingerprint) };
        self
    }

    /// A stack as text, for people to read. The server does not parse it and does not group by it.
    pub const fn stack_text(mut self, text: &'a str) -> Self {
        self.stack_text = Some(text);
        self
    }

    /// Where in the source it was raised; line and column from 1. It becomes the innermost frame, which errors are
    /// grouped by until the server has the symbols for the addresses.
    pub const fn location(mut self, file: &'a str, line: u32, column: u32) -> Self {
        self.place = Some(Place { file, line, column });
        self
    }

    /// The thread it happened on: the system's number for it, and its name, empty if it has none.
    pub const fn thread(mut self, id: Option<i32>, name: &'a str) -> Self {
        self.thread_id = id;
        self.thread_name = if name.is_empty() { None } else { Some(name) };
        self
    }

    /// The stack as instruction addresses of the running (or dead) process, innermost first, and the images they may lie
    /// in. Of more than [`FRAMES_MAX`] the innermost are sent; of the images only those that one of them lies in.
    pub const fn stack(mut self, addresses: &'a [u64], images: &'a [Image<'a>]) -> Self {
        self.addresses = addresses;
        self.images = images;
        self
    }

    /// The stack as frames whose symbols are known, innermost first, in place of [`stack`](Self::stack) and
    /// [`location`](Self::location). Of more than [`FRAMES_MAX`] the innermost are sent.
    pub const fn frames(mut self, frames: &'a [Frame<'a>]) -> Self {
        self.frames = frames;
        self
    }

    /// Whether the stack, or the error itself, was made by whoever reports it: `true` for the stack of a report in place
    /// of one that the error does not have, `false` for an error's own. Not called, nothing is said about it.
    pub const fn synthetic(mut self, synthetic: bool) -> Self {
        self.synthetic = Some(synthetic);
        self
    }

    /// How many errors like this one were held back since the last that was sent. 0 is not sent.
    pub const fn suppressed(mut self, count: u64) -> Self {
        self.suppressed = count;
        self
    }

    /// What happened before it, unless the event has a property for that. See [`Steps`](crate::Steps).
    pub const fn steps(mut self, steps: StepsRead<'a>) -> Self {
        self.steps = steps;
        self
    }

    /// Whether the program ends of it, by what [`level`](Self::level) was told.
    pub const fn is_fatal(&self) -> bool {
        matches!(self.level, Some(Level::Fatal))
    }

    /// The innermost frames that are sent.
    pub(crate) fn kept_frames(&self) -> &'a [Frame<'a>] {
        self.frames.get(..FRAMES_MAX).unwrap_or(self.frames)
    }

    /// The causes that are sent.
    pub(crate) fn kept_causes(&self) -> &'a [Cause<'a>] {
        self.causes.get(..CAUSES_MAX).unwrap_or(self.causes)
    }

    /// The innermost addresses that are sent: none, where frames are.
    pub(crate) fn kept_addresses(&self) -> &'a [u64] {
        if !self.frames.is_empty() {
            return &[];
        }
        let most = FRAMES_MAX - if self.place.is_some() { 1 } else { 0 };
        self.addresses.get(..most).unwrap_or(self.addresses)
    }
}

/// An error that led to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause<'a> {
    pub(crate) type_name: &'a str,
    pub(crate) message: &'a str,
}

impl<'a> Cause<'a> {
    /// An error of type `type_name` (empty becomes `Error`) saying `message` (may be empty).
    pub const fn new(type_name: &'a str, message: &'a str) -> Self {
        Self { type_name, message }
    }

    /// Its type.
    pub const fn type_name(&self) -> &'a str {
        self.type_name
    }

    /// What it says.
    pub const fn message(&self) -> &'a str {
        self.message
    }
}

/// A stack frame whose symbol is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub(crate) function: &'a str,
    pub(crate) file: &'a str,
    pub(crate) line: u32,
    pub(crate) column: u32,
    pub(crate) in_app: bool,
}

impl<'a> Frame<'a> {
    /// A call of `function`, without hashes of the compiler's. Default: in the application.
    pub const fn new(function: &'a str) -> Self {
        Self { function, file: "", line: 0, column: 0, in_app: true }
    }

    /// The file, and line and column from 1, 0 for unknown.
    pub const fn location(mut self, file: &'a str, line: u32, column: u32) -> Self {
        self.file = file;
        self.line = line;
        self.column = column;
        self
    }

    /// Whether it is the application's own code, not a library's.
    pub const fn in_app(mut self, in_app: bool) -> Self {
        self.in_app = in_app;
        self
    }
}

/// A stretch of a process's memory that holds the code of a program or library, and how its symbols can be found.
///
/// ```
/// use quillet_core::Image;
///
/// let program = Image::new(0x5555_5555_4000, 0x20_000).file("/usr/bin/shop").build_id(&[1; 20]).in_app(true);
/// assert!(program.contains(0x5555_5555_5000));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image<'a> {
    pub(crate) start: u64,
    pub(crate) bytes: u64,
    pub(crate) build_id: &'a [u8],
    pub(crate) file: &'a str,
    pub(crate) in_app: bool,
}

impl<'a> Image<'a> {
    /// An image of `bytes` bytes loaded at `start`.
    pub const fn new(start: u64, bytes: u64) -> Self {
        Self { start, bytes, build_id: &[], file: "", in_app: false }
    }

    /// The linker's build id (ELF: the note's bytes; Mach-O: the 16 bytes of the uuid). Without one, no symbols are found.
    pub const fn build_id(mut self, build_id: &'a [u8]) -> Self {
        self.build_id = build_id;
        self
    }

    /// The file it was loaded from.
    pub const fn file(mut self, file: &'a str) -> Self {
        self.file = file;
        self
    }

    /// Whether it is the program itself, not a library of the system's. Default: not.
    pub const fn in_app(mut self, in_app: bool) -> Self {
        self.in_app = in_app;
        self
    }

    /// Where it lies.
    pub const fn range(&self) -> core::ops::Range<u64> {
        self.start..self.start.saturating_add(self.bytes)
    }

    /// The build id given; may be empty.
    pub const fn build_id_bytes(&self) -> &'a [u8] {
        self.build_id
    }

    /// The file given; may be empty.
    pub const fn file_name(&self) -> &'a str {
        self.file
    }

    /// Whether it is the program itself.
    pub const fn is_in_app(&self) -> bool {
        self.in_app
    }

    /// Whether `address` lies in it.
    pub const fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.start) < self.bytes
    }
}

/// What kind of boundary saw an error, in PostHog's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Mechanism {
    /// A deliberate capture.
    #[default]
    Generic,
    /// A log record.
    Logger,
    /// A request's handler.
    Middleware,
    /// A task that ended with it.
    Task,
    /// A panic hook.
    Panic,
    /// A fatal signal.
    Signal,
    /// Something that looks at dead processes.
    CrashReporter,
}

impl Mechanism {
    /// PostHog's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mechanism::Generic => "generic",
            Mechanism::Logger => "logger",
            Mechanism::Middleware => "middleware",
            Mechanism::Task => "task",
            Mechanism::Panic => "panic",
            Mechanism::Signal => "signal",
            Mechanism::CrashReporter => "crash_reporter",
        }
    }
}

/// How bad an error was, in PostHog's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum Level {
    /// The program ends of it.
    Fatal,
    /// Something failed.
    Error,
    /// Something may fail.
    Warning,
    /// A remark from a log.
    Log,
    /// Worth knowing.
    Info,
    /// For developers.
    Debug,
}

impl Level {
    /// PostHog's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Level::Fatal => "fatal",
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Log => "log",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}
