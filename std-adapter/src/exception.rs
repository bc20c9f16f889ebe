//! From an error of the program's to an `$exception`: its chain of causes, where it was captured, what happened before.
//!
//! In: an [`ErrorReport`] over any `Error`. Out: an event on the way that all events take. The texts go into memory of a
//! fixed size on the stack, the stack's addresses too; symbols are not looked up, unless the client was asked to. Nothing
//! allocates but what the error's own `Display` does, the list of images when it is first asked for, and backtraces with
//! symbols.

#[cfg(feature = "anyhow")]
mod anyhow;
pub(crate) mod backtrace;
pub(crate) mod burst;
pub(crate) mod chain;
#[cfg(feature = "eyre")]
mod eyre;
mod options;

use core::any::type_name;
use core::error::Error;
use core::fmt;
use core::hash::{Hash, Hasher};
use std::backtrace::Backtrace;
use std::hash::DefaultHasher;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};

use quillet_core::limits::{CAUSES_MAX, FRAMES_MAX};
use quillet_core::{CaptureError, Clock, Event, Exception, Level, Mechanism, Property, Steps, StepsRead, Uuid};

use self::burst::Bursts;
use self::chain::Chain;
pub(crate) use self::options::ErrorOptions;
use crate::client::{Captured, Client};
use crate::crash::stack;
use crate::inner::Inner;
use crate::lanes::cell::TryCell;
use crate::redactor::Redactor;
use crate::scope;
use crate::shared::Shared;

/// How often somebody who has a step to add looks whether the others have gone.
const STEP_ROUNDS: usize = 100;

/// An error, and what its reporter knows about it that it does not say itself.
///
/// ```
/// use quillet::{Client, ErrorReport, Level, props};
///
/// fn charge(client: &Client, customer: &str) {
///     if let Err(error) = "12,50".parse::<f64>() {
///         let properties = props! { "step": "charge" };
///         let report = ErrorReport::new(&error).handled(true).level(Level::Warning).distinct_id(customer);
///         client.capture_exception(&report.properties(properties));
///     }
/// }
/// # charge(&Client::disabled(), "customer-7");
/// ```
#[derive(Clone, Copy)]
#[must_use = "a report says nothing until it is captured"]
pub struct ErrorReport<'a> {
    error: &'a (dyn Error + 'a),
    name: Name<'a>,
    backtrace: Option<&'a Backtrace>,
    pub(crate) details: Details<'a>,
}

/// Where an error's name comes from.
#[derive(Clone, Copy)]
enum Name<'a> {
    /// Its type, as the compiler writes it.
    Type(&'static str),
    /// Its reporter.
    Given(&'a str),
    /// Itself, as far as it can be asked.
    Dyn(&'a (dyn Error + 'static)),
}

/// What a report says besides the error.
#[derive(Clone, Copy)]
pub(crate) struct Details<'a> {
    /// File, line, column.
    pub(crate) place: (&'a str, u32, u32),
    pub(crate) distinct_id: &'a str,
    pub(crate) personless: bool,
    pub(crate) mechanism: Mechanism,
    pub(crate) handled: Option<bool>,
    pub(crate) level: Option<Level>,
    pub(crate) source: &'a str,
    pub(crate) fingerprint: &'a str,
    pub(crate) properties: &'a [Property<'a>],
    pub(crate) groups: &'a [(&'a str, &'a str)],
    pub(crate) stack: bool,
    /// The error itself was made for the report.
    pub(crate) synthetic: bool,
}

