//! The optimization problem's formulas, here and nowhere else (invariant I4).
//!
//! With a batch of `b` requests that arrive at rate `a`, an inference minibatch that takes `t_in` and
//! a training minibatch that takes `t_tr` (Fulcrum paper, problem formulation; the draft's power model):
//!
//! | quantity | formula |
//! |---|---|
//! | window | `w = b / a` |
//! | peak latency | `L = w + t_in`: the first request of a batch waits for the whole batch |
//! | sustain condition | `t_in * a <= b`, else the queue grows without bound |
//! | power while interleaving | `max(P_tr, P_in)` |
//! | training minibatches per window | `k = floor((w - t_in) / t_tr)` |
//! | training throughput | `theta = k / w`, in minibatches per second |
//!
//! The window is a rational number of microseconds, `b * 10^9 / rate` with the rate in thousandths of
//! a request per second. Nothing is rounded before it is compared: every condition is multiplied out
//! and decided exactly in integers. Where a number is handed out it is rounded against ourselves:
//! latency up, `k` down.

use crate::units::{MicroSec, MilliRps, MilliWatt};
use core::cmp::Ordering;

/// Microseconds per second times the thousandths in a rate: `b * SCALE / rate` is a window in µs.
const SCALE: u64 = 1_000_000_000;

/// What a user asks of the board while it serves requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Power budget.
    pub power_mw: MilliWatt,
    /// Latency budget, from arrival to answer.
    pub latency_us: MicroSec,
    /// Arrival rate.
    pub rate: MilliRps,
}

/// `rate * window` in units of `10^-9` requests: `b * 10^9`. At most 6.6e13.
const fn window_scaled(batch: u16) -> u64 {
    (batch as u64).saturating_mul(SCALE)
}

/// `time * rate` in the same unit. At most 1.9e19, which is below 2^64.
const fn busy_scaled(time: MicroSec, rate: MilliRps) -> u64 {
    (time.0 as u64).saturating_mul(rate.0 as u64)
}

/// Peak latency `b / a + t_in` in µs, rounded up; `None` for a rate of zero.
///
/// Rounding up decides nothing: with integer `t_in` and budget, `b/a + t_in <= L` holds exactly when
/// it holds for `ceil(b/a)`.
#[must_use]
pub const fn peak_latency_us(batch: u16, rate: MilliRps, time_infer: MicroSec) -> Option<u64> {
    if rate.0 == 0 {
        return None;
    }
    let window_us = window_scaled(batch).div_ceil(rate.0 as u64);
    Some(window_us.saturating_add(time_infer.0 as u64))
}

/// Exact peak latency times the rate, `b * 10^9 + t_in * rate`: compares latencies at one rate.
#[must_use]
pub const fn latency_scaled(batch: u16, rate: MilliRps, time_infer: MicroSec) -> u64 {
    window_scaled(batch).saturating_add(busy_scaled(time_infer, rate))
}

/// The longest inference minibatch whose latency is at most one that [`latency_scaled`] told for the same rate, in µs,
/// rounded down; zero if the window alone takes longer, or for a rate of zero.
#[must_use]
pub const fn time_of_latency(latency_scaled: u64, batch: u16, rate: MilliRps) -> u64 {
    let left = latency_scaled.saturating_sub(window_scaled(batch));
    match left.checked_div(rate.0 as u64) {
        Some(time_us) => time_us,
        None => 0,
    }
}

/// Whether the peak latency is within a budget: `b / a + t_in <= L`, exactly.
#[must_use]
pub const fn meets_latency(
    batch: u16,
    rate: MilliRps,
    time_infer: MicroSec,
    budget: MicroSec,
) -> bool {
    // A sum that saturates is beyond every budget: `L * rate` is below 2^64 - 2^33.
    rate.0 > 0 && latency_scaled(batch, rate, time_infer) <= busy_scaled(budget, rate)
}

/// The sustain condition `t_in * a <= b`: batches are served at least as fast as they arrive.
#[must_use]
pub const fn sustains(batch: u16, rate: MilliRps, time_infer: MicroSec) -> bool {
    busy_scaled(time_infer, rate) <= window_scaled(batch)
}

/// Power while two workloads take turns: the larger of the two. Times add up, power does not.
#[must_use]
pub fn interleaved_power(one: MilliWatt, other: MilliWatt) -> MilliWatt {
    one.max(other)
}

/// The window `b / a` in µs, rounded down; `None` for a rate of zero. With times in whole µs it holds as many steps
/// as the exact one.
#[must_use]
pub const fn window_us(batch: u16, rate: MilliRps) -> Option<u64> {
    window_scaled(batch).checked_div(rate.0 as u64)
}

