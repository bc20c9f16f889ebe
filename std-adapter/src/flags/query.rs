//! What a caller asks: about whom, and how.

use core::time::Duration;

use quillet_core::Property;
use quillet_core::flags::{FlagGroup, FlagSubject};

/// Whom flags are evaluated for, and how they may be found out.
///
/// A distinct id by itself is a query too, so that the simple case stays simple.
///
/// ```
/// use quillet::{Client, FlagQuery, flags::FlagGroup, props};
///
/// # let client = Client::disabled();
/// client.is_feature_enabled("new-checkout", "customer-7", false);
///
/// let (plan, seats) = (props! { "plan": "pro" }, props! { "seats": 40 });
/// let company = [FlagGroup::new("company", "acme").properties(seats)];
/// let who = FlagQuery::new("customer-7").person_properties(plan).groups(&company);
/// client.is_feature_enabled("new-checkout", who, false);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct FlagQuery<'a> {
    pub(super) subject: FlagSubject<'a>,
    pub(super) disable_geoip: bool,
    pub(super) force_remote: bool,
    pub(super) only_local: bool,
    pub(super) keys: &'a [&'a str],
    pub(super) timeout: Option<Duration>,
}

impl<'a> FlagQuery<'a> {
    /// About the person `distinct_id`: 1 to 200 characters, not only white space.
    pub const fn new(distinct_id: &'a str) -> Self {
        Self {
            subject: FlagSubject::new(distinct_id),
            disable_geoip: false,
            force_remote: false,
            only_local: false,
            keys: &[],
            timeout: None,
        }
    }

    /// What is known about the person. It overrides what the server has stored, for this evaluation.
    #[must_use]
    pub const fn person_properties(mut self, properties: &'a [Property<'a>]) -> Self {
        self.subject = self.subject.person_properties(properties);
        self
    }

    /// The groups that the person belongs to, with what is known about them.
    #[must_use]
    pub const fn groups(mut self, groups: &'a [FlagGroup<'a>]) -> Self {
        self.subject = self.subject.groups(groups);
        self
    }

    /// The device, for flags that are rolled out by device.
    #[must_use]
    pub const fn device_id(mut self, device_id: &'a str) -> Self {
        self.subject = self.subject.device_id(device_id);
        self
    }

    /// Whether the server must not derive a place from the sender's address. Default: `false`.
    #[must_use]
    pub const fn disable_geoip(mut self, disable: bool) -> Self {
        self.disable_geoip = disable;
        self
    }

    /// Whether to ask the server whatever is known here: neither definitions nor an earlier answer count. Default: `false`.
    #[must_use]
    pub const fn force_remote(mut self, force: bool) -> Self {
        self.force_remote = force;
        self
    }

    /// Whether to leave the server alone: what cannot be evaluated here is an error. Default: `false`. Wins over
    /// [`force_remote`](Self::force_remote).
    #[must_use]
    pub const fn only_local(mut self, only: bool) -> Self {
        self.only_local = only;
        self
    }

    /// The flags that [`feature_flags`](crate::Client::feature_flags) is about. Default: all. Of no effect elsewhere.
    #[must_use]
    pub const fn keys(mut self, keys: &'a [&'a str]) -> Self {
        self.keys = keys;
        self
    }

    /// Longest time that the call may take. Default: as long as its requests may, see
    /// [`feature_flag_timeout`](crate::ClientBuilder::feature_flag_timeout).
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

impl<'a> From<&'a str> for FlagQuery<'a> {
    fn from(distinct_id: &'a str) -> Self {
        Self::new(distinct_id)
    }
}

impl<'a> From<&'a String> for FlagQuery<'a> {
    fn from(distinct_id: &'a String) -> Self {
        Self::new(distinct_id)
    }
}

impl<'a> From<FlagSubject<'a>> for FlagQuery<'a> {
    fn from(subject: FlagSubject<'a>) -> Self {
        let mut query = Self::new(subject.given_distinct_id());
        query.subject = subject;
        query
    }
}
