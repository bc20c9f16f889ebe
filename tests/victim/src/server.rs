//! How servers behave: the good one, and those that drivers play.

use crate::oracle::seq_of;
use crate::random::Random;
use quillet_support::{Answer, Rule, Sink};
use std::time::Duration;

/// One event in so many is poison to a [`Server::Poisoned`].
const POISON_IN: u64 = 97;

/// Largest body that a [`Server::Small`] takes, in bytes: more than any event of ours.
const SMALL_BYTES: usize = 6 * 1024;

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Healthy,
    /// Nobody listens.
    Refusing,
    Status(u16),
    /// With a `Retry-After` of a second.
    StatusAfter(u16),
    /// 413 above a size.
    Small,
    /// 400 for a batch with one bad event.
    Poisoned,
    ResetsMidBody,
    ResetsAfterStoring,
    Hangs,
    Drips,
    HalfAnswers,
    Garbage,
    LoginPage,
    ClosesEarly,
    ClosesLate,
    /// Each request finds another one of these.
    Mixed,
}

impl Server {
    pub const ALL: [Self; 20] = [
        Self::Healthy,
        Self::Refusing,
        Self::Status(500),
        Self::Status(503),
        Self::Status(429),
        Self::StatusAfter(503),
        Self::StatusAfter(429),
        Self::Status(401),
        Self::Status(302),
        Self::Small,
        Self::Poisoned,
        Self::ResetsMidBody,
        Self::ResetsAfterStoring,
        Self::Hangs,
        Self::Drips,
        Self::HalfAnswers,
        Self::Garbage,
        Self::LoginPage,
        Self::ClosesEarly,
        Self::Mixed,
    ];

    /// Makes the sink behave like this.
    pub fn play(self, sink: &Sink, seed: u64) {
        sink.clear_answers();
        match self {
            Self::Healthy | Self::Refusing => {}
            Self::Small => sink.rule(Rule::RefuseOver(SMALL_BYTES)),
            Self::Poisoned => sink.rule(Rule::PoisonedBy(Box::new(|event| seq_of(event).is_some_and(is_poison)))),
            Self::Mixed => {
                let mut random = Random::new(seed);
                sink.rule(Rule::custom(move |_| mixed(&mut random).answer()));
            }
            other => sink.rule(Rule::Always(other.answer().unwrap_or_default())),
        }
    }

    /// Becomes well, but for what a server would refuse for good.
    pub fn recover(self, sink: &Sink) {
        match self {
            Self::Small | Self::Poisoned => {}
            _ => sink.clear_answers(),
        }
    }

    /// Whether it refuses this event for good.
    pub fn refuses(self, seq: u64) -> bool {
        self == Self::Poisoned && is_poison(seq)
    }

    fn answer(self) -> Option<Answer> {
        Some(match self {
            Self::Healthy | Self::Refusing | Self::Small | Self::Poisoned | Self::Mixed => return None,
            Self::Status(status) => Answer::status(status),
            Self::StatusAfter(status) => Answer::status_after(status, "1"),
            Self::ResetsMidBody => Answer::ResetMidBody,
            Self::ResetsAfterStoring => Answer::ResetAfterStoring,
            Self::Hangs => Answer::NoAnswer,
            Self::Drips => Answer::SlowDrip(Duration::from_millis(1)),
            Self::HalfAnswers => Answer::HalfAnswer,
            Self::Garbage => Answer::Garbage,
            Self::LoginPage => Answer::Html200,
            Self::ClosesEarly => Answer::CloseBeforeAnswer,
            Self::ClosesLate => Answer::CloseWithoutSayingSo,
        })
    }
}

/// Half of the time well, else something that a client may try again after a moment.
fn mixed(random: &mut Random) -> Server {
    const BAD: [Server; 12] = [
        Server::Status(500),
        Server::Status(503),
        Server::Status(429),
        Server::StatusAfter(429),
        Server::ResetsMidBody,
        Server::ResetsAfterStoring,
        Server::Drips,
        Server::HalfAnswers,
        Server::Garbage,
        Server::LoginPage,
        Server::ClosesEarly,
        Server::ClosesLate,
    ];
    if random.once_in(2) { Server::Healthy } else { *random.pick(&BAD) }
}

fn is_poison(seq: u64) -> bool {
    seq % POISON_IN == 13
}
