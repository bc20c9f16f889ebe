//! Feature flags: what a server answers about them, and what they are without asking one.
//!
//! ```text
//!  answer of /flags/ ─▶ reply ─▶ a flag's value, payload, reason          (borrowed from the answer)
//!  definitions ──────▶ index: slots ─▶ evaluate ─▶ the same               (borrowed from the document)
//!                                         ▲
//!            who: ids, properties ────────┘── hash · text · date · version: one filter at a time
//! ```
//!
//! In: text that the network wrote, and the caller's own values. Out: values that borrow both. Nothing here allocates,
//! asks the time or opens anything; requests, caches and threads are the business of whoever calls. Text is checked once,
//! in one pass, and walked without recursion; the only recursion, cohorts and flags that refer to each other, has a limit.

mod date;
mod definitions;
mod evaluate;
mod filter;
mod hash;
mod json;
mod reply;
mod request;
mod text;
mod value;
mod version;

pub use definitions::{DEFINITIONS_BYTES_MAX, Definitions, DefinitionsError, Slot};
pub use evaluate::{FILTERS_MAX, FlagGroup, FlagSubject, Inconclusive, LocalFlag, NESTING_MAX, Patterns};
pub use hash::{VARIANT_SALT, bucket};
pub use json::{Chars, Elements, Json, Members, Text};
pub use reply::{FlagsReply, REPLY_BYTES_MAX, ReplyError, ReplyFlag, ReplyFlags};
pub use request::FlagsRequest;
pub use value::FlagValue;

#[cfg(test)]
mod tests;
