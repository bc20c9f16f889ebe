//! Where events go and as whom: checks and normalises the host and the API key, once, when a client is built.
//!
//! Input: two strings as a person configured them. Output: an [`Endpoint`] whose URLs need no further checks, and a key
//! that the server's own shape check takes.

use core::fmt;
use std::error::Error;

use quillet_core::limits::API_KEY_BYTES_MAX;

/// Where PostHog's own servers take events: the United States.
pub(crate) const HOST_DEFAULT: &str = "https://us.i.posthog.com";
const HOST_EU: &str = "https://eu.i.posthog.com";

/// Longest host accepted, in bytes, base path included.
const HOST_BYTES_MAX: usize = 1024;

/// A checked host: scheme, name, port, and a base path if there is a reverse proxy with one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Scheme, authority and base path, without a slash at the end.
    base: String,
    name: String,
    port: u16,
    https: bool,
}

impl Endpoint {
    /// Normalises `host` the way PostHog's SDKs do, then checks it.
    ///
    /// Surrounding whitespace and trailing slashes go; an empty host is [`HOST_DEFAULT`]; the addresses of PostHog's
    /// apps become those of its ingestion; anything else, a base path included, stays as it is.
    pub(crate) fn parse(host: &str) -> Result<Self, HostProblem> {
        let host = normalise(host);
        if host.len() > HOST_BYTES_MAX {
            return Err(HostProblem::TooLong);
        }
        let (scheme, rest) = host.split_once("://").ok_or(HostProblem::Scheme)?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return Err(HostProblem::Scheme);
        }
        if rest.contains(['?', '#']) {
            return Err(HostProblem::QueryOrFragment);
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(HostProblem::UserInfo);
        }
        if !path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte)) {
            return Err(HostProblem::Character);
        }
        let (name, port) = split_port(authority)?;
        let port = match port {
            Some(digits) => parse_port(digits)?,
            None if https => 443,
            None => 80,
        };
        check_name(name)?;
        Ok(Self {
            base: format!("{}://{authority}{path}", if https { "https" } else { "http" }),
            name: name.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            https,
        })
    }

    /// The URL of `path`, which begins with a slash, below the base path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The URL that takes batches. With the slash at the end: proxies written for older servers redirect without it.
    pub(crate) fn batch_url(&self) -> String {
        self.url("/batch/")
    }

    /// The host's name or address, without brackets.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The port, the scheme's own unless another was given.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether TLS is needed.
    pub(crate) fn is_https(&self) -> bool {
        self.https
    }
}

/// What is wrong with a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HostProblem {
    /// It does not begin with `http://` or `https://`.
    Scheme,
    /// There is no name between the scheme and the path.
    NoName,
    /// The port is not a number from 1 to 65535.
    Port,
    /// There is a user name or a password in it; pass an `Authorization` header instead.
    UserInfo,
    /// There is a query or a fragment in it; the endpoint's path could not be appended.
    QueryOrFragment,
    /// There is a character that does not belong into a URL; other alphabets need punycode or percent-encoding.
    Character,
    /// It is longer than 1024 bytes.
    TooLong,
    /// It looks like a URL but is none.
    Malformed,
}

impl fmt::Display for HostProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "must begin with http:// or https://",
            Self::NoName => "has no name",
            Self::Port => "has a port that is not a number from 1 to 65535",
            Self::UserInfo => "must not hold a user name or a password; use an Authorization header",
            Self::QueryOrFragment => "must not hold a query or a fragment",
            Self::Character => "has a character that does not belong into a URL",
            Self::TooLong => "is longer than 1024 bytes",
            Self::Malformed => "is not a URL",
        })
    }
}

impl Error for HostProblem {}

/// The project token, or none: a client without one is disabled.
///
/// Made from `&str`, `String` and options of them, so that `std::env::var("POSTHOG_API_KEY").ok()` can be passed as it
/// is. Its `Debug` form does not show the key.
#[derive(Clone, Default)]
pub struct ApiKey(Option<String>);

