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

/// Makes checkouts without end, another one each time, in the same order each time.
#[derive(Clone, Debug, Default)]
pub struct Checkouts {
    turn: usize,
}

impl Checkouts {
    /// From the first one on.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next one, which no compiler can know in advance.
    #[inline]
    #[allow(clippy::should_implement_trait, reason = "there is always a next one")]
    #[allow(clippy::indexing_slicing, reason = "four of each, and the index is below four")]
    pub fn next(&mut self) -> Checkout {
        self.turn = self.turn.wrapping_add(1);
        let at = self.turn % 4;
        let amount_cents = 4_900 + (self.turn % 10_000) as i64;
        std::hint::black_box(Checkout { id: IDS[at], plan: PLANS[at], amount_cents, path: PATHS[at] })
    }
}
