//! Which client belongs to which test.
//!
//! In: test ids. Out: the [`Instance`] of each. Calls without an id, the harness's sequential mode, share one instance.
//!
//! Concurrency: the lock is held to look up, put in and take out, never while a client is built, flushed or stopped, so
//! a test that waits for its retries holds up no other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::instance::Instance;

/// A test's id; `None` in sequential mode.
type TestId = Option<String>;

/// All instances. The harness never cleans up after the last call of a test, so there are as many as there were tests.
#[derive(Default)]
pub(crate) struct Registry {
    instances: Mutex<HashMap<TestId, Arc<Instance>>>,
}

impl Registry {
    /// The test's instance, if it was initialised.
    pub(crate) fn find(&self, id: &TestId) -> Option<Arc<Instance>> {
        self.lock().get(id).cloned()
    }

    /// Stops the test's instance, if there is one. When this returns, it sends nothing any more.
    pub(crate) fn remove(&self, id: &TestId) {
        let removed = self.lock().remove(id);
        if let Some(instance) = removed {
            instance.discard();
        }
    }

    /// Gives the test a new instance, and stops one that it may have got meanwhile.
    pub(crate) fn insert(&self, id: TestId, instance: Instance) {
        let replaced = self.lock().insert(id, Arc::new(instance));
        if let Some(instance) = replaced {
            instance.discard();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TestId, Arc<Instance>>> {
        // A map is whole between two calls of its methods, whatever happened to the thread that made them.
        self.instances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