impl ApiKey {
    pub(crate) fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "ApiKey(…)" } else { "ApiKey(none)" })
    }
}

impl From<&str> for ApiKey {
    fn from(key: &str) -> Self {
        Self(Some(key.to_owned()))
    }
}

impl From<String> for ApiKey {
    fn from(key: String) -> Self {
        Self(Some(key))
    }
}

impl From<&String> for ApiKey {
    fn from(key: &String) -> Self {
        Self(Some(key.clone()))
    }
}

impl From<Option<&str>> for ApiKey {
    fn from(key: Option<&str>) -> Self {
        Self(key.map(str::to_owned))
    }
}

impl From<Option<String>> for ApiKey {
    fn from(key: Option<String>) -> Self {
        Self(key)
    }
}

/// What is wrong with an API key: each is something the server answers with 401, or a secret in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyProblem {
    /// It is longer than 64 bytes.
    TooLong,
    /// It holds a character outside of ASCII, or NUL.
    Character,
    /// It is a personal API key (`phx_`) or a project secret key (`phs_`). Those are secrets, and capture takes
    /// neither: the project token begins with `phc_`.
    Secret,
}

impl fmt::Display for KeyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "is longer than 64 bytes",
            Self::Character => "must be ASCII without NUL",
            Self::Secret => "is a secret key; capture takes the project token, which begins with phc_",
        })
    }
}

impl Error for KeyProblem {}

/// Trims `key` and checks its shape. `None` is an empty key: the client is to be disabled.
///
/// The server checks no more than this: a wrong token of the right shape is answered with 200.
pub(crate) fn check_key(key: &str) -> Result<Option<&str>, KeyProblem> {
    let key = key.trim();
    if key.is_empty() {
        Ok(None)
    } else if key.starts_with("phx_") || key.starts_with("phs_") {
        Err(KeyProblem::Secret)
    } else if !key.is_ascii() || key.contains('\0') {
        Err(KeyProblem::Character)
    } else if key.len() > API_KEY_BYTES_MAX {
        Err(KeyProblem::TooLong)
    } else {
        Ok(Some(key))
    }
}

/// The four steps of the SDK specification; the third compares exactly, scheme included.
fn normalise(host: &str) -> &str {
    match host.trim().trim_end_matches('/') {
        "" | "https://app.posthog.com" | "https://us.posthog.com" => HOST_DEFAULT,
        "https://eu.posthog.com" => HOST_EU,
        other => other,
    }
}

/// Splits `name[:port]`; the name keeps the brackets of an IPv6 address.
fn split_port(authority: &str) -> Result<(&str, Option<&str>), HostProblem> {
    if authority.starts_with('[') {
        let end = authority.find(']').ok_or(HostProblem::Character)?;
        let (name, rest) = authority.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((name, Some(port))),
            None if rest.is_empty() => Ok((name, None)),
            None => Err(HostProblem::Character),
        };
    }
    Ok(match authority.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (authority, None),
    })
}

/// Digits only: `str::parse` would take a plus sign too.
fn parse_port(digits: &str) -> Result<u16, HostProblem> {
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostProblem::Port);
    }
    digits.parse().ok().filter(|&port| port != 0).ok_or(HostProblem::Port)
}

