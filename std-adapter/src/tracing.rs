//! A layer for `tracing`: its errors become exceptions, and what was said before them their steps.
//!
//! In: events and spans of the program's. Out: for an event at the level of errors an `$exception`, with the error in its
//! fields if there is one, and with the fields of the spans it happened in; for lesser events a step. What this client and
//! the crates it sends with say is left alone, or a failing delivery would feed itself; so is what is said meanwhile.

use core::cell::Cell;
use core::error::Error;
use core::fmt::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use quillet_core::limits::SUPER_PROPERTIES_MAX;
use quillet_core::{Level, Mechanism, Property};
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record};
use tracing_core::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::client::Client;
use crate::exception::Details;
use crate::exception::chain::{self, Chain};
use crate::hooks::OwnedValue;
use crate::inner::Inner;
use crate::scope::is_usable_key;

/// Crates whose events are not looked at: this one and those that it sends with.
const EXCLUDED: [&str; 7] = ["quillet", "quillet_core", "ureq", "ureq_proto", "rustls", "native_tls", "hyper_rustls"];

/// Fields of an event and the spans around it that are kept.
const FIELDS_MAX: usize = SUPER_PROPERTIES_MAX;

/// Bytes of one text that are kept.
const TEXT_BYTES_MAX: usize = 4 * 1024;

/// The target and the fields under which records of `log` come by.
const LOG_TARGET: &str = "log";
const LOG_FIELDS: &str = "log.";

thread_local! {
    /// The layer is at work on this thread: what is said meanwhile is its own doing.
    static IS_AT_WORK: Cell<bool> = const { Cell::new(false) };
}

/// Turns `tracing` events into exceptions and steps: [`Client::tracing_layer`].
///
/// ```
/// use quillet::Client;
/// use tracing_subscriber::layer::SubscriberExt;
///
/// let client = Client::disabled();
/// let subscriber = tracing_subscriber::registry().with(client.tracing_layer());
/// # drop(subscriber);
/// ```
#[derive(Clone)]
pub struct TracingLayer {
    /// Weak, because a subscriber lives as long as the program: it must not keep a client alive.
    client: Weak<Inner>,
    exceptions: tracing_core::LevelFilter,
    steps: tracing_core::LevelFilter,
}

impl Client {
    /// A layer for a `tracing` subscriber with a registry. It takes events as long as this client has other handles.
    ///
    /// An event becomes an `$exception` with mechanism `logger`, handled, since the program went on to say something else.
    /// A field that holds an error (`error = &e as &dyn Error`) is the exception, with its causes; without one the event's
    /// target is the exception's type, and its message the message. Other fields become properties, those of the spans
    /// around it too, the innermost winning. Burst limits, scopes, hooks and redaction hold as for all errors.
    pub fn tracing_layer(&self) -> TracingLayer {
        let client = self.inner.as_ref().map_or_else(Weak::new, Arc::downgrade);
        let (exceptions, steps) = (tracing_core::LevelFilter::ERROR, tracing_core::LevelFilter::INFO);
        TracingLayer { client, exceptions, steps }
    }
}

impl TracingLayer {
    /// The least severe events that become exceptions. Default: `ERROR`.
    #[must_use]
    pub fn exceptions(mut self, level: impl Into<tracing_core::LevelFilter>) -> Self {
        self.exceptions = level.into();
        self
    }

    /// The least severe events that become steps. Default: `INFO`; `OFF` for none.
    #[must_use]
    pub fn steps(mut self, level: impl Into<tracing_core::LevelFilter>) -> Self {
        self.steps = level.into();
        self
    }

    /// The client, if the layer is not already at work on this thread and the event is none of its own.
    fn client_for(&self, metadata: &Metadata<'_>) -> Option<Client> {
        let is_wanted = *metadata.level() <= self.exceptions.max(self.steps);
        if !is_wanted || is_excluded(metadata.target()) {
            return None;
        }
        self.client.upgrade().map(|inner| Client { inner: Some(inner) })
    }
}

impl fmt::Debug for TracingLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (exceptions, steps) = (&self.exceptions, &self.steps);
        f.debug_struct("TracingLayer").field("exceptions", exceptions).field("steps", steps).finish_non_exhaustive()
    }
}

impl<S: Subscriber + for<'l> LookupSpan<'l>> Layer<S> for TracingLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().replace(SpanFields(fields.list));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            let mut extensions = span.extensions_mut();
            if let Some(SpanFields(list)) = extensions.get_mut() {
                fields.list = core::mem::take(list);
            }
            values.record(&mut fields);
            extensions.replace(SpanFields(fields.list));
        }
    }

    fn on_event(&self, event: &tracing_core::Event<'_>, context: Context<'_, S>) {
        let Some(_at_work) = AtWork::begin() else { return };
        // A `Debug` among the fields may panic. That is nobody's business but its own, least of all the program's.
        let _ = catch_unwind(AssertUnwindSafe(|| self.look_at(event, &context)));
    }
}

impl TracingLayer {
    fn look_at<S>(&self, event: &tracing_core::Event<'_>, context: &Context<'_, S>)
    where
        S: Subscriber + for<'l> LookupSpan<'l>,
    {
        let metadata = event.metadata();
        let Some(client) = self.client_for(metadata) else { return };
        let Some(inner) = client.inner.as_deref().and_then(Inner::current) else { return };
        let mut fields = Fields { known: &inner.shared.errors.known, ..Fields::default() };
        // The outermost span first, so that inner ones, and the event itself, replace what it said.
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(SpanFields(list)) = span.extensions().get() {
                list.iter().for_each(|(key, value)| fields.put(key, value.clone()));
            }
        }
        event.record(&mut fields);
        if is_excluded(fields.log_target.as_deref().unwrap_or_default()) {
            return;
        }
        if *metadata.level() <= self.exceptions {
            capture(inner, metadata, fields);
        } else if *metadata.level() <= self.steps {
            let message = if fields.message.is_empty() { metadata.name() } else { &fields.message };
            client.add_exception_step(message, &properties(&fields.list));
        }
    }
}

