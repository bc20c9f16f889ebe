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
//!
//! # Operators
//!
//! What a filter of a definition may ask, and where the answer is [`Inconclusive`] because PostHog's clients and servers are
//! known to differ there, or because only the server can tell. A property that was not given is inconclusive always.
//!
//! | operator | true of | inconclusive |
//! |---|---|---|
//! | `exact`, `is_not` | a text equal but for case, or one of a list; numbers as in JSON | booleans read otherwise; `ς` |
//! | `is_set`, `is_not_set` | what was given and is not null; nothing that was given | |
//! | `icontains`, `not_icontains` | a text that this is part of; the case of ASCII does not count | |
//! | `icontains_multi`, `not_icontains_multi` | the same for any of a list | a filter without a list |
//! | `starts_with`, `not_starts_with` | a text that begins so; the case of ASCII does not count | |
//! | `ends_with`, `not_ends_with` | a text that ends so; the case of ASCII does not count | |
//! | `regex`, `not_regex` | a text in which the pattern is found, anywhere; case counts | what [`Patterns`] do not know |
//! | `gt`, `gte`, `lt`, `lte` | a number, or a text that is one | anything else |
//! | `between`, `not_between` | the same, both bounds included | bounds in the wrong order |
//! | `is_date_before`, `is_date_after`, `is_date_exact` | a date, or a time of RFC 3339; see below | what is no date |
//! | `semver_eq`, `semver_neq`, `semver_gt`, `semver_gte` | three numbers, missing ones 0 | pre-releases, leading zeros |
//! | `semver_lt`, `semver_lte` | the same | the same |
//! | `semver_tilde`, `semver_caret`, `semver_wildcard` | a version within `~1.2.3`, `^1.2.3`, `1.2.*` | the same |
//! | `in`, `not_in` | a member of a cohort in the document | a cohort that is not: the whole flag |
//! | `flag_evaluates_to` | another flag with this value | circles; what that flag leaves open |
//!
//! The other date may be so long before now: `-7d`, `24h`, `2w`, `6m`, `1y`. Where only one of two dates says its offset,
//! 14 hours around it are inconclusive.
//!
//! A null property is none of these, except that it `is_not` what no null is written as. Any other operator is inconclusive
//! for its condition; the conditions behind it still count.

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
