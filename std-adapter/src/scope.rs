//! Whom and what a stretch of code is about, said once for all events in it.
//!
//! In: a [`Scope`], entered on a thread or around a future. Out: for each event captured meanwhile the distinct id that it
//! lacks and the properties that it does not have itself; and the person of a panic. A capture outside of any scope pays one
//! load for it.
//!
//! What a thread is in is a list of nodes, the innermost first. A guard that is dropped ends its own node, wherever that
//! stands; the thread goes back to the innermost one that has not ended, so guards may be dropped in any order.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::{Future, poll_fn};
use core::mem::ManuallyDrop;
use core::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use quillet_core::limits::KEY_BYTES_MAX;
use quillet_core::wire::key;
use quillet_core::{Event, Property};

use crate::hooks::OwnedValue;

/// Most properties of a scope, those of the scopes around it included.
pub const SCOPE_PROPERTIES_MAX: usize = 32;

/// Properties of an event and its scope for which there is room on the stack. Beyond it they are put together in memory
/// that is allocated.
const INLINE_MAX: usize = 96;

thread_local! {
    /// Whether this thread is in a scope: the one word that a capture looks at.
    static IS_ENTERED: Cell<bool> = const { Cell::new(false) };
    /// The innermost scope. Never dropped with its thread: a panic hook may look at it while a thread ends, and the standard
    /// library allocates to remember what has to be dropped.
    static CURRENT: ManuallyDrop<RefCell<Option<Rc<Node>>>> = const { ManuallyDrop::new(RefCell::new(None)) };
}

/// Distinct id, session and properties for everything that is captured in it.
///
/// A scope is a handle that can be kept, cloned and sent to other threads. It belongs to no client: events of every client
/// take from it what they lack.
///
/// * An event with an empty distinct id, and an error without one, is of the scope's person. An event of its own person, or
///   personless on purpose, stays so.
/// * Properties of the event win over those of the scope, and those over super properties.
/// * Inside of another scope, what this one does not say is that one's.
///
/// ```
/// use quillet::{Client, Scope, event};
///
/// fn handle_request(client: &Client, customer: &str) {
///     let scope = Scope::new().distinct_id(customer).property("route", "/checkout");
///     let _inside = scope.enter();
///     client.capture(event!("order placed", "", { "total": 12.5 }));
/// } // Here the thread is as it was before.
/// # handle_request(&Client::disabled(), "customer-7");
/// ```
///
/// A future may go on another thread each time; [`wrap`](Self::wrap) takes the scope along:
///
/// ```
/// # use quillet::{Client, Scope, event};
/// async fn handle_request(client: &Client, customer: &str) {
///     let scope = Scope::new().distinct_id(customer);
///     scope.wrap(async { client.capture(event!("order placed", "")) }).await;
/// }
/// ```
#[derive(Clone)]
pub struct Scope {
    pub(crate) data: Arc<ScopeData>,
}

/// What a scope says.
#[derive(Clone, Default)]
pub(crate) struct ScopeData {
    /// Tells the steps of one scope, and of all inside of it, from those of others.
    pub(crate) owner: u32,
    pub(crate) distinct_id: String,
    properties: Vec<(String, OwnedValue)>,
}

/// A thread is in a [`Scope`] as long as this lives.
#[must_use = "the scope is left when this is dropped"]
pub struct ScopeGuard {
    node: Rc<Node>,
}

struct Node {
    /// What this scope and those around it say together.
    data: Arc<ScopeData>,
    has_ended: Cell<bool>,
    around: Option<Rc<Node>>,
}

impl Scope {
    /// A scope that says nothing yet.
    pub fn new() -> Self {
        static OWNERS: AtomicU32 = AtomicU32::new(1);
        // Zero is everybody; after 2³² scopes numbers repeat, and steps may mix.
        let owner = OWNERS.fetch_add(1, Ordering::Relaxed).max(1);
        Self { data: Arc::new(ScopeData { owner, ..ScopeData::default() }) }
    }

    /// The scope that the calling thread is in, with what those around it say; one that says nothing outside of any. To
    /// take it along to another thread or into a task.
    pub fn current() -> Self {
        current().map_or_else(Self::new, |data| Self { data })
    }