impl<'a> ErrorReport<'a> {
    /// A report of `error`, captured at the caller's place, called by its type's name.
    #[track_caller]
    pub fn new<E: Error + 'a>(error: &'a E) -> Self {
        Self { error, name: Name::Type(type_name::<E>()), backtrace: None, details: Details::new(Location::caller()) }
    }

    /// A report of an error whose type is not known here. It is recognised if it is one of the standard library's or of
    /// those the client was told of ([`ClientBuilder::known_error`](crate::ClientBuilder::known_error)); otherwise it is
    /// called what its derived `Debug` begins with, and `Error` if that is no name. The same holds for all causes.
    #[track_caller]
    pub fn from_dyn(error: &'a (dyn Error + 'static)) -> Self {
        Self { error, name: Name::Dyn(error), backtrace: None, details: Details::new(Location::caller()) }
    }

    /// What to call the error's type instead. Errors are grouped by it, so it should not vary.
    pub const fn type_name(mut self, name: &'a str) -> Self {
        self.name = Name::Given(name);
        self
    }

    /// Where the error arose, from a backtrace captured there: its frames, with symbols, in place of the reporter's stack.
    /// Making them takes milliseconds and memory. One that is disabled changes nothing.
    pub const fn backtrace(mut self, backtrace: &'a Backtrace) -> Self {
        self.backtrace = Some(backtrace);
        self
    }

    /// Whose it is. Default: the person of the [`Scope`](crate::Scope) that the thread is in, or else nobody's.
    pub const fn distinct_id(mut self, distinct_id: &'a str) -> Self {
        self.details.distinct_id = distinct_id;
        self
    }

    /// It is nobody's, whatever scope the thread is in. Groups need person processing, so it has none.
    pub const fn personless(mut self) -> Self {
        self.details.personless = true;
        self.details.distinct_id = "";
        self
    }

    /// Whether the program dealt with it. Never guessed: not called, nothing is said about it.
    pub const fn handled(mut self, handled: bool) -> Self {
        self.details.handled = Some(handled);
        self
    }

    /// How bad it was. Default: [`Level::Error`].
    pub const fn level(mut self, level: Level) -> Self {
        self.details.level = Some(level);
        self
    }

    /// What kind of boundary saw it. Default: [`Mechanism::Generic`], a deliberate capture.
    pub const fn mechanism(mut self, mechanism: Mechanism) -> Self {
        self.details.mechanism = mechanism;
        self
    }

    /// The hook that saw it, as `<technology>.<hook>` in lower case. For integrations; leave it out otherwise.
    pub const fn source(mut self, source: &'a str) -> Self {
        self.details.source = source;
        self
    }

    /// Puts all errors with this text into one issue, and under one burst limit.
    pub const fn fingerprint(mut self, fingerprint: &'a str) -> Self {
        self.details.fingerprint = fingerprint;
        self
    }

    /// Properties of the event.
    pub const fn properties(mut self, properties: &'a [Property<'a>]) -> Self {
        self.details.properties = properties;
        self
    }

    /// Groups the event belongs to, as pairs of type and key.
    pub const fn groups(mut self, groups: &'a [(&'a str, &'a str)]) -> Self {
        self.details.groups = groups;
        self
    }

    /// Without the stack of the reporter, which takes some microseconds to walk. The place of the report is still sent.
    pub const fn without_stack(mut self) -> Self {
        self.details.stack = false;
        self
    }
}

impl<'a> Details<'a> {
    pub(crate) fn new(place: &Location<'a>) -> Self {
        Self {
            place: (place.file(), place.line(), place.column()),
            distinct_id: "",
            personless: false,
            mechanism: Mechanism::Generic,
            handled: None,
            level: Some(Level::Error),
            source: "",
            fingerprint: "",
            properties: &[],
            groups: &[],
            stack: true,
            synthetic: false,
        }
    }
}

impl fmt::Debug for ErrorReport<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ErrorReport").field("error", &self.error).finish_non_exhaustive()
    }
}

impl Client {
    /// Captures an error with its causes, the stack of the caller, and the person of the thread's scope, if it has one. For
    /// everything else there is [`capture_exception`](Self::capture_exception).
    ///
    /// ```
    /// # let client = quillet::Client::disabled();
    /// if let Err(error) = std::fs::read("/etc/shop.toml") {
    ///     client.capture_error(&error);
    /// }
    /// ```
    #[track_caller]
    #[inline(never)]
    pub fn capture_error<E: Error>(&self, error: &E) -> Captured {
        let here = 0u8;
        self.capture_above(&ErrorReport::new(error), &here)
    }

