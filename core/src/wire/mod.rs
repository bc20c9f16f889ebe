//! What PostHog expects to read: one file per thing on the wire, and every name it spells, spelled once.
//!
//! In: borrowed events. Out: bytes of JSON, in the ring or in a buffer of the caller's.

pub mod batch;
pub(crate) mod digits;
pub(crate) mod escape;
pub(crate) mod event;
pub(crate) mod exception;
pub(crate) mod float;
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

    /// Event that says which value of a flag a program has read.
    pub const FEATURE_FLAG_CALLED: &str = "$feature_flag_called";
    /// The flag's key.
    pub const FEATURE_FLAG: &str = "$feature_flag";
    /// The value read.
    pub const FEATURE_FLAG_RESPONSE: &str = "$feature_flag_response";
    /// The payload of the value read.
    pub const FEATURE_FLAG_PAYLOAD: &str = "$feature_flag_payload";
    /// Whether an experiment uses the flag.
    pub const FEATURE_FLAG_HAS_EXPERIMENT: &str = "$feature_flag_has_experiment";
    /// The flag's number.
    pub const FEATURE_FLAG_ID: &str = "$feature_flag_id";
    /// The flag's version.
    pub const FEATURE_FLAG_VERSION: &str = "$feature_flag_version";
    /// Why the flag has this value.
    pub const FEATURE_FLAG_REASON: &str = "$feature_flag_reason";
    /// The answer that the value came with.
    pub const FEATURE_FLAG_REQUEST_ID: &str = "$feature_flag_request_id";
    /// When the server evaluated the flag, in milliseconds since 1970.
    pub const FEATURE_FLAG_EVALUATED_AT: &str = "$feature_flag_evaluated_at";
    /// Why there is no value, or a doubtful one.
    pub const FEATURE_FLAG_ERROR: &str = "$feature_flag_error";
    /// Whether the value was found out without a request.
    pub const LOCALLY_EVALUATED: &str = "locally_evaluated";
    /// What the key of a flag's value on an event begins with.
    pub const FEATURE_PREFIX: &str = "$feature/";
    /// The keys of the flags that are on.
    pub const ACTIVE_FEATURE_FLAGS: &str = "$active_feature_flags";

    /// The person's device; flags may be rolled out by it.
    pub const DEVICE_ID: &str = "$device_id";
    /// The window of a session.
    pub const WINDOW_ID: &str = "$window_id";
    /// The operating system.
    pub const OS: &str = "$os";
    /// Its version.
    pub const OS_VERSION: &str = "$os_version";
}

/// Value of `$lib`. PostHog's servers rewrite the stack frames of the libraries they know by name, so this must never be
/// another SDK's.
pub const LIB_NAME: &str = "quillet";

/// Value of `$lib_version`.
pub const LIB_VERSION: &str = env!("CARGO_PKG_VERSION");