    /// Whom it is about: 1 to 200 characters.
    pub fn distinct_id(mut self, distinct_id: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.data).distinct_id = distinct_id.into();
        self
    }

    /// The visit it belongs to (`$session_id`).
    pub fn session_id(self, session_id: impl Into<String>) -> Self {
        self.property(key::SESSION_ID, session_id.into())
    }

    /// A property of every event; a later value for the same key replaces the earlier. A key that no event can have as a
    /// property is left out, as is what goes beyond [`SCOPE_PROPERTIES_MAX`] keys.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<OwnedValue>) -> Self {
        let (key, value) = (key.into(), value.into());
        if is_usable_key(&key) {
            Arc::make_mut(&mut self.data).put(key, value);
        }
        self
    }

    /// Enters the scope on this thread, until the guard is dropped. Allocates.
    pub fn enter(&self) -> ScopeGuard {
        let node = CURRENT.with(|current| {
            // Nothing is called while it is borrowed, so it never is when this runs.
            let around = current.try_borrow().ok().and_then(|current| current.clone());
            let data = match &around {
                Some(node) => Arc::new(self.data.inside(&node.data)),
                None => Arc::clone(&self.data),
            };
            Rc::new(Node { data, has_ended: Cell::new(false), around })
        });
        set_current(Some(Rc::clone(&node)));
        ScopeGuard { node }
    }

    /// Runs `work` inside the scope.
    pub fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let _inside = self.enter();
        work()
    }

    /// A future inside the scope: entered whenever it is polled, on whichever thread, and left in between.
    pub async fn wrap<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|context| {
            let _inside = self.enter();
            future.as_mut().poll(context)
        })
        .await
    }
}

impl Default for Scope {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Scope {
    /// Without values, which may be nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.data.properties.iter().map(|(key, _)| key).collect();
        f.debug_struct("Scope").field("properties", &keys).finish_non_exhaustive()
    }
}

impl Drop for ScopeGuard {
    fn drop(&mut self) {
        self.node.has_ended.set(true);
        let mut innermost = CURRENT.with(|current| current.try_borrow().ok().and_then(|current| current.clone()));
        while let Some(node) = innermost.take_if(|node| node.has_ended.get()) {
            innermost.clone_from(&node.around);
        }
        set_current(innermost);
    }
}

impl fmt::Debug for ScopeGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScopeGuard")
    }
}

impl ScopeData {
    pub(crate) fn properties(&self) -> impl ExactSizeIterator<Item = Property<'_>> {
        self.properties.iter().map(|(key, value)| Property::new(key, value.as_value()))
    }

    fn put(&mut self, key: String, value: OwnedValue) {
        if let Some((_, known)) = self.properties.iter_mut().find(|(known, _)| *known == key) {
            *known = value;
        } else if self.properties.len() < SCOPE_PROPERTIES_MAX {
            self.properties.push((key, value));
        }
    }

    /// This scope within another: what it does not say is that one's.
    fn inside(&self, outer: &Self) -> Self {
        let mut both = outer.clone();
        if !self.distinct_id.is_empty() {
            both.distinct_id.clone_from(&self.distinct_id);
        }
        for (key, value) in &self.properties {
            both.put(key.clone(), value.clone());
        }
        both
    }
}

/// Whether the calling thread is in a scope.
#[inline(always)]
pub(crate) fn is_entered() -> bool {
    IS_ENTERED.get()
}

/// What the calling thread's scope says. Neither allocates nor waits, and works while the thread ends.
pub(crate) fn current() -> Option<Arc<ScopeData>> {
    if !is_entered() {
        return None;
    }
    CURRENT.with(|current| current.try_borrow().ok()?.as_ref().map(|node| Arc::clone(&node.data)))
}

