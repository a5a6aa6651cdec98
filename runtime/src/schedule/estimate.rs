//! How long a piece of work takes: the plan's word first, then what was measured, with its tail.

/// Samples of one block of the tail.
const BLOCK_SAMPLES: u32 = 128;
/// Longest life of a block: an outlier is forgotten after at most two blocks, also when nothing runs
/// any more because the outlier left no room for it.
const BLOCK_NS: u64 = 500_000_000;
/// The mean moves by one part in this many per sample.
const MEAN_SHARE: u64 = 16;
/// A tail is at least this share above the mean, until the samples say more.
const TAIL_SHARE: u64 = 8;

/// Mean and tail of a duration, in constant memory and time.
///
/// The tail is the second largest sample of a block of 128, the larger one of two blocks; so for samples that
/// come in no particular order the next one exceeds it with a probability below 1 in 64. It needs no
/// assumption about the distribution, which on a shared machine has none. Not the largest: a pause of the
/// whole machine, once in a hundred milliseconds, hits one of many short steps, and would hit the idle loop
/// just the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    mean_ns: u64,
    measured: bool,
    /// The largest two samples of the block, and the second largest of the block before.
    block_largest_ns: [u64; 2],
    block_before_ns: u64,
    block_samples: u32,
    block_end_ns: u64,
}

impl Estimate {
    /// Starts from what the plan promises, at a time.
    #[must_use]
    pub const fn planned(time_ns: u64, now_ns: u64) -> Self {
        Self {
            mean_ns: time_ns,
            measured: false,
            block_largest_ns: [0; 2],
            block_before_ns: 0,
            block_samples: 0,
            block_end_ns: now_ns.saturating_add(BLOCK_NS),
        }
    }

    /// Takes a measured duration into account.
    pub fn observe(&mut self, now_ns: u64, took_ns: u64) {
        self.age(now_ns);
        if self.measured {
            let (mean, took) = (self.mean_ns, took_ns);
            self.mean_ns = if took >= mean {
                mean.saturating_add(took.saturating_sub(mean).div_ceil(MEAN_SHARE))
            } else {
                mean.saturating_sub(mean.saturating_sub(took).div_ceil(MEAN_SHARE))
            };
        } else {
            self.mean_ns = took_ns;
            self.measured = true;
        }
        let [first, second] = self.block_largest_ns;
        self.block_largest_ns = [first.max(took_ns), second.max(first.min(took_ns))];
        self.block_samples = self.block_samples.saturating_add(1);
        if self.block_samples >= BLOCK_SAMPLES {
            self.rotate(now_ns);
        }
    }

    /// Forgets what is too old. Called by [`Estimate::observe`], and by the loop while nothing is observed.
    pub const fn age(&mut self, now_ns: u64) {
        if now_ns >= self.block_end_ns {
            self.rotate(now_ns);
        }
    }

    const fn rotate(&mut self, now_ns: u64) {
        [_, self.block_before_ns] = self.block_largest_ns;
        self.block_largest_ns = [0; 2];
        self.block_samples = 0;
        self.block_end_ns = now_ns.saturating_add(BLOCK_NS);
    }

    /// Typical duration.
    #[must_use]
    pub const fn mean_ns(&self) -> u64 {
        self.mean_ns
    }

    /// Duration to reckon with where being late costs.
    #[must_use]
    pub fn tail_ns(&self) -> u64 {
        let [_, second] = self.block_largest_ns;
        second
            .max(self.block_before_ns)
            .max(self.mean_ns.saturating_add(self.mean_ns / TAIL_SHARE))
    }

    /// Whether anything was measured yet.
    #[must_use]
    pub const fn is_measured(&self) -> bool {
        self.measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_holds_until_the_first_measurement() {
        let mut estimate = Estimate::planned(8_000, 0);
        assert_eq!((estimate.mean_ns(), estimate.tail_ns()), (8_000, 9_000));
        assert!(!estimate.is_measured());
        estimate.observe(1, 80);
        assert_eq!((estimate.mean_ns(), estimate.tail_ns()), (80, 90));
    }

    #[test]
    fn the_mean_follows_a_lasting_change_up_and_down() {
        let mut estimate = Estimate::planned(1_000, 0);
        for level in [1_000, 4_000, 500] {
            for _ in 0..200 {
                estimate.observe(0, level);
            }
            assert_eq!(estimate.mean_ns(), level);
        }
    }

    #[test]
    fn one_outlier_is_chance_and_two_count_for_one_to_two_blocks_of_samples() {
        let mut estimate = Estimate::planned(1_000, 0);
        estimate.observe(0, 1_000);
        estimate.observe(0, 50_000);
        assert!(estimate.tail_ns() < 10_000);
        estimate.observe(0, 50_000);
        let mut remembered = 0;
        while estimate.tail_ns() == 50_000 {
            estimate.observe(0, 1_000);
            remembered += 1;
        }
        assert!((BLOCK_SAMPLES..2 * BLOCK_SAMPLES).contains(&remembered));
    }

    #[test]
    fn an_outlier_that_leaves_no_room_for_samples_is_forgotten_with_time() {
        let mut estimate = Estimate::planned(1_000, 0);
        for _ in 0..100 {
            estimate.observe(0, 1_000);
        }
        estimate.observe(0, 900_000);
        estimate.observe(0, 900_000);
        estimate.age(BLOCK_NS);
        assert_eq!(estimate.tail_ns(), 900_000);
        estimate.age(2 * BLOCK_NS);
        assert!(estimate.tail_ns() < 200_000);
    }

    #[test]
    fn the_tail_is_exceeded_by_less_than_one_sample_in_sixty() {
        // A fixed permutation of 0..10_007: samples in no particular order.
        let mut estimate = Estimate::planned(1, 0);
        let mut above = 0;
        for index in 0..10_007_u64 {
            let sample = 1_000 + index * 4_001 % 10_007;
            above += u32::from(index > 256 && sample > estimate.tail_ns());
            estimate.observe(0, sample);
        }
        assert!(above < 10_007 / 60, "{above} of 10007");
    }
}
