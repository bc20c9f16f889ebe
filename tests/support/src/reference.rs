//! The event that every figure in the README speaks of, and variations of it.
//!
//! Nothing in, plain values out: how they become an event is up to whoever is measured. The event has a name, a distinct
//! id, and three properties: a word, a whole number and a path. Written by quillet it is 283 bytes of JSON on average,
//! with uuid, timestamp, `$lib`, `$lib_version` and `$is_server`.

/// The event's name.
pub const NAME: &str = "checkout_completed";

/// The properties' names.
pub const KEYS: [&str; 3] = ["plan", "amount_cents", "path"];

/// Distinct ids, 15 bytes each.
pub const IDS: [&str; 4] = ["customer-0193a7", "customer-0193b1", "customer-0193c9", "customer-0193d0"];

/// Values of `plan`.
pub const PLANS: [&str; 4] = ["pro", "free", "team", "enterprise"];

/// Values of `path`, 15 bytes each.
pub const PATHS: [&str; 4] = ["/basket/payment", "/basket/address", "/basket/parcels", "/basket/voucher"];

/// What differs from one reference event to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// The distinct id.
    pub id: &'static str,
    /// The property `plan`.
    pub plan: &'static str,
    /// The property `amount_cents`.
    pub amount_cents: i64,
    /// The property `path`.
    pub path: &'static str,
}

/// How many checkouts there are before they repeat. A power of two, so that the next one is found by a mask.
const PREPARED: usize = 64;

/// Makes checkouts without end, another one each time, in the same order each time.
///
/// They are made in advance: whoever is measured pays for reading one, as a program would that has it, and not for the
/// arithmetic by which they differ.
#[derive(Clone, Debug)]
pub struct Checkouts {
    turn: usize,
    prepared: [Checkout; PREPARED],
}

impl Default for Checkouts {
    fn default() -> Self {
        Self::new()
    }
}

impl Checkouts {
    /// From the first one on.
    #[allow(clippy::indexing_slicing, reason = "four of each, and the index is below four")]
    pub fn new() -> Self {
        let prepared = core::array::from_fn(|turn| {
            let (at, amount_cents) = (turn % 4, 4_900 + 157 * turn as i64);
            Checkout { id: IDS[at], plan: PLANS[at], amount_cents, path: PATHS[at] }
        });
        Self { turn: 0, prepared }
    }

    /// The next one, which no compiler can know in advance.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "there is always a next one")]
    #[allow(clippy::indexing_slicing, reason = "the index is masked")]
    pub fn next(&mut self) -> &Checkout {
        self.turn = self.turn.wrapping_add(1);
        std::hint::black_box(&self.prepared[self.turn % PREPARED])
    }
}