/// Hands on the event with what it lacks from the calling thread's scope.
pub(crate) fn apply<T>(event: &Event<'_>, then: impl FnOnce(&Event<'_>) -> T) -> T {
    let Some(data) = current() else { return then(event) };
    let mut event = *event;
    if event.lacks_distinct_id() && !data.distinct_id.is_empty() {
        event = event.distinct_id(&data.distinct_id);
    }
    let own = event.given_properties();
    let missing = data.properties().filter(|property| !own.iter().any(|own| own.key() == property.key()));
    if data.properties.is_empty() {
        then(&event)
    } else if own.len() + data.properties.len() <= INLINE_MAX {
        let mut all = heapless::Vec::<Property<'_>, INLINE_MAX>::new();
        own.iter().copied().chain(missing).for_each(|property| {
            let _ = all.push(property);
        });
        then(&event.properties(&all))
    } else {
        let all: Vec<_> = own.iter().copied().chain(missing).collect();
        then(&event.properties(&all))
    }
}

/// Whether any event can have a property of this name: none that some events write themselves.
pub(crate) fn is_usable_key(name: &str) -> bool {
    let is_written = matches!(
        name,
        key::LIB
            | key::LIB_VERSION
            | key::SET
            | key::SET_ONCE
            | key::UNSET
            | key::GROUPS
            | key::GROUP_TYPE
            | key::GROUP_KEY
            | key::GROUP_SET
            | key::PROCESS_PERSON_PROFILE
            | key::GEOIP_DISABLE
            | key::COOKIELESS_MODE
            | key::DEBUG_IMAGES
            | key::ALIAS
            | key::DISTINCT_ID
    );
    !is_written && !name.starts_with(key::EXCEPTION) && (1..=KEY_BYTES_MAX).contains(&name.len())
}

fn set_current(node: Option<Rc<Node>>) {
    IS_ENTERED.set(node.is_some());
    // The old one is dropped when the borrow has ended: values have no code of a caller's, but that is not known here.
    let _old = CURRENT
        .with(|current| current.try_borrow_mut().ok().map(|mut current| core::mem::replace(&mut *current, node)));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]
    use super::*;

    fn person() -> Option<String> {
        current().map(|data| data.distinct_id.clone())
    }

    #[test]
    fn guards_may_be_dropped_in_any_order() {
        let scopes = ["a", "b", "c"].map(|id| Scope::new().distinct_id(id));
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut guards = scopes.each_ref().map(|scope| Some(scope.enter()));
            let mut live = vec!["a", "b", "c"];
            for at in order {
                assert_eq!(person().as_deref(), live.last().copied());
                guards.get_mut(at).unwrap().take();
                live.retain(|id| Some(id) != ["a", "b", "c"].get(at));
            }
            assert!(!is_entered() && person().is_none());
        }
    }

    #[test]
    fn what_an_inner_scope_does_not_say_is_the_outer_ones() {
        let outer = Scope::new().distinct_id("ada").property("route", "/a").property("tries", 1);
        let inner = Scope::new().property("route", "/b").session_id("s-1");
        let _outer = outer.enter();
        {
            let _inner = inner.enter();
            let data = current().unwrap();
            assert_eq!((data.distinct_id.as_str(), data.owner), ("ada", outer.data.owner));
            let keys: Vec<_> = data.properties().map(|property| property.key().to_owned()).collect();
            assert_eq!(keys, ["route", "tries", "$session_id"]);
            let copy = Scope::current();
            std::thread::spawn(move || {
                assert!(!is_entered(), "another thread is in no scope");
                copy.run(|| assert_eq!(person().as_deref(), Some("ada")));
            })
            .join()
            .unwrap();
        }
        assert_eq!(current().unwrap().properties().len(), 2);
    }

    #[test]
    fn keys_that_no_event_can_have_and_too_many_are_left_out() {
        let scope =
            Scope::new().property("", 1).property("$lib", 1).property("$exception_list", 1).property("alias", 1);
        assert_eq!(scope.data.properties().len(), 0);
        let scope = (0..100).fold(scope, |scope, n| scope.property(n.to_string(), n));
        assert_eq!(scope.data.properties().len(), SCOPE_PROPERTIES_MAX);
    }

    #[test]
    fn leaving_by_a_panic_leaves() {
        let scope = Scope::new().distinct_id("ada");
        let result = std::panic::catch_unwind(|| scope.run(|| std::panic::resume_unwind(Box::new(1))));
        assert!(result.is_err() && !is_entered());
    }
}
