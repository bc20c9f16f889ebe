//! From a caller's event to a committed frame: the gates, the hooks, a lane.
//!
//! In: an event, on the caller's thread. Out: its uuid, or why it was refused, counted. Without gates, hooks and scopes this
//! is the path that neither allocates nor waits; everything rare is cold and elsewhere.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use quillet_core::{CaptureError, Event, Name, Property, RenderedName, Usual, Uuid};

use crate::draft::Draft;
use crate::hooks::HookVerdict;
use crate::inner::{Inner, render};
use crate::inside::Inside;
use crate::scope;
use crate::shared::GATES_OPEN;

/// How deep the hooks of one client run inside each other: an event that a hook captures passes them too; what is captured
/// for that one has to stop somewhere.
const HOOKS_NESTED_MAX: usize = 2;

impl Inner {
    /// Takes the event apart where it was made, so that a usual one need not be put into memory to be captured.
    #[inline(always)]
    pub(crate) fn capture(&self, event: &Event<'_>) -> Result<Uuid, CaptureError> {
        match event.usual() {
            Some(Usual { name: Name::Literal(name), distinct_id, properties }) => {
                capture_literal(distinct_id, properties, name, self)
            }
            Some(Usual { name: Name::Text(name), distinct_id, properties }) => {
                capture_text(distinct_id, properties, self, name)
            }
            None => self.capture_other(event),
        }
    }

    /// The short way. `None` means that nothing has happened.
    #[inline(always)]
    fn capture_usual(&self, event: Usual<'_>) -> Option<Uuid> {
        let shared = &*self.shared;
        if shared.gates() != GATES_OPEN || scope::is_entered() {
            return None;
        }
        Some(self.committed(shared.lanes.capture_plain(event)?))
    }

    /// After a commit: has the flush thread woken if it sleeps.
    #[inline(always)]
    fn committed(&self, uuid: Uuid) -> Uuid {
        if self.shared.asleep.load(Ordering::Relaxed) {
            self.wake_if_due();
        }
        uuid
    }

    /// Has whoever is asleep woken, if that is due. A capture needs nothing at hand for it but the client.
    #[cold]
    #[inline(never)]
    fn wake_if_due(&self) {
        self.shared.wake_if_due();
    }

    /// A capture for which the short way was not the right one.
    #[cold]
    #[inline(never)]
    fn capture_other(&self, event: &Event<'_>) -> Result<Uuid, CaptureError> {
        let is_gated = self.shared.gates() != GATES_OPEN || scope::is_entered();
        if is_gated { self.capture_gated(event) } else { self.commit_any(event) }
    }

    /// A capture on which somebody has an opinion.
    fn capture_gated(&self, event: &Event<'_>) -> Result<Uuid, CaptureError> {
        if !self.shared.is_ours() {
            return match self.successor() {
                Ok(successor) => successor.capture(event),
                Err(reason) => Err(self.shared.refuse(reason)),
            };
        }
        self.refused_by_gate()?;
        match self.prepare(event, |event| self.commit(event).map_err(Refusal::Counted)) {
            Ok(uuid) => Ok(uuid),
            Err(Refusal::Counted(reason)) => Err(reason),
            Err(Refusal::New(reason)) => Err(self.shared.refuse(reason)),
        }
    }

    /// Captures an event that says nothing but what `keep` lets pass, neither of its own nor of the client's super
    /// properties, whatever hooks have added. Allocates.
    pub(crate) fn capture_only(&self, event: &Event<'_>, keep: impl Fn(&str) -> bool) -> Result<Uuid, CaptureError> {
        self.refused_by_gate()?;
        let captured = self.prepare(event, |event| {
            let properties = event.given_properties().iter().filter(|property| keep(property.key()));
            let properties: Vec<_> = properties.copied().collect();
            let mut common = self.super_properties.lock().unwrap_or_else(PoisonError::into_inner).clone();
            common.retain(|(key, _)| keep(key));
            let common = render(&self.defaults, &common, &self.shared.errors.redactor)
                .map_err(|_| CaptureError::InvalidValue)?;
            let now = self.shared.wall_clock.now();
            guarded(|| self.shared.lanes.capture_with(&event.properties(&properties), &common.as_common(), now))
        });
        captured.map(|uuid| self.committed(uuid)).map_err(|reason| self.shared.refuse(self.shared.why_refused(reason)))
    }

    fn commit(&self, event: &Event<'_>) -> Result<Uuid, CaptureError> {
        match event.usual().and_then(|event| self.shared.lanes.capture_plain(event)) {
            Some(uuid) => Ok(self.committed(uuid)),
            None => self.commit_any(event),
        }
    }

