//! How often each latency occurred, in buckets that are never wider than a sixty-fourth of what they hold.
//!
//! In: ticks of one capture at a time. Out: percentiles, exact to 1.6 %, and the maximum, exact. Recording is a few
//! instructions and touches one of some thousand counters, so that it disturbs what it measures as little as it can.

/// Buckets for each power of two.
const PER_OCTAVE: usize = 1 << PER_OCTAVE_BITS;
const PER_OCTAVE_BITS: u32 = 6;

/// One octave more than there are bits above the first: small values have a bucket each.
const BUCKETS: usize = (64 - PER_OCTAVE_BITS as usize + 1) * PER_OCTAVE;

pub(crate) struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: Box::new([0; BUCKETS]), max: 0 }
    }

    #[inline]
    pub(crate) fn record(&mut self, value: u64) {
        if let Some(count) = self.counts.get_mut(bucket(value)) {
            *count += 1;
        }
        self.max = self.max.max(value);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count += more;
        }
        self.max = self.max.max(other.max);
    }

    pub(crate) fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The value that `share` of all are not above: the upper end of its bucket. Zero if there are none.
    pub(crate) fn percentile(&self, share: f64) -> u64 {
        let wanted = (self.len() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return upper_end(at).min(self.max);
            }
        }
        self.max
    }
}

/// The number of leading bits decides the octave, the next six the bucket in it.
#[inline]
fn bucket(value: u64) -> usize {
    let octave = (u64::BITS - value.leading_zeros()).saturating_sub(PER_OCTAVE_BITS + 1);
    octave as usize * PER_OCTAVE + (value >> octave) as usize
}

fn upper_end(bucket: usize) -> u64 {
    if bucket < 2 * PER_OCTAVE {
        return bucket as u64;
    }
    let octave = bucket / PER_OCTAVE - 1;
    let first = (bucket - octave * PER_OCTAVE) as u64;
    (first << octave) + ((1 << octave) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_what_it_says_and_is_narrow() {
        for value in (0..10_000).chain((0..64).flat_map(|bit| [1 << bit, (1_u64 << bit) - 1, (1 << bit) | 1])) {
            let at = bucket(value);
            assert!(at < BUCKETS, "{value}");
            assert!(upper_end(at) >= value && upper_end(at) <= value + value / 64, "{value}");
            assert!(at == 0 || upper_end(at - 1) < value, "{value}");
        }
        assert_eq!(upper_end(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_values() {
        let (mut one, mut two) = (Histogram::new(), Histogram::new());
        assert_eq!((one.len(), one.max(), one.percentile(0.5)), (0, 0, 0));
        (1..=100).for_each(|value| one.record(value));
        (901..=1000).for_each(|value| two.record(value));
        one.merge(&two);
        assert_eq!((one.len(), one.max()), (200, 1000));
        assert_eq!((one.percentile(0.25), one.percentile(0.5), one.percentile(1.0)), (50, 100, 1000));
        assert!((990..=1000).contains(&one.percentile(0.99)));
    }
}