/// The longest inference minibatch that meets both the latency budget and the sustain condition, so
/// that a scan decides each cell with one comparison: `t_in <= min(b/a, L - b/a)`, rounded down.
///
/// `None` if no time meets them (the window alone is longer than the latency budget), or for a rate
/// of zero.
#[must_use]
pub const fn time_infer_max(batch: u16, demand: &Demand) -> Option<u64> {
    // The window is rounded up where it is taken off: no whole time fits into what rounding down would leave.
    let (Some(window_us), Some(up_us)) = (
        window_us(batch, demand.rate),
        peak_latency_us(batch, demand.rate, MicroSec(0)),
    ) else {
        return None;
    };
    match (demand.latency_us.0 as u64).checked_sub(up_us) {
        Some(left_us) if left_us < window_us => Some(left_us),
        Some(_) => Some(window_us),
        None => None,
    }
}

/// How many background minibatches (training steps, or non-urgent inference batches) of `time_step`
/// fit in a window after its inference minibatch: `floor((b/a - t_in) / t_step)`.
///
/// `None` if the sustain condition fails, or for a rate or a step of zero.
#[must_use]
pub const fn steps_per_window(
    batch: u16,
    rate: MilliRps,
    time_infer: MicroSec,
    time_step: MicroSec,
) -> Option<u64> {
    let Some(slack) = window_scaled(batch).checked_sub(busy_scaled(time_infer, rate)) else {
        return None;
    };
    slack.checked_div(busy_scaled(time_step, rate))
}

/// [`steps_per_window`] of a window that [`window_us`] told, which a scan reckons once for many.
#[must_use]
pub const fn steps_in_window(
    window_us: u64,
    time_infer: MicroSec,
    time_step: MicroSec,
) -> Option<u64> {
    let Some(slack_us) = window_us.checked_sub(time_infer.0 as u64) else {
        return None;
    };
    slack_us.checked_div(time_step.0 as u64)
}

/// Background throughput of one answer: `steps` minibatches of `step_batch` samples in every window of
/// `batch` requests. At a given rate the throughput is proportional to `steps * step_batch / batch`,
/// and that fraction is compared exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Throughput {
    /// Background minibatches per window.
    pub steps: u64,
    /// Samples of a background minibatch; 1 to count minibatches.
    pub step_batch: u16,
    /// Requests per window; not zero.
    pub batch: u16,
}

impl Throughput {
    /// Compares two throughputs at the same rate.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        // 64 bits by 32 bits: nothing wraps.
        let times = |steps: u64, step_batch: u16, batch: u16| {
            let per_step = u32::from(step_batch).wrapping_mul(u32::from(batch));
            u128::from(steps).wrapping_mul(u128::from(per_step))
        };
        let ours = times(self.steps, self.step_batch, other.batch);
        let theirs = times(other.steps, other.step_batch, self.batch);
        ours.cmp(&theirs)
    }

    /// Fewest steps of `step_batch` units in a window of `batch` requests that are no less than this throughput, and
    /// fewest that are more. Never above that, also where a product saturates. Saves a scan the division of
    /// [`steps_per_window`].
    #[must_use]
    pub fn steps_needed(&self, batch: u16, step_batch: u16) -> (u64, u64) {
        let units = self.steps.saturating_mul(u64::from(self.step_batch));
        let needed = units.saturating_mul(u64::from(batch));
        let per_step = u64::from(self.batch).saturating_mul(u64::from(step_batch));
        let (Some(whole), Some(rest)) =
            (needed.checked_div(per_step), needed.checked_rem(per_step))
        else {
            return (0, 0);
        };
        let more = whole.saturating_add(1);
        (if rest == 0 { whole } else { more }, more)
    }

    /// In units (minibatches, or samples) per second at a rate.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "for display: 53 bits are plenty"
    )]
    pub fn per_second(&self, rate: MilliRps) -> f64 {
        let units = self.steps as f64 * f64::from(self.step_batch);
        units * f64::from(rate.0) / 1e3 / f64::from(self.batch)
    }
}

