//! Which minibatches of a profile count. Reads no clock and does no I/O: times are given.
//!
//! 1. **Settle**: the first minibatches are dropped (the very first pays for start-up), and all others
//!    until power has settled, detected and not slept, or until a bound.
//! 2. **Measure**: about 40 minibatches, and long enough for a median of the power samples; fewer, if
//!    they are slow.

use super::statistics::{Summary, summarize};
use crate::board::settle::Settling;
use fulcrum_plan::units::MilliWatt;
use std::time::Duration;

/// Bounds of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Minibatches that are dropped at least.
    pub warm_up_min: u16,
    /// Longest wait for power to settle; then it is measured as it is.
    pub settle_max: Duration,
    /// Minibatches that are wanted.
    pub minibatches: u16,
    /// Shortest time over which power is sampled.
    pub measure_min: Duration,
    /// After this, [`Limits::minibatches_min`] are enough.
    pub measure_max: Duration,
    /// Minibatches that a median needs.
    pub minibatches_min: u16,
}

impl Default for Limits {
    /// 40 minibatches (fulcrum.md section 7); the times are guesses: power settles in 2 to 3 s, and the
    /// slowest modes of an AGX Orin take some seconds for a minibatch.
    fn default() -> Self {
        Self {
            warm_up_min: 2,
            settle_max: Duration::from_secs(30),
            minibatches: 40,
            measure_min: Duration::from_secs(3),
            measure_max: Duration::from_secs(120),
            minibatches_min: 5,
        }
    }
}

/// A minibatch that was run.
#[derive(Clone, Copy, Debug)]
pub struct Minibatch<'a> {
    /// When it ended, since the first began.
    pub ended: Duration,
    /// How long it took.
    pub time_us: u32,
    /// Samples of the board's power since the minibatch before; `None` where a sensor was absent.
    pub power: &'a [Option<MilliWatt>],
}

/// Where a profile is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Minibatches are dropped.
    Settle,
    /// Minibatches count.
    Measure,
    /// There are enough.
    Done,
}

/// What the minibatches that counted say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Times in µs.
    pub time_us: Summary,
    /// Powers in mW; `None` if no sample could be read.
    pub power_mw: Option<Summary>,
    /// Minibatches that counted.
    pub minibatches: u16,
    /// Minibatches that were dropped.
    pub warm_up: u16,
    /// Whether power settled before the bound.
    pub settled: bool,
}

/// The minibatches of one profile so far.
#[derive(Debug)]
pub struct Course {
    limits: Limits,
    settling: Settling,
    phase: Phase,
    warm_up: u16,
    settled: bool,
    /// When measuring began.
    measured_from: Duration,
    last: Duration,
    times_us: Vec<u32>,
    powers_mw: Vec<u32>,
}

