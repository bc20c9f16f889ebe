//! What PostHog expects to read: one file per thing on the wire, and every name it spells, spelled once.
//!
//! In: borrowed events. Out: bytes of JSON, in the ring or in a buffer of the caller's.

pub mod batch;
pub(crate) mod digits;
pub(crate) mod escape;
pub(crate) mod event;
pub(crate) mod exception;
pub(crate) mod plain;
mod simd;
pub mod timestamp;
pub(crate) mod writer;

/// Names PostHog gives to events and properties. Nothing else in this crate spells them.
pub mod key {
    /// Event that sets person properties at a login.
    pub const IDENTIFY: &str = "$identify";
    /// Event that only sets person properties.
    pub const SET_EVENT: &str = "$set";
    /// Event that makes two distinct ids one person.
    pub const CREATE_ALIAS: &str = "$create_alias";
    /// Event that sets a group's properties.
    pub const GROUP_IDENTIFY: &str = "$groupidentify";
    /// Event that error tracking reads.
    pub const EXCEPTION: &str = "$exception";

    /// Name of this library; the server's handling of stack frames depends on it.
    pub const LIB: &str = "$lib";
    /// Version of this library.
    pub const LIB_VERSION: &str = "$lib_version";
    /// Says that the event comes from a server, whose operating system is not the person's.
    pub const IS_SERVER: &str = "$is_server";
    /// Asks the server not to derive a place from the sender's address.
    pub const GEOIP_DISABLE: &str = "$geoip_disable";
    /// `false` makes an event personless.
    pub const PROCESS_PERSON_PROFILE: &str = "$process_person_profile";

    /// Whether the server derives the id; anything but a boolean makes it refuse the whole batch.
    pub const COOKIELESS_MODE: &str = "$cookieless_mode";

    /// Person properties to overwrite.
    pub const SET: &str = "$set";
    /// Person properties to set where the person lacks them.
    pub const SET_ONCE: &str = "$set_once";
    /// Person properties to remove.
    pub const UNSET: &str = "$unset";
    /// Groups an event belongs to: an object from type to key.
    pub const GROUPS: &str = "$groups";
    /// Kind of the group that `$groupidentify` describes.
    pub const GROUP_TYPE: &str = "$group_type";
    /// Which group of its kind.
    pub const GROUP_KEY: &str = "$group_key";
    /// The group's properties.
    pub const GROUP_SET: &str = "$group_set";
    /// The new id of `$create_alias`.
    pub const ALIAS: &str = "alias";
    /// The existing id, which `$create_alias` repeats in its properties.
    pub const DISTINCT_ID: &str = "distinct_id";

    /// The exception and its causes, outermost first.
    pub const EXCEPTION_LIST: &str = "$exception_list";
    /// How bad it was.
    pub const EXCEPTION_LEVEL: &str = "$exception_level";
    /// The hook that caught it; only integrations say so.
    pub const EXCEPTION_SOURCE: &str = "$exception_source";
    /// Forces grouping.
    pub const EXCEPTION_FINGERPRINT: &str = "$exception_fingerprint";
    /// Stack as text, for people to read; the server does not parse it.
    pub const EXCEPTION_STACK_TEXT: &str = "$exception_stack_trace_raw";
    /// Source file that a panic came from.
    pub const EXCEPTION_PANIC_FILE: &str = "$exception_panic_file";
    /// Line of it, from 1.
    pub const EXCEPTION_PANIC_LINE: &str = "$exception_panic_line";
    /// Column of it, from 1.
    pub const EXCEPTION_PANIC_COLUMN: &str = "$exception_panic_column";
    /// Name of the thread it happened on. PostHog has no field for it and shows it as any other property.
    pub const EXCEPTION_THREAD_NAME: &str = "$exception_thread_name";
    /// What happened before it, oldest first.
    pub const EXCEPTION_STEPS: &str = "$exception_steps";
    /// What a step says.
    pub const STEP_MESSAGE: &str = "$message";
    /// When a step was taken.
    pub const STEP_TIMESTAMP: &str = "$timestamp";
    /// How many like it were held back before it. PostHog has no field for it and shows it as any other property.
    pub const EXCEPTION_SUPPRESSED: &str = "$exception_suppressed_count";
    /// The visit that an event belongs to.
    pub const SESSION_ID: &str = "$session_id";
    /// Images that stack frames refer to.
    pub const DEBUG_IMAGES: &str = "$debug_images";
}

/// Value of `$lib`. PostHog's servers rewrite the stack frames of the libraries they know by name, so this must never be
/// another SDK's.
pub const LIB_NAME: &str = "quillet";

/// Value of `$lib_version`.
pub const LIB_VERSION: &str = env!("CARGO_PKG_VERSION");