/// Training throughput when nothing else runs: minibatches per second.
#[must_use]
pub fn train_per_second(time_train: MicroSec) -> f64 {
    1e6 / f64::from(time_train.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE_60: MilliRps = MilliRps(60_000);

    #[test]
    fn the_worked_example_of_the_format_document() {
        // 32 requests at 60/s arrive in 533.33 ms.
        assert_eq!(
            peak_latency_us(32, RATE_60, MicroSec(46_000)),
            Some(579_334)
        );
        assert!(sustains(32, RATE_60, MicroSec(533_333)));
        assert!(!sustains(32, RATE_60, MicroSec(533_334)));
        // (533.33 - 46) / 70 = 6.96
        assert_eq!(
            steps_per_window(32, RATE_60, MicroSec(46_000), MicroSec(70_000)),
            Some(6)
        );
        assert_eq!(
            steps_per_window(32, RATE_60, MicroSec(600_000), MicroSec(70_000)),
            None
        );
    }

    #[test]
    fn an_exact_fit_counts_and_one_microsecond_more_does_not() {
        let rate = MilliRps(100_000);
        let window = MicroSec(40_000); // 4 requests at 100/s
        assert!(sustains(4, rate, window));
        assert_eq!(steps_per_window(4, rate, window, MicroSec(1)), Some(0));
        assert_eq!(
            steps_per_window(4, rate, MicroSec(10_000), MicroSec(10_000)),
            Some(3)
        );
        assert_eq!(
            steps_per_window(4, rate, MicroSec(10_001), MicroSec(10_000)),
            Some(2)
        );
        assert!(!sustains(4, rate, MicroSec(40_001)));
    }

    #[test]
    fn the_longest_time_is_where_both_conditions_end() {
        for batch in [1, 3, 16, 64, u16::MAX] {
            for rate in [1, 333, 60_000, 999_999, u32::MAX].map(MilliRps) {
                for latency in [1, 9_999, 500_000, 70_000_000, u32::MAX].map(MicroSec) {
                    let demand = Demand {
                        power_mw: MilliWatt(0),
                        latency_us: latency,
                        rate,
                    };
                    let fits = |time: u64| match u32::try_from(time).map(MicroSec) {
                        Ok(time) => {
                            meets_latency(batch, rate, time, latency) && sustains(batch, rate, time)
                        }
                        Err(_) => true,
                    };
                    match time_infer_max(batch, &demand) {
                        None => assert!(!fits(0), "{batch} {rate} {latency}"),
                        Some(time) => {
                            assert!(fits(time), "{batch} {rate} {latency}: {time}");
                            let beyond = time + 1;
                            assert!(!fits(beyond) || beyond > u64::from(u32::MAX));
                        }
                    }
                }
            }
        }
        let still = Demand {
            power_mw: MilliWatt(0),
            latency_us: MicroSec(1),
            rate: MilliRps(0),
        };
        assert_eq!(time_infer_max(1, &still), None);
    }

    #[test]
    fn what_a_throughput_asks_of_another_window_is_exact() {
        let throughput = |steps, step_batch, batch| Throughput {
            steps,
            step_batch,
            batch,
        };
        for (steps, best_step_batch, best_batch) in [(0, 1, 4), (5, 1, 16), (900, 1, 1), (30, 4, 5)]
        {
            let best = throughput(steps, best_step_batch, best_batch);
            for (batch, step_batch) in [(1, 1), (16, 3), (32, 16), (65_535, 64)] {
                let (even, more) = best.steps_needed(batch, step_batch);
                let with = |steps| throughput(steps, step_batch, batch).compare(&best);
                assert_ne!(with(even), Ordering::Less);
                assert!(even == 0 || with(even - 1) == Ordering::Less);
                assert_eq!(with(more), Ordering::Greater);
                assert_ne!(with(more - 1), Ordering::Greater);
            }
        }
    }

    #[test]
    fn a_window_in_whole_microseconds_holds_as_many_steps() {
        for batch in [1, 3, 64, u16::MAX] {
            for rate in [1, 333, 60_000, 999_999, u32::MAX].map(MilliRps) {
                let window_us = window_us(batch, rate).unwrap();
                for infer in [0, 700, 46_000].map(MicroSec) {
                    for step in [0, 1, 999, 70_000].map(MicroSec) {
                        let exact = steps_per_window(batch, rate, infer, step);
                        assert_eq!(steps_in_window(window_us, infer, step), exact);
                    }
                }
            }
        }
    }

    #[test]
    fn the_longest_time_of_a_latency_is_exact() {
        for (batch, other) in [(1, 1), (4, 16), (16, 4), (32, 64)] {
            for time in [0, 1, 46_000].map(MicroSec) {
                let latency = latency_scaled(other, RATE_60, time);
                let longest = time_of_latency(latency, batch, RATE_60);
                let longest = MicroSec(u32::try_from(longest).unwrap());
                let beyond = MicroSec(longest.0 + 1);
                let possible = batch <= other;
                assert_eq!(latency_scaled(batch, RATE_60, longest) <= latency, possible);
                assert!(latency_scaled(batch, RATE_60, beyond) > latency);
            }
        }
    }

    #[test]
    fn zero_rates_and_steps_have_no_answer() {
        assert_eq!(peak_latency_us(1, MilliRps(0), MicroSec(1)), None);
        assert_eq!(
            steps_per_window(1, MilliRps(0), MicroSec(1), MicroSec(1)),
            None
        );
        assert_eq!(steps_per_window(1, RATE_60, MicroSec(1), MicroSec(0)), None);
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let (time, rate) = (MicroSec(u32::MAX), MilliRps(u32::MAX));
        assert!(!sustains(u16::MAX, rate, time));
        assert_eq!(steps_per_window(u16::MAX, rate, time, time), None);
        assert!(peak_latency_us(u16::MAX, MilliRps(1), time).is_some());
    }

    #[test]
    fn throughput_compares_as_a_fraction() {
        let rate = |steps, batch| Throughput {
            steps,
            step_batch: 1,
            batch,
        };
        assert_eq!(rate(1, 4).compare(&rate(4, 16)), Ordering::Equal);
        assert_eq!(rate(5, 16).compare(&rate(1, 4)), Ordering::Greater);
        assert!((rate(6, 32).per_second(RATE_60) - 11.25).abs() < 1e-12);
    }
}