impl Course {
    /// Before the first minibatch.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            settling: Settling::default(),
            phase: Phase::Settle,
            warm_up: 0,
            settled: false,
            measured_from: Duration::ZERO,
            last: Duration::ZERO,
            times_us: Vec::new(),
            powers_mw: Vec::new(),
        }
    }

    /// Takes the next minibatch and says where the profile is after it.
    pub fn take(&mut self, minibatch: &Minibatch<'_>) -> Phase {
        self.last = minibatch.ended;
        match self.phase {
            Phase::Settle => self.settle(minibatch),
            Phase::Measure => self.measure(minibatch),
            Phase::Done => {}
        }
        self.phase
    }

    fn settle(&mut self, minibatch: &Minibatch<'_>) {
        self.warm_up = self.warm_up.saturating_add(1);
        for sample in minibatch.power {
            // Settled is a state, not an event: power that moves again has not settled.
            self.settled = self.settling.sample(*sample).is_some();
        }
        let is_warm = self.warm_up >= self.limits.warm_up_min;
        if is_warm && (self.settled || minibatch.ended >= self.limits.settle_max) {
            self.phase = Phase::Measure;
            self.measured_from = minibatch.ended;
        }
    }

    fn measure(&mut self, minibatch: &Minibatch<'_>) {
        self.times_us.push(minibatch.time_us);
        let samples = minibatch.power.iter().flatten();
        self.powers_mw.extend(samples.map(|power| power.0));
        let count = self.minibatches();
        let elapsed = minibatch.ended.saturating_sub(self.measured_from);
        let is_complete = count >= self.limits.minibatches && elapsed >= self.limits.measure_min;
        let is_slow = count >= self.limits.minibatches_min && elapsed >= self.limits.measure_max;
        if is_complete || is_slow || count == u16::MAX {
            self.phase = Phase::Done;
        }
    }

    /// Minibatches that count so far.
    #[must_use]
    pub fn minibatches(&self) -> u16 {
        u16::try_from(self.times_us.len()).unwrap_or(u16::MAX)
    }

    /// What the rest is expected to take, if minibatches go on taking `time_us`.
    #[must_use]
    pub fn left(&self, time_us: u32) -> Duration {
        let limits = &self.limits;
        let elapsed = self.last.saturating_sub(self.measured_from);
        let missing = limits.minibatches.saturating_sub(self.minibatches());
        let time = Duration::from_micros(time_us.into());
        let to_measure = (time * u32::from(missing))
            .max(limits.measure_min.saturating_sub(elapsed))
            .min(limits.measure_max.saturating_sub(elapsed).max(time));
        match self.phase {
            Phase::Settle => limits.settle_max.saturating_sub(elapsed) + to_measure,
            Phase::Measure => to_measure,
            Phase::Done => Duration::ZERO,
        }
    }

    /// What was found; `None` before a minibatch counted.
    #[must_use]
    pub fn finish(mut self) -> Option<Finding> {
        Some(Finding {
            minibatches: self.minibatches(),
            time_us: summarize(&mut self.times_us)?,
            power_mw: summarize(&mut self.powers_mw),
            warm_up: self.warm_up,
            settled: self.settled,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a course over minibatches of `time_ms`, with a power sample each 100 ms that `power` gives
    /// for its time in ms; returns the finding and the time it took.
    fn run(
        limits: Limits,
        time_ms: impl Fn(u64) -> u64,
        power: impl Fn(u64) -> Option<u32>,
    ) -> (Finding, u64) {
        let mut course = Course::new(limits);
        let (mut now_ms, mut sampled_ms) = (0, 0);
        for number in 0..1_000_000 {
            let time_ms = time_ms(number);
            now_ms += time_ms;
            let mut samples = Vec::new();
            while sampled_ms + 100 <= now_ms {
                sampled_ms += 100;
                samples.push(power(sampled_ms).map(MilliWatt));
            }
            let minibatch = Minibatch {
                ended: Duration::from_millis(now_ms),
                time_us: u32::try_from(time_ms * 1000).unwrap(),
                power: &samples,
            };
            if course.take(&minibatch) == Phase::Done {
                return (course.finish().unwrap(), now_ms);
            }
        }
        panic!("it never ends");
    }

    #[test]
    fn the_slow_first_minibatch_and_the_rise_of_power_are_dropped() {
        let rising = |ms: u64| {
            Some(if ms < 2_500 {
                9_000 + 8 * ms as u32
            } else {
                29_000
            })
        };
        let slow_first = |number| if number == 0 { 800 } else { 70 };
        let (finding, _) = run(Limits::default(), slow_first, rising);
        assert_eq!(
            (finding.time_us.median, finding.time_us.spread),
            (70_000, 0)
        );
        let power = finding.power_mw.unwrap();
        assert_eq!((power.median, power.spread), (29_000, 0));
        assert!(finding.settled);
        assert!(finding.minibatches >= 40, "{finding:?}");
    }

    #[test]
    fn fast_minibatches_go_on_until_power_was_sampled_long_enough() {
        let (finding, took_ms) = run(Limits::default(), |_| 1, |_| Some(5_000));
        assert!((5_000..6_000).contains(&took_ms), "{took_ms} ms");
        assert!(finding.minibatches >= 3_000, "{finding:?}");
    }

    #[test]
    fn slow_minibatches_end_at_the_bound_with_fewer() {
        let (finding, took_ms) = run(Limits::default(), |_| 10_000, |_| Some(5_000));
        assert!(took_ms <= 160_000, "{took_ms} ms");
        assert!((5..40).contains(&finding.minibatches), "{finding:?}");
    }

    #[test]
    fn power_that_never_settles_is_measured_after_the_bound_and_told() {
        let ramp = |ms: u64| Some(10_000 + ms as u32);
        let (finding, took_ms) = run(Limits::default(), |_| 50, ramp);
        assert!(!finding.settled);
        assert!((33_000..35_000).contains(&took_ms), "{took_ms} ms");
    }

    #[test]
    fn absent_power_is_absent_and_not_zero() {
        let (finding, _) = run(Limits::default(), |_| 50, |_| None);
        assert_eq!(finding.power_mw, None);
        let (finding, _) = run(
            Limits::default(),
            |_| 50,
            |ms| (ms % 400 != 0).then_some(7_000),
        );
        assert_eq!(finding.power_mw.unwrap().median, 7_000);
    }

    #[test]
    fn the_expected_rest_falls_to_zero() {
        let mut course = Course::new(Limits::default());
        let mut before = course.left(70_000);
        let mut ended = Duration::ZERO;
        loop {
            ended += Duration::from_millis(70);
            let minibatch = Minibatch {
                ended,
                time_us: 70_000,
                power: &[Some(MilliWatt(5_000))],
            };
            let phase = course.take(&minibatch);
            let left = course.left(70_000);
            assert!(left <= before, "{left:?} after {before:?}");
            before = left;
            if phase == Phase::Done {
                break;
            }
        }
        assert_eq!(before, Duration::ZERO);
    }
}
