//! How long a piece of work takes: the plan's word first, then what was measured, with its tail.

use super::spread::Spread;

/// The mean moves by one part in this many per sample.
const MEAN_SHARE: u64 = 16;
/// A tail is at least this share above the mean, until [`SAMPLES_LEAST`] samples say more.
const TAIL_SHARE_UNKNOWN: u64 = 8;
/// A tail is at least this share above the mean: the noise of a quiet board.
const TAIL_SHARE: u64 = 32;
/// Samples that say something about a tail.
const SAMPLES_LEAST: u32 = 32;

/// Mean and tail of a duration, in constant memory and time.
///
/// The tail is the second largest sample of a block of 128, the larger one of two blocks; so for samples that
/// come in no particular order the next one exceeds it with a probability below 1 in 64. It needs no
/// assumption about the distribution, which on a shared machine has none.
///
/// But a *pause* of the whole machine comes with time, not with the work: it delays a batch just as much when
/// nothing runs before it, so it is no reason not to run a step. Samples that are as rare per unit of time as
/// pauses elsewhere (in the other kind of work, and in late wake-ups) are left out of the tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    mean_ns: u64,
    measured: bool,
    spread: Spread,
    tail_ns: u64,
    /// Whether the tail is to be worked out anew whatever happened elsewhere.
    stale: bool,
    /// Whether it depends on what happens elsewhere.
    asked: bool,
}

impl Estimate {
    /// Starts from what the plan promises, at a time.
    #[must_use]
    pub const fn planned(time_ns: u64, now_ns: u64) -> Self {
        Self {
            mean_ns: time_ns,
            measured: false,
            spread: Spread::new(now_ns),
            tail_ns: time_ns.saturating_add(time_ns / TAIL_SHARE_UNKNOWN),
            stale: false,
            asked: false,
        }
    }

    /// Takes a measured duration into account; the tail follows with [`Estimate::reckon`].
    pub(super) fn observe(&mut self, now_ns: u64, took_ns: u64) {
        if self.measured {
            let mean = self.mean_ns;
            // Twice the mean at most: one pause says nothing about what is typical.
            let took = took_ns.min(mean.saturating_mul(2));
            self.mean_ns = if took >= mean {
                mean.saturating_add(took.saturating_sub(mean).div_ceil(MEAN_SHARE))
            } else {
                mean.saturating_sub(mean.saturating_sub(took).div_ceil(MEAN_SHARE))
            };
        } else {
            self.mean_ns = took_ns;
            self.measured = true;
        }
        self.spread.observe(now_ns, took_ns, took_ns);
        self.stale = true;
    }

    /// Forgets what is too old; called while nothing is observed.
    pub(super) const fn age(&mut self, now_ns: u64) {
        self.spread.age(now_ns);
        self.stale = true;
    }

    /// Works the tail out anew, with the pauses that show in other work and in late wake-ups. Most of the time nothing is
    /// excused by them, and only what was observed of this work matters.
    pub(super) fn reckon(&mut self, [one, other]: [&Self; 2], waits: &Spread) {
        if !self.stale && !self.asked {
            return;
        }
        let slack_ns = if self.spread.samples() < SAMPLES_LEAST {
            self.mean_ns / TAIL_SHARE_UNKNOWN
        } else {
            self.mean_ns / TAIL_SHARE
        };
        let least_ns = self.mean_ns.saturating_add(slack_ns);
        let elsewhere = [
            (&one.spread, one.mean_ns),
            (&other.spread, other.mean_ns),
            (waits, 0),
        ];
        let (tail_ns, asked) = self.spread.tail_ns(self.mean_ns, &elsewhere);
        (self.stale, self.asked) = (false, asked);
        self.tail_ns = tail_ns.max(least_ns);
    }

    /// Typical duration.
    #[must_use]
    pub const fn mean_ns(&self) -> u64 {
        self.mean_ns
    }