fn check_name(name: &str) -> Result<(), HostProblem> {
    let inside = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    match inside {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => Ok(()),
        Some(_) => Err(HostProblem::Character),
        None if name.is_empty() => Err(HostProblem::NoName),
        None if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) => Ok(()),
        None => Err(HostProblem::Character),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn hosts_are_normalised_as_posthog_sdks_do() {
        for (host, url) in [
            ("", "https://us.i.posthog.com/batch/"),
            ("  \t\n", "https://us.i.posthog.com/batch/"),
            ("///", "https://us.i.posthog.com/batch/"),
            ("https://app.posthog.com", "https://us.i.posthog.com/batch/"),
            ("https://us.posthog.com/", "https://us.i.posthog.com/batch/"),
            (" https://eu.posthog.com// ", "https://eu.i.posthog.com/batch/"),
            ("https://eu.i.posthog.com", "https://eu.i.posthog.com/batch/"),
            ("https://us.i.posthog.com/", "https://us.i.posthog.com/batch/"),
            // Only the exact text is rewritten: a path or another scheme is somebody's own proxy.
            ("http://app.posthog.com", "http://app.posthog.com/batch/"),
            ("https://app.posthog.com/ingest", "https://app.posthog.com/ingest/batch/"),
            ("https://proxy.example/a/b/", "https://proxy.example/a/b/batch/"),
            ("http://localhost:8000", "http://localhost:8000/batch/"),
            ("HTTPS://Proxy.example", "https://Proxy.example/batch/"),
            ("http://[::1]:8000/x", "http://[::1]:8000/x/batch/"),
        ] {
            assert_eq!(Endpoint::parse(host).unwrap().batch_url(), url, "{host:?}");
        }
    }

    #[test]
    fn names_and_ports_are_found() {
        for (host, name, port, https) in [
            ("", "us.i.posthog.com", 443, true),
            ("http://a.example", "a.example", 80, false),
            ("http://a.example:81/x", "a.example", 81, false),
            ("https://127.0.0.1:65535", "127.0.0.1", 65535, true),
            ("http://[2001:db8::1]", "2001:db8::1", 80, false),
        ] {
            let endpoint = Endpoint::parse(host).unwrap();
            assert_eq!((endpoint.name(), endpoint.port(), endpoint.is_https()), (name, port, https), "{host:?}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for (host, problem) in [
            ("us.i.posthog.com", HostProblem::Scheme),
            ("ftp://a.example", HostProblem::Scheme),
            ("//a.example", HostProblem::Scheme),
            ("https://", HostProblem::Scheme),
            ("https:///batch", HostProblem::NoName),
            ("https://:80", HostProblem::NoName),
            ("https://a.example:", HostProblem::Port),
            ("https://a.example:0", HostProblem::Port),
            ("https://a.example:65536", HostProblem::Port),
            ("https://a.example:+80", HostProblem::Port),
            ("https://a.example:80:80", HostProblem::Port),
            ("https://me:pw@a.example", HostProblem::UserInfo),
            ("https://a.example?x=1", HostProblem::QueryOrFragment),
            ("https://a.example/x#y", HostProblem::QueryOrFragment),
            ("https://a example", HostProblem::Character),
            ("https://a.example/\r\nX: y", HostProblem::Character),
            ("https://bücher.example", HostProblem::Character),
            ("https://a.example\\b", HostProblem::Character),
            ("https://[::1", HostProblem::Character),
            ("https://[nonsense]", HostProblem::Character),
            ("https://[::1]x", HostProblem::Character),
        ] {
            assert_eq!(Endpoint::parse(host), Err(problem), "{host:?}");
        }
        assert_eq!(Endpoint::parse(&format!("https://{}", "a".repeat(2000))), Err(HostProblem::TooLong));
    }

    #[test]
    fn keys_are_checked_as_the_server_checks_them() {
        let longest = "k".repeat(64);
        for (key, checked) in [
            ("", Ok(None)),
            (" \n", Ok(None)),
            (" phc_abc\n", Ok(Some("phc_abc"))),
            (longest.as_str(), Ok(Some(longest.as_str()))),
            ("phx_secret", Err(KeyProblem::Secret)),
            ("phs_secret", Err(KeyProblem::Secret)),
            ("phc_ü", Err(KeyProblem::Character)),
            ("phc_\0", Err(KeyProblem::Character)),
        ] {
            assert_eq!(check_key(key), checked, "{key:?}");
        }
        assert_eq!(check_key(&"k".repeat(65)), Err(KeyProblem::TooLong));
    }
}
