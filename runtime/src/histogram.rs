//! Durations in a fixed number of buckets, readable while it is written.
//!
//! Log-linear buckets as in HdrHistogram (G. Tene): every power of two is divided into 64 equal parts, so
//! a value is known to 1 part in 64 over the whole range, in 30 KiB and constant time. There is one writer,
//! the loop; any thread may read. Recording is one relaxed load and store: no lock, no system call, no
//! allocation.

use std::sync::atomic::{AtomicU64, Ordering};

/// Parts of a power of two, as a power of two.
const PART_BITS: u32 = 6;
const PARTS: usize = 1 << PART_BITS;
/// Buckets for every `u64`: the values below [`PARTS`] exactly, then 64 per power of two.
const BUCKETS: usize = (64 - PART_BITS as usize + 1) * PARTS;

/// A histogram of durations in ns.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64; BUCKETS]>,
    max_ns: AtomicU64,
    sum_ns: AtomicU64,
}

/// Adds without a read-modify-write: there is one writer.
fn add(counter: &AtomicU64, amount: u64) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(amount);
    counter.store(sum, Ordering::Relaxed);
}

impl Histogram {
    /// An empty histogram. Allocates its buckets, once.
    #[must_use]
    pub fn new() -> Self {
        Self {
            buckets: Box::new([const { AtomicU64::new(0) }; BUCKETS]),
            max_ns: AtomicU64::new(0),
            sum_ns: AtomicU64::new(0),
        }
    }

    /// Counts a duration. One thread only; does not allocate.
    #[inline]
    pub fn record(&self, value_ns: u64) {
        self.record_all([value_ns]);
    }

    /// Counts durations. One thread only; does not allocate.
    #[inline]
    pub fn record_all(&self, values_ns: impl IntoIterator<Item = u64>) {
        let (mut sum_ns, mut max_ns) = (0_u64, 0);
        for value_ns in values_ns {
            if let Some(bucket) = self.buckets.get(index_of(value_ns)) {
                add(bucket, 1);
            }
            sum_ns = sum_ns.wrapping_add(value_ns);
            max_ns = value_ns.max(max_ns);
        }
        add(&self.sum_ns, sum_ns);
        if max_ns > self.max_ns.load(Ordering::Relaxed) {
            self.max_ns.store(max_ns, Ordering::Relaxed);
        }
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        let counts = self.buckets.iter().map(|b| b.load(Ordering::Relaxed));
        counts.fold(0, u64::wrapping_add)
    }

    /// The longest, exactly; 0 if there is none.
    #[must_use]
    pub fn max_ns(&self) -> u64 {
        self.max_ns.load(Ordering::Relaxed)
    }

    /// The sum, exactly (modulo 2^64: 584 years).
    #[must_use]
    pub fn sum_ns(&self) -> u64 {
        self.sum_ns.load(Ordering::Relaxed)
    }

    /// The smallest duration that at least `millionths` of a million of the counted ones do not exceed,
    /// rounded up to the end of its bucket (but not beyond the maximum); 0 if there is none.
    ///
    /// `quantile_ns(990_000)` is the 99th percentile.
    #[must_use]
    pub fn quantile_ns(&self, millionths: u32) -> u64 {
        let count = self.count();
        let wanted = (u128::from(count) * u128::from(millionths)).div_ceil(1_000_000);
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX).max(1);
        let mut seen = 0_u64;
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen = seen.wrapping_add(bucket.load(Ordering::Relaxed));
            if seen >= wanted {
                return end_of(index).min(self.max_ns());
            }
        }
        self.max_ns()
    }

    /// For each of some ascending limits, how many durations certainly do not exceed it (those in buckets that
    /// end there or before); and how many were counted at all. All of one moment: no limit has more than a
    /// larger one, none more than all.
    #[must_use]
    pub fn counts_up_to<const N: usize>(&self, limits_ns: [u64; N]) -> ([u64; N], u64) {
        let (mut counts, mut seen) = ([0; N], 0_u64);
        for (index, bucket) in self.buckets.iter().enumerate() {
            seen = seen.wrapping_add(bucket.load(Ordering::Relaxed));
            for (count, limit_ns) in counts.iter_mut().zip(limits_ns) {
                if end_of(index) <= limit_ns {
                    *count = seen;
                }
            }
        }
        (counts, seen)
    }

    /// How many durations are certainly above a limit: those in buckets that begin above it.
    #[must_use]
    pub fn count_above(&self, limit_ns: u64) -> u64 {
        let above = self.buckets.iter().skip(index_of(limit_ns) + 1);
        above
            .map(|bucket| bucket.load(Ordering::Relaxed))
            .fold(0, u64::wrapping_add)
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// Bucket of a value.
const fn index_of(value_ns: u64) -> usize {
    if value_ns < PARTS as u64 {
        return value_ns as usize;
    }
    // The top PART_BITS + 1 bits: a one, and the part.
    let shift = value_ns.ilog2() - PART_BITS;
    let part = (value_ns >> shift) as usize - PARTS;
    (shift as usize + 1) * PARTS + part
}

/// Largest value of a bucket.
const fn end_of(index: usize) -> u64 {
    if index < PARTS {
        return index as u64;
    }
    let shift = (index / PARTS - 1) as u32;
    let start = ((PARTS + index % PARTS) as u64) << shift;
    start + ((1_u64 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_follow_each_other() {
        for index in 0..BUCKETS {
            assert_eq!(index_of(end_of(index)), index);
            if index + 1 < BUCKETS {
                assert_eq!(index_of(end_of(index) + 1), index + 1);
            }
        }
        assert_eq!(end_of(BUCKETS - 1), u64::MAX);
    }

    #[test]
    fn a_quantile_is_never_below_the_true_one_and_at_most_a_sixty_fourth_above() {
        let histogram = Histogram::new();
        let value = |rank: u64| rank * rank * 17 + 3;
        for rank in 1..=10_000 {
            histogram.record(value(rank));
        }
        for (millionths, rank) in [(1, 1), (500_000, 5_000), (990_000, 9_900), (999_900, 9_999)] {
            let (truth, found) = (value(rank), histogram.quantile_ns(millionths));
            assert!(
                found >= truth && found - truth <= truth / 64,
                "{millionths}"
            );
        }
        assert_eq!(histogram.quantile_ns(1_000_000), value(10_000));
        assert_eq!(histogram.max_ns(), value(10_000));
        assert_eq!(histogram.count(), 10_000);
    }

    #[test]
    fn an_empty_histogram_is_zero_everywhere() {
        let histogram = Histogram::new();
        assert_eq!(histogram.quantile_ns(990_000), 0);
        assert_eq!((histogram.count(), histogram.max_ns()), (0, 0));
    }

    #[test]
    fn count_above_counts_nothing_at_or_below_the_limit() {
        let histogram = Histogram::new();
        for value in [5, 64, 1_000, 1_000_000] {
            histogram.record(value);
        }
        assert_eq!(histogram.count_above(5), 3);
        assert_eq!(histogram.count_above(64), 2);
        assert_eq!(histogram.count_above(1_000_000), 0);
        assert_eq!(
            histogram.counts_up_to([4, 5, 999, 1_016, u64::MAX]),
            ([0, 1, 2, 3, 4], 4)
        );
    }
}
