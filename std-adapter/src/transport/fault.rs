//! A transport that goes wrong on purpose, around one that does not.
//!
//! Input: batches. Output: what the inner transport says, except where the script or the dice say otherwise. For tests
//! of what a client does when the network does not.

use core::time::Duration;
use std::collections::VecDeque;
use std::panic::panic_any;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use quillet_core::{Batch, Outcome, Prng, Transport};

use crate::transport::flags::{FlagFailure, FlagRequest, FlagResponse, FlagTransport};

/// What goes wrong with one request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing: the request goes through.
    None,
    /// The request does not arrive, and this is its outcome.
    Instead(Outcome),
    /// The request arrives and is answered, but the answer is lost: the classic way to get an event twice.
    AnswerLost,
    /// The request goes through after this time.
    Delay(Duration),
    /// The transport panics before anything is sent.
    Panic,
}

/// Puts faults in front of another transport. Clones share the script and the dice.
///
/// ```
/// use quillet::transport::fault::{Fault, FaultTransport};
/// use quillet::transport::memory::MemoryTransport;
///
/// let memory = MemoryTransport::new();
/// // The first answer is lost, the second request goes through, and so do all that follow.
/// let transport = FaultTransport::scripted(memory, [Fault::AnswerLost, Fault::None]);
/// # drop(transport);
/// ```
#[derive(Clone, Debug)]
pub struct FaultTransport<T> {
    inner: T,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug)]
struct Faults {
    script: VecDeque<Fault>,
    /// The generator and how many of 100 requests it spoils.
    dice: Option<(Prng, u8)>,
}

impl<T> FaultTransport<T> {
    /// Applies `faults`, one to each request in turn, and none to those that follow.
    pub fn scripted(inner: T, faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::new(inner, Faults { script: faults.into_iter().collect(), dice: None })
    }

    /// Spoils `percent` of the requests, chosen by a generator that gives the same choices for the same seed:
    /// unreachable, unanswered, answer lost, 429, 500, 503, 413, and a page instead of an answer. Never a panic, and
    /// never a delay.
    pub fn seeded(inner: T, seed: [u64; 2], percent: u8) -> Self {
        Self::new(inner, Faults { script: VecDeque::new(), dice: Some((Prng::new(seed), percent)) })
    }

    fn new(inner: T, faults: Faults) -> Self {
        Self { inner, faults: Arc::new(Mutex::new(faults)) }
    }

    fn next(&self) -> Fault {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

/// # Panics
///
/// Where the script says [`Fault::Panic`].
impl<T: Transport> Transport for FaultTransport<T> {
    #[allow(clippy::panic, reason = "a panic is one of the faults, and only where a test's script asks for it")]
    fn send(&mut self, batch: &Batch<'_>) -> Outcome {
        match self.next() {
            Fault::None => self.inner.send(batch),
            Fault::Instead(outcome) => outcome,
            Fault::AnswerLost => {
                self.inner.send(batch);
                Outcome::NoAnswer
            }
            Fault::Delay(time) => {
                thread::sleep(time);
                self.inner.send(batch)
            }
            Fault::Panic => panic_any("a scripted panic"),
        }
    }
}

/// Requests about flags meet the same faults, as far as they have the like: no answer and no memory are a broken connection.
///
/// # Panics
///
/// Where the script says [`Fault::Panic`].
impl<T: FlagTransport> FlagTransport for FaultTransport<T> {
    #[allow(clippy::panic, reason = "a panic is one of the faults, and only where a test's script asks for it")]
    fn ask(&self, request: &FlagRequest<'_>) -> Result<FlagResponse, FlagFailure> {
        match self.next() {
            Fault::None => self.inner.ask(request),
            Fault::Instead(Outcome::Answered(answer)) => {
                Ok(FlagResponse::new(answer.status, if answer.html { "<html>" } else { "{}" }))
            }
            Fault::Instead(_) => Err(FlagFailure::Connection),
            Fault::AnswerLost => {
                let _ = self.inner.ask(request);
                Err(FlagFailure::Connection)
            }
            Fault::Delay(time) => {
                thread::sleep(time);
                self.inner.ask(request)
            }
            Fault::Panic => panic_any("a scripted panic"),
        }
    }
}

impl Faults {
    fn next(&mut self) -> Fault {
        if let Some(fault) = self.script.pop_front() {
            return fault;
        }
        let Some((prng, percent)) = &mut self.dice else { return Fault::None };
        // The upper bits of a draw decide whether, the next one decides what.
        if (prng.next() >> 32) % 100 >= u64::from(*percent) {
            return Fault::None;
        }
        match (prng.next() >> 32) % 8 {
            0 => Fault::Instead(Outcome::Unreachable),
            1 => Fault::Instead(Outcome::NoAnswer),
            2 => Fault::AnswerLost,
            3 => Fault::Instead(Outcome::status(429)),
            4 => Fault::Instead(Outcome::status(500)),
            5 => Fault::Instead(Outcome::status(503)),
            6 => Fault::Instead(Outcome::status(413)),
            _ => Fault::Instead(page()),
        }
    }
}

/// What a captive portal says.
fn page() -> Outcome {
    match Outcome::status(200) {
        Outcome::Answered(mut answer) => {
            answer.html = true;
            Outcome::Answered(answer)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(percent: u8) -> Vec<Fault> {
        let transport = FaultTransport::seeded((), [7, 9], percent);
        (0..1000).map(|_| transport.next()).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        assert_eq!(faults(30), faults(30));
    }

    #[test]
    fn the_share_of_faults_is_the_one_asked_for() {
        let spoiled = |percent| faults(percent).iter().filter(|fault| **fault != Fault::None).count();
        assert_eq!((spoiled(0), spoiled(100)), (0, 1000));
        assert!((200..400).contains(&spoiled(30)), "{}", spoiled(30));
    }

    #[test]
    fn a_script_is_played_once() {
        let transport = FaultTransport::scripted((), [Fault::AnswerLost, Fault::Panic]);
        assert_eq!(
            [transport.next(), transport.next(), transport.next()],
            [Fault::AnswerLost, Fault::Panic, Fault::None]
        );
    }
}