    /// Captures an error: an `$exception` with up to 49 causes, the place and the stack of its capture, the steps before it.
    ///
    /// Of a kind of error, which is its type and place, or its fingerprint, ten are sent at once and one more every ten
    /// seconds ([`ClientBuilder::exception_limit`](crate::ClientBuilder::exception_limit)); the others are refused as
    /// [`CaptureError::RateLimited`], and the next one that is sent says how many they were. Texts are cut: each message
    /// after 8 KiB, all of them together after 16 KiB.
    ///
    /// Runs the error's `Display`, of causes that it does not recognise also `Debug`. If they panic, the error is refused as
    /// [`CaptureError::InvalidValue`]. Allocates and waits no more than they do, except when the first error is captured:
    /// the list of loaded images is made then; and with
    /// [`ClientBuilder::resolve_symbols`](crate::ClientBuilder::resolve_symbols). One of level `fatal` has the crash file
    /// written, if there is one, which is a system call.
    #[inline(never)]
    pub fn capture_exception(&self, report: &ErrorReport<'_>) -> Captured {
        let here = 0u8;
        self.capture_above(report, &here)
    }

    /// Captures an error with the stack above the caller's frame, which `here` lies in: a call of ours, which is not shown.
    fn capture_above(&self, report: &ErrorReport<'_>, here: &u8) -> Captured {
        // So that the frame is there, and is not left before this returns.
        let above = core::ptr::from_ref(core::hint::black_box(here)).addr();
        let result = match self.current() {
            Some(inner) => inner.capture_report(report, above),
            None => Err(CaptureError::Disabled),
        };
        if result.is_ok() && report.details.level == Some(Level::Fatal) {
            self.write_crash_file();
        }
        Captured::from(result)
    }

    /// Remembers that something happened: the newest steps go out with every error (`$exception_steps`), within
    /// [`exception_steps_bytes`](crate::ClientBuilder::exception_steps_bytes). Those taken in a [`Scope`](crate::Scope) only
    /// with errors of the same scope, or of one inside of it.
    ///
    /// ```
    /// # use quillet::props;
    /// # let client = quillet::Client::disabled();
    /// client.add_exception_step("card entered", props! { "brand": "visa" });
    /// ```
    ///
    /// Returns whether it is remembered: not if it is larger than the room for all, has no message or a bad property, nor
    /// while other threads keep adding. Allocates nothing, and waits for a step that is just being added for a moment only.
    pub fn add_exception_step(&self, message: &str, properties: &[Property<'_>]) -> bool {
        self.current().is_some_and(|inner| {
            inner.shared.admits().is_ok() && inner.shared.errors.add_step(&inner.shared, message, properties)
        })
    }
}

/// What a client keeps for errors.
pub(crate) struct Errors {
    bursts: Bursts,
    resolve_symbols: bool,
    pub(crate) known: Vec<chain::Recognise>,
    steps: TryCell<Steps<Box<[u8]>>>,
    pub(crate) redactor: Redactor,
}

impl Errors {
    /// `None` without the memory.
    pub(crate) fn new(options: &ErrorOptions) -> Option<Self> {
        let bytes = options.steps_bytes.saturating_mul(2);
        let mut memory = Vec::new();
        memory.try_reserve_exact(bytes).ok()?;
        memory.resize(bytes, 0);
        Some(Self {
            bursts: Bursts::new(options.limit),
            resolve_symbols: options.resolve_symbols,
            known: options.known.clone(),
            steps: TryCell::new(Steps::new(memory.into_boxed_slice())),
            redactor: options.redactor.clone(),
        })
    }