    /// Duration to reckon with where being late costs.
    #[must_use]
    pub const fn tail_ns(&self) -> u64 {
        self.tail_ns
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

    const MS: u64 = 1_000_000;
    const NO_WAITS: Spread = Spread::new(0);

    /// Nothing else runs.
    fn observe(estimate: &mut Estimate, now_ns: u64, took_ns: u64) {
        estimate.observe(now_ns, took_ns);
        estimate.reckon([&Estimate::planned(1, 0); 2], &NO_WAITS);
    }

    #[test]
    fn the_plan_holds_until_the_first_measurement() {
        let mut estimate = Estimate::planned(8_000, 0);
        assert_eq!((estimate.mean_ns(), estimate.tail_ns()), (8_000, 9_000));
        assert!(!estimate.is_measured());
        observe(&mut estimate, 1, 80);
        assert_eq!((estimate.mean_ns(), estimate.tail_ns()), (80, 90));
    }

    #[test]
    fn the_mean_follows_a_lasting_change_up_and_down() {
        let mut estimate = Estimate::planned(1_000, 0);
        for level in [1_000, 4_000, 500] {
            for _ in 0..200 {
                observe(&mut estimate, 0, level);
            }
            assert_eq!(estimate.mean_ns(), level);
        }
    }

    #[test]
    fn one_outlier_is_chance_and_two_count_for_one_to_two_blocks_of_samples() {
        let mut estimate = Estimate::planned(1_000, 0);
        observe(&mut estimate, 0, 1_000);
        observe(&mut estimate, 0, 50_000);
        assert!(estimate.tail_ns() < 10_000);
        observe(&mut estimate, 0, 50_000);
        let mut remembered = 0;
        while estimate.tail_ns() == 50_000 {
            observe(&mut estimate, 0, 1_000);
            remembered += 1;
        }
        assert!((128..256).contains(&remembered), "{remembered}");
    }

    #[test]
    fn an_outlier_that_leaves_no_room_for_samples_is_forgotten_with_time() {
        let mut estimate = Estimate::planned(1_000, 0);
        for _ in 0..100 {
            observe(&mut estimate, 0, 1_000);
        }
        observe(&mut estimate, 0, 900_000);
        observe(&mut estimate, 0, 900_000);
        let mut after = |now_ns| {
            estimate.age(now_ns);
            estimate.reckon([&Estimate::planned(1, 0); 2], &NO_WAITS);
            estimate.tail_ns()
        };
        assert_eq!(after(500 * MS), 900_000);
        assert!(after(1_000 * MS) < 200_000);
    }

    #[test]
    fn the_tail_is_exceeded_by_less_than_one_sample_in_sixty() {
        // A fixed permutation of 0..10_007: samples in no particular order.
        let mut estimate = Estimate::planned(1, 0);
        let mut above = 0;
        for index in 0..10_007_u64 {
            let sample = 1_000 + index * 4_001 % 10_007;
            above += u32::from(index > 256 && sample > estimate.tail_ns());
            observe(&mut estimate, 0, sample);
        }
        assert!(above < 10_007 / 60, "{above} of 10007");
    }

    /// Steps of 0.2 ms and batches of 2 ms; every so often a sample is 4 ms longer.
    fn with_pauses(steps_every: u64, batches_every: u64) -> Estimate {
        let (mut step, mut batch) = (Estimate::planned(MS / 5, 0), Estimate::planned(2 * MS, 0));
        let mut now_ns = 0;
        for round in 1..=2_000_u64 {
            let paused = |every: u64| u64::from(every > 0 && round.is_multiple_of(every)) * 4 * MS;
            // The usual noise: a few per cent.
            let noise_ns = round * 7_919 % 10_007;
            let took_ns = MS / 5 + noise_ns + paused(steps_every);
            now_ns += took_ns;
            step.observe(now_ns, took_ns);
            if round.is_multiple_of(2) {
                let took_ns = 2 * MS + 10 * noise_ns + paused(batches_every);
                now_ns += took_ns;
                batch.observe(now_ns, took_ns);
            }
            step.reckon([&batch, &Estimate::planned(1, 0)], &NO_WAITS);
        }
        step
    }

    #[test]
    fn pauses_that_come_with_time_are_no_tail_of_a_step() {
        // Steps: one pause in 10 ms of their time. Batches, of which there are half as many: one in 20 ms.
        let step = with_pauses(50, 20);
        assert!(step.tail_ns() < MS / 4, "{}", step.tail_ns());
    }

    #[test]
    fn a_step_that_is_slow_by_itself_keeps_its_tail() {
        // Nothing else is ever paused; then pauses elsewhere that are far too rare to explain the steps'.
        for batches_every in [0, 600] {
            let step = with_pauses(25, batches_every);
            assert!(
                step.tail_ns() > 4 * MS,
                "{batches_every}: {}",
                step.tail_ns()
            );
        }
    }

    #[test]
    fn late_wake_ups_explain_pauses_too() {
        let mut step = Estimate::planned(MS / 5, 0);
        let mut waits = Spread::new(0);
        for round in 1..=2_000_u64 {
            let paused_ns = |every: u64| u64::from(round.is_multiple_of(every)) * 4 * MS;
            step.observe(round * MS, MS / 5 + paused_ns(40));
            let late_ns = 60_000 + paused_ns(20);
            waits.observe(round * MS, late_ns, MS / 2 + late_ns);
            step.reckon([&Estimate::planned(1, 0); 2], &waits);
        }
        assert!(step.tail_ns() < MS / 4, "{}", step.tail_ns());
    }

    #[test]
    fn a_spread_of_the_work_itself_excuses_nothing() {
        // Both vary by a third, as on a starved processor: neither is a pause of the other.
        let (mut step, mut batch) = (Estimate::planned(MS, 0), Estimate::planned(MS, 0));
        for round in 0..2_000_u64 {
            let at = |factor: u64| MS * 5 / 6 + round * factor % 1_009 * MS / 3_027;
            step.observe(round, at(401));
            batch.observe(round, at(577));
            step.reckon([&batch, &Estimate::planned(1, 0)], &NO_WAITS);
        }
        assert!(step.tail_ns() > MS * 8 / 7, "{}", step.tail_ns());
    }
}