    /// What is no usual event, or not usual this time.
    #[cold]
    #[inline(never)]
    fn commit_any(&self, event: &Event<'_>) -> Result<Uuid, CaptureError> {
        match self.shared.lanes.capture(event) {
            Ok(uuid) => Ok(self.committed(uuid)),
            Err(reason) => Err(self.shared.refuse(self.shared.why_refused(reason))),
        }
    }

    /// Whether capturing is closed or switched off; a refusal is counted.
    pub(crate) fn refused_by_gate(&self) -> Result<(), CaptureError> {
        self.shared.admits().map_err(|reason| self.shared.refuse(reason))
    }

    /// Gives `event` what its scope says, has the hooks look at it, takes out what is denied, and commits what is left.
    pub(crate) fn prepare<E: From<CaptureError>>(
        &self,
        event: &Event<'_>,
        commit: impl FnOnce(&Event<'_>) -> Result<Uuid, E>,
    ) -> Result<Uuid, E> {
        let redactor = &self.shared.errors.redactor;
        scope::apply(event, |event| self.pass_hooks(event, |event| redactor.apply(event, commit)))
    }

    /// Has the hooks look at `event`, then commits what they made of it.
    fn pass_hooks<E: From<CaptureError>>(
        &self,
        event: &Event<'_>,
        commit: impl FnOnce(&Event<'_>) -> Result<Uuid, E>,
    ) -> Result<Uuid, E> {
        if self.observers.hooks.before_send.is_empty() && !self.flags.are_on_events() {
            return commit(event);
        }
        let mut draft = Draft::new(event);
        self.flags.decorate(&mut draft);
        let verdict = {
            let Some(_inside) = Inside::enter(self.observers.client, HOOKS_NESTED_MAX) else {
                return Err(CaptureError::DroppedByHook.into());
            };
            catch_unwind(AssertUnwindSafe(|| {
                self.observers.hooks.before_send.iter().all(|hook| hook(&mut draft) == HookVerdict::Send)
            }))
        };
        match verdict {
            Err(_) => Err(CaptureError::HookPanicked.into()),
            Ok(false) => Err(CaptureError::DroppedByHook.into()),
            Ok(true) => {
                // A hook may have taken its time; what a shutdown has not seen must not be accepted after it.
                self.shared.admits()?;
                match draft.properties() {
                    Some(properties) => commit(&event.properties(&properties)),
                    None => commit(event),
                }
            }
        }
    }
}

/// The parts of an event whose name was rendered at compile time, in as many registers as a call has.
#[inline(never)]
fn capture_literal(
    distinct_id: &str,
    properties: &[Property<'_>],
    name: RenderedName,
    inner: &Inner,
) -> Result<Uuid, CaptureError> {
    match inner.capture_usual(Usual { name: Name::Literal(name), distinct_id, properties }) {
        Some(uuid) => Ok(uuid),
        None => literal_other(distinct_id, properties, name, inner),
    }
}

/// The parts once more: a `Usual` that another function is given is in memory from the beginning, which costs eleven
/// instructions of the short way.
#[cold]
#[inline(never)]
fn literal_other(
    distinct_id: &str,
    properties: &[Property<'_>],
    name: RenderedName,
    inner: &Inner,
) -> Result<Uuid, CaptureError> {
    inner.capture_other(&Usual { name: Name::Literal(name), distinct_id, properties }.into())
}

/// The same of any other name.
#[inline(never)]
fn capture_text(
    distinct_id: &str,
    properties: &[Property<'_>],
    inner: &Inner,
    name: &str,
) -> Result<Uuid, CaptureError> {
    match inner.capture_usual(Usual { name: Name::Text(name), distinct_id, properties }) {
        Some(uuid) => Ok(uuid),
        None => text_other(distinct_id, properties, inner, name),
    }
}

#[cold]
#[inline(never)]
fn text_other(distinct_id: &str, properties: &[Property<'_>], inner: &Inner, name: &str) -> Result<Uuid, CaptureError> {
    inner.capture_other(&Usual { name: Name::Text(name), distinct_id, properties }.into())
}

/// A refusal, and whether it has been counted.
enum Refusal {
    New(CaptureError),
    Counted(CaptureError),
}

impl From<CaptureError> for Refusal {
    fn from(reason: CaptureError) -> Self {
        Self::New(reason)
    }
}

/// Captures under a guard: a `Serialize` of the caller's may panic. The grant and the lane are given back on the way out.
#[inline(always)]
pub(crate) fn guarded(capture: impl FnOnce() -> Result<Uuid, CaptureError>) -> Result<Uuid, CaptureError> {
    catch_unwind(AssertUnwindSafe(capture)).unwrap_or(Err(CaptureError::InvalidValue))
}
