//! How a batch leaves: HTTP in earnest, memory and faults for tests, or whatever a caller brings.
//!
//! Input: a [`Batch`] that the core's flusher wants sent. Output: the [`Outcome`] of one request. Nothing here decides
//! what an outcome means, and nothing here captures events: a sender that reported its own troubles as events would
//! never come to rest.

pub mod fault;
pub mod flags;
#[cfg(feature = "gzip")]
pub(crate) mod gzip;
pub mod http;
pub mod memory;
#[cfg(test)]
mod testing;

use core::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use quillet_core::{Batch, Outcome, Transport};

use self::flags::{FlagFailure, FlagRequest, FlagResponse, FlagTransport};
use self::http::HttpTransport;

/// A caller's transport, without its type: cloning it is what a bound of `Clone` becomes behind a pointer.
pub(crate) trait CloneTransport: Transport + Send {
    /// A second instance, for a send outside of the queue.
    fn clone_box(&self) -> Box<dyn CloneTransport>;
}

impl<T: Transport + Clone + Send + 'static> CloneTransport for T {
    fn clone_box(&self) -> Box<dyn CloneTransport> {
        Box::new(self.clone())
    }
}

/// What the client sends with: one request at a time, never with a panic.
pub(crate) enum Sender {
    /// The client's own HTTP.
    Http(Box<HttpTransport>),
    /// The caller's.
    Own(Box<dyn CloneTransport>),
}

impl Sender {
    /// Makes requests in flight, those of clones included, end soon, and later ones fail at once. Only HTTP knows how;
    /// a caller's transport has its own timeouts.
    pub(crate) fn abort(&self) {
        match self {
            Self::Http(http) => http.abort(),
            Self::Own(_) => {}
        }
    }

    /// The same for a forked child: nothing that the parent uses, no socket and no lock. A caller's transport is cloned;
    /// what it shares with its clones is its own affair.
    pub(crate) fn renewed(self) -> Self {
        match self {
            Self::Http(http) => Self::Http(Box::new(http.renewed())),
            own @ Self::Own(_) => own,
        }
    }

    /// Why the last request had no answer, in words for a log.
    pub(crate) fn last_error(&self) -> Option<&str> {
        match self {
            Self::Http(http) => http.last_error(),
            Self::Own(_) => None,
        }
    }
}

impl Transport for Sender {
    /// A panic inside, ureq's or a caller's, is one more way of having no answer.
    fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        let sent = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Http(http) => http.send(batch),
            Self::Own(own) => own.send(batch),
        }));
        sent.unwrap_or_else(|_| {
            if let Self::Http(http) = self {
                http.after_panic();
            }
            Outcome::NoAnswer
        })
    }
}

impl Clone for Sender {
    fn clone(&self) -> Self {
        match self {
            Self::Http(http) => Self::Http(http.clone()),
            Self::Own(own) => Self::Own((**own).clone_box()),
        }
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http(_) => "Sender::Http",
            Self::Own(_) => "Sender::Own",
        })
    }
}

/// What the client asks about flags with. Shared by all threads that ask.
pub(crate) enum FlagSender {
    /// The client's own HTTP, with connections apart from those for events.
    Http(Box<HttpTransport>),
    /// The caller's.
    Own(Arc<dyn FlagTransport>),
    /// There is a transport of the caller's for events, and none for flags.
    Nobody,
}

impl FlagSender {
    pub(crate) fn new(own: Option<Arc<dyn FlagTransport>>, events: Option<&Sender>) -> Self {
        match (own, events) {
            (Some(own), _) => Self::Own(own),
            (None, Some(Sender::Http(http))) => Self::Http(Box::new(http.renewed())),
            (None, _) => Self::Nobody,
        }
    }

    pub(crate) fn is_nobody(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    /// Makes requests in flight end soon, and later ones fail at once. Only HTTP knows how.
    pub(crate) fn abort(&self) {
        if let Self::Http(http) = self {
            http.abort();
        }
    }
}

impl FlagTransport for FlagSender {
    fn ask(&self, request: &FlagRequest<'_>) -> Result<FlagResponse, FlagFailure> {
        match self {
            Self::Http(http) => http.ask(request),
            Self::Own(own) => own.ask(request),
            Self::Nobody => Err(FlagFailure::Connection),
        }
    }
}

#[cfg(test)]
mod tests {
    use quillet_core::Answer;

    use super::fault::{Fault, FaultTransport};
    use super::memory::MemoryTransport;
    use super::testing::with_batch;
    use super::*;

    #[test]
    fn a_panic_in_a_transport_is_no_answer_and_the_next_request_goes_through() {
        let faults = FaultTransport::scripted(MemoryTransport::new(), [Fault::Panic]);
        let mut sender = Sender::Own(Box::new(faults));
        let outcomes = [(); 2].map(|()| with_batch(1, 100, None, |batch| sender.send(batch)));
        assert_eq!(outcomes, [Outcome::NoAnswer, Outcome::status(200)]);
    }

    #[test]
    fn a_clone_shares_what_its_transport_shares() {
        let memory = MemoryTransport::new();
        let sender = Sender::Own(Box::new(memory.clone()));
        let mut clone = sender.clone();
        assert_eq!(with_batch(3, 100, None, |batch| clone.send(batch)), Outcome::Answered(Answer::new(200)));
        assert_eq!(memory.events().len(), 3);
        sender.abort();
        assert_eq!(sender.last_error(), None);
    }
}
