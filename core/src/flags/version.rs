//! Versions as filters compare them: three numbers, and what of a text is too doubtful to be three numbers.
//!
//! In: text such as `v1.4.2`. Out: a [`Version`] or a range of them. PostHog's clients ignore a pre-release part and
//! refuse leading zeros, its servers count the first and strip the second; where they would differ, nothing is read.

/// Major, minor and patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version([u64; 3]);

/// From the first version, included, to the second, not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VersionRange {
    from: Version,
    end: Version,
}

impl Version {
    /// Reads `1.2.3`, `v1.2`, `1` or `1.2.3+build`: missing parts are 0, parts beyond the third are ignored. `None` for a
    /// pre-release, a leading zero, and what is no version.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let (core, build) = text.split_once('+').map_or((text, ""), |(core, build)| (core, build));
        let _ = build; // Build metadata has no rank.
        let mut parts = [0; 3];
        let mut given = core.split('.');
        for (at, slot) in parts.iter_mut().enumerate() {
            match given.next() {
                Some(part) => *slot = number(part)?,
                None if at > 0 => break,
                None => return None,
            }
        }
        // A pre-release behind the third part would otherwise hide in what is ignored.
        given.all(|part| number(part).is_some()).then_some(Self(parts))
    }

    const fn next(self, part: usize) -> Option<Self> {
        let [major, minor, patch] = self.0;
        let next = match part {
            0 => (major.checked_add(1), 0, 0),
            1 => (Some(major), minor + 1, 0),
            _ => (Some(major), minor, patch + 1),
        };
        match next {
            (Some(major), minor, patch) => Some(Self([major, minor, patch])),
            _ => None,
        }
    }
}

impl VersionRange {
    /// `~1.2.3`: the same minor version, from this patch on.
    pub(super) fn tilde(text: &str) -> Option<Self> {
        let from = Version::parse(text)?;
        Some(Self { from, end: from.next(1)? })
    }

    /// `^1.2.3`: what may replace it without breaking; below 1.0 the minor version says so, below 0.1 the patch.
    pub(super) fn caret(text: &str) -> Option<Self> {
        let from = Version::parse(text)?;
        let part = from.0.iter().position(|part| *part > 0).unwrap_or(2);
        Some(Self { from, end: from.next(part)? })
    }

    /// `1.*`, `1.*.*` and `1.2.*`.
    pub(super) fn wildcard(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let fixed = text.strip_suffix(".*")?;
        let fixed = fixed.strip_suffix(".*").unwrap_or(fixed);
        let parts = fixed.split('.').count();
        let from = Version::parse(fixed).filter(|_| !fixed.contains('+') && !fixed.starts_with(['v', 'V']))?;
        // `1.2.*.*` and `1.2.3.*` say more than a version has parts.
        let is_range = parts + text.split('.').filter(|part| *part == "*").count() <= 3;
        is_range.then_some(Self { from, end: from.next(parts.checked_sub(1)?)? })
    }

    pub(super) fn contains(self, version: Version) -> bool {
        self.from <= version && version < self.end
    }
}

/// Decimal digits without a leading zero; far below the largest `u64`, so that the next number exists.
fn number(part: &str) -> Option<u64> {
    let leading_zero = part.len() > 1 && part.starts_with('0');
    let digits = !part.is_empty() && part.len() <= 18 && part.bytes().all(|byte| byte.is_ascii_digit());
    if digits && !leading_zero { part.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that fails should stop")]

    use super::*;

    #[test]
    fn versions_are_read_or_doubted() {
        for (text, parts) in [
            ("1.2.3", [1, 2, 3]),
            (" v1.2 ", [1, 2, 0]),
            ("V3", [3, 0, 0]),
            ("1.2.3.4", [1, 2, 3]),
            ("1.2.3+linux.1", [1, 2, 3]),
            ("0.0.0", [0, 0, 0]),
        ] {
            assert_eq!(Version::parse(text), Some(Version(parts)), "{text}");
        }
        for text in ["", "v", "1.", ".1", "1..2", "1.x", "1.0.0-beta", "1.08", "01", "-1", "1.2.3.x", "1 .2", "+1"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
        assert_eq!(Version::parse("9999999999999999999"), None);
    }

    #[test]
    fn ranges_are_those_of_the_table() {
        type Reads = fn(&str) -> Option<VersionRange>;
        let (tilde, caret, wildcard): (Reads, Reads, Reads) =
            (VersionRange::tilde, VersionRange::caret, VersionRange::wildcard);
        for (read, text, from, end) in [
            (tilde, "1.2.3", "1.2.3", "1.3.0"),
            (tilde, "1", "1.0.0", "1.1.0"),
            (caret, "1.2.3", "1.2.3", "2.0.0"),
            (caret, "0.2.3", "0.2.3", "0.3.0"),
            (caret, "0.0.3", "0.0.3", "0.0.4"),
            (caret, "0.0.0", "0.0.0", "0.0.1"),
            (wildcard, "1.*", "1.0.0", "2.0.0"),
            (wildcard, "v1.2.*", "1.2.0", "1.3.0"),
            (wildcard, "1.*.*", "1.0.0", "2.0.0"),
        ] {
            let range = read(text).unwrap();
            let (from, end) = (Version::parse(from).unwrap(), Version::parse(end).unwrap());
            assert_eq!(range, VersionRange { from, end }, "{text}");
            assert!(range.contains(from) && !range.contains(end));
        }
        for text in ["*", "1", "1.2.3", "1.2.3.*", "1.2.*.*", "1.*.3", "x.*", "vv1.*", ""] {
            assert_eq!(VersionRange::wildcard(text), None, "{text:?}");
        }
    }
}