fn capture(inner: &Inner, metadata: &Metadata<'_>, mut fields: Fields<'_>) {
    let chain = fields.chain.take();
    let is_error = chain.is_some();
    let chain = chain.unwrap_or_else(|| {
        let mut chain = Box::new(Chain::new());
        let target = fields.log_target.as_deref().unwrap_or(metadata.target());
        chain.push(target, &fields.message);
        chain
    });
    if is_error && !fields.message.is_empty() {
        let message = core::mem::take(&mut fields.message);
        fields.put(MESSAGE, OwnedValue::Text(message));
    }
    let properties = properties(&fields.list);
    let file = fields.log_file.as_deref().or(metadata.file()).unwrap_or(metadata.target());
    let line = fields.log_line.or(metadata.line()).unwrap_or(0);
    let details = Details {
        place: (file, line, 0),
        mechanism: Mechanism::Logger,
        handled: Some(true),
        level: Some(level(*metadata.level())),
        source: "rust.tracing",
        properties: &properties,
        synthetic: !is_error,
        ..Details::new(core::panic::Location::caller())
    };
    // Whatever keeps it from being sent is counted.
    let admitted = inner
        .refused_by_gate()
        .and_then(|()| inner.admit(chain.outermost().0, &details).map_err(|reason| inner.shared.refuse(reason)));
    if let Ok(admitted) = admitted {
        // From where `tracing` called on: what lies above is its macro's expansion, and the application.
        let here = 0u8;
        let above = core::ptr::from_ref(core::hint::black_box(&here)).addr();
        let _ = inner.capture_chain(&chain, &details, admitted, None, above);
    }
}

/// The field that an event's own text is in.
const MESSAGE: &str = "message";

/// A span's fields, kept with it.
struct SpanFields(Vec<(&'static str, OwnedValue)>);

/// What an event says.
#[derive(Default)]
struct Fields<'a> {
    known: &'a [chain::Recognise],
    message: String,
    chain: Option<Box<Chain>>,
    list: Vec<(&'static str, OwnedValue)>,
    /// Of a record that came from `log`: what its metadata would have said.
    log_target: Option<String>,
    log_file: Option<String>,
    log_line: Option<u32>,
}

impl Fields<'_> {
    fn put(&mut self, key: &'static str, value: OwnedValue) {
        if let Some((_, known)) = self.list.iter_mut().find(|(known, _)| *known == key) {
            *known = value;
        } else if self.list.len() < FIELDS_MAX && is_usable_key(key) {
            self.list.push((key, value));
        }
    }

    fn put_text(&mut self, field: &Field, text: String) {
        match field.name() {
            MESSAGE => self.message = text,
            "log.target" => self.log_target = Some(text),
            "log.file" => self.log_file = Some(text),
            name if name.starts_with(LOG_FIELDS) => {}
            name => self.put(name, OwnedValue::Text(text)),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Cut(String::new());
        let _ = write!(text, "{value:?}");
        self.put_text(field, text.0);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = Cut(String::new());
        let _ = text.write_str(value);
        self.put_text(field, text.0);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        if self.chain.is_some() {
            return self.record_debug(field, &format_args!("{value}"));
        }
        let mut room = heapless::String::new();
        let mut chain = Box::new(Chain::new());
        chain.push(chain::name_of(value, self.known, &mut room), &value);
        chain.push_causes(value, self.known);
        self.chain = Some(chain);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), OwnedValue::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), OwnedValue::Int(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "log.line" {
            self.log_line = u32::try_from(value).ok();
        } else {
            self.put(field.name(), OwnedValue::Uint(value));
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), OwnedValue::Float(value));
    }
}

fn properties<'p>(list: &'p [(&'static str, OwnedValue)]) -> Vec<Property<'p>> {
    list.iter().map(|(key, value)| Property::new(key, value.as_value())).collect()
}

/// PostHog's word for a level of `tracing`.
fn level(level: tracing_core::Level) -> Level {
    match level {
        tracing_core::Level::ERROR => Level::Error,
        tracing_core::Level::WARN => Level::Warning,
        tracing_core::Level::INFO => Level::Info,
        _ => Level::Debug,
    }
}

/// Whether a target is one of the excluded crates or a module in it.
fn is_excluded(target: &str) -> bool {
    let crate_name = target.split("::").next().unwrap_or_default();
    target != LOG_TARGET && EXCLUDED.contains(&crate_name)
}

/// Marks the thread as at work, until dropped.
struct AtWork;

impl AtWork {
    fn begin() -> Option<Self> {
        (!IS_AT_WORK.replace(true)).then_some(Self)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        IS_AT_WORK.set(false);
    }
}

/// Text up to a bound. What is beyond it is left out without a word: a `Debug` may take an error for a reason to panic.
struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let most = TEXT_BYTES_MAX.saturating_sub(self.0.len()).min(piece.len());
        let end = (0..=most).rev().find(|end| piece.is_char_boundary(*end)).unwrap_or(0);
        self.0.push_str(piece.get(..end).unwrap_or_default());
        Ok(())
    }
}