    /// Calls `then` with the steps for an exception of this thread's, or with none while somebody is at them. Neither waits
    /// nor allocates.
    pub(crate) fn with_steps<T>(&self, then: impl FnOnce(StepsRead<'_>) -> T) -> T {
        match self.steps.try_enter() {
            Some(steps) => then(steps.read_for(scope::current().map_or(0, |scope| scope.owner))),
            None => then(StepsRead::NONE),
        }
    }

    /// Forgets what happened.
    pub(crate) fn erase(&self) {
        for _ in 0..STEP_ROUNDS {
            if let Some(mut steps) = self.steps.try_enter() {
                return steps.erase();
            }
            std::thread::yield_now();
        }
    }

    fn add_step(&self, shared: &Shared, message: &str, properties: &[Property<'_>]) -> bool {
        let owner = scope::current().map_or(0, |scope| scope.owner);
        let message = self.redactor.redaction().cut(message);
        self.redactor.list(properties, |properties| {
            for _ in 0..STEP_ROUNDS {
                if let Some(mut steps) = self.steps.try_enter() {
                    let now = shared.wall_clock.now();
                    let added = AssertUnwindSafe(|| steps.add_for(owner, message, properties, now));
                    return catch_unwind(added).is_ok_and(|added| added.is_ok());
                }
                core::hint::spin_loop();
            }
            false
        })
    }
}

impl Inner {
    fn capture_report(&self, report: &ErrorReport<'_>, above: usize) -> Result<Uuid, CaptureError> {
        self.refused_by_gate()?;
        let known = self.shared.errors.known.as_slice();
        let mut chain = Chain::new();
        let read = catch_unwind(AssertUnwindSafe(|| {
            let mut room = heapless::String::new();
            let name = match report.name {
                Name::Type(name) => chain::tidy_name(name),
                Name::Given(name) => name,
                Name::Dyn(error) => chain::name_of(error, known, &mut room),
            };
            // Before the texts: most of a storm of errors ends here.
            let admitted = self.admit(name, &report.details)?;
            chain.push(name, &report.error);
            chain.push_causes(report.error, known);
            Ok((admitted, report.backtrace.and_then(backtrace::text)))
        }));
        match read.unwrap_or(Err(CaptureError::InvalidValue)) {
            Ok((admitted, text)) => self.capture_chain(&chain, &report.details, admitted, text.as_deref(), above),
            Err(reason) => Err(self.shared.refuse(reason)),
        }
    }

    /// Whether an error of this type may be sent now.
    pub(crate) fn admit(&self, name: &str, details: &Details<'_>) -> Result<burst::Admitted, CaptureError> {
        let mut kind = DefaultHasher::new();
        name.hash(&mut kind);
        if details.fingerprint.is_empty() {
            details.place.hash(&mut kind)
        } else {
            details.fingerprint.hash(&mut kind)
        }
        let now = self.shared.clock.now();
        self.shared.errors.bursts.admit(kind.finish(), now).ok_or(CaptureError::RateLimited)
    }

    /// Captures an error that may be sent, with the frames of `backtrace` or else of this thread's stack above an address.
    pub(crate) fn capture_chain(
        &self,
        chain: &Chain,
        details: &Details<'_>,
        admitted: burst::Admitted,
        backtrace: Option<&str>,
        above: usize,
    ) -> Result<Uuid, CaptureError> {
        let resolves = self.shared.errors.resolve_symbols && details.stack && backtrace.is_none();
        let resolved = if resolves { backtrace::text(&Backtrace::force_capture()) } else { None };
        let frames = backtrace.or(resolved.as_deref()).map(backtrace::frames).unwrap_or_default();
        let mut addresses = [0; FRAMES_MAX];
        let walks = details.stack && frames.is_empty();
        let addresses = if walks { stack::addresses(&mut addresses, above) } else { &[] };
        let causes: heapless::Vec<_, CAUSES_MAX> = chain.causes().collect();
        let (name, message) = chain.outermost();
        let (file, line, column) = details.place;
        let mut exception = Exception::new(name, message)
            .mechanism(details.mechanism)
            .source(details.source)
            .fingerprint(details.fingerprint)
            .causes(&causes)
            .location(file, line, column)
            .stack(addresses, if walks { stack::images() } else { &[] })
            .frames(&frames)
            .suppressed(admitted.suppressed.into());
        if let Some(level) = details.level {
            exception = exception.level(level);
        }
        if let Some(handled) = details.handled {
            exception = exception.handled(handled);
        }
        // The reporter's stack stands in for one that the error lacks.
        exception = exception.synthetic(details.synthetic || resolves || frames.is_empty());
        let captured = self.shared.errors.with_steps(|steps| {
            let exception = exception.steps(steps);
            let mut event = Event::exception(details.distinct_id, &exception).properties(details.properties);
            if details.personless {
                event = event.person_profile(false);
            } else if !details.groups.is_empty() {
                event = event.groups(details.groups);
            }
            self.capture(&event)
        });
        if captured.is_err() {
            self.shared.errors.bursts.give_back(admitted);
        }
        captured
    }
}
