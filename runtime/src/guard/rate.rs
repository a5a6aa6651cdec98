//! The arrival rate, estimated in constant memory.

use fulcrum_plan::units::{MicroSec, MilliRps};

/// The estimate moves by one part in this many per control period.
const SHARE: u64 = 8;
/// A rate that differs by less than this many thousandths is the same.
const HYSTERESIS_PER_MILLE: u64 = 150;
/// Room for growth in a newly adopted rate, in thousandths.
const HEADROOM_PER_MILLE: u64 = 100;
/// Standard deviations of the estimate that count as chance.
const SIGMA: u64 = 4;
/// A rate below this share of the one asked for is taken for it: nothing arrives, and no row is better.
const LEAST_SHARE: u64 = 100;
/// So is one of fewer requests per latency budget: the plan reckons with a window of one request, half of the budget
/// then, and knows no row for a window that is longer than all of it.
const LEAST_PER_BUDGET: u64 = 2;
/// Microseconds per second times the thousandths in a rate.
const RATE_SCALE: u64 = 1_000_000_000;
/// A rate that was there may come back at once: it is reckoned with for one to two times so many control
/// periods, which is five to ten minutes. A guess; a lower one costs requests whenever traffic comes in waves.
const HELD_PERIODS: u32 = 300;

/// A rate that is assumed, and one that is observed.
#[derive(Clone, Copy, Debug)]
pub(super) struct RateEstimate {
    least_milli: u64,
    assumed_milli: u64,
    observed_milli: u64,
    /// In the last control period alone.
    latest_milli: u64,
    /// Highest observed one of these control periods, and of the [`HELD_PERIODS`] before.
    highest_milli: [u64; 2],
    periods: u32,
    arrived: u64,
}

impl RateEstimate {
    /// Assumes the rate that was asked for at a latency budget.
    pub(super) fn new(asked: MilliRps, budget: MicroSec) -> Self {
        let asked_milli = u64::from(asked.0);
        let per_budget = LEAST_PER_BUDGET
            .saturating_mul(RATE_SCALE)
            .checked_div(budget.0.into());
        let least_milli = per_budget.map_or(0, |least_milli| least_milli.min(asked_milli));
        Self {
            least_milli: least_milli.max(asked_milli / LEAST_SHARE).max(1),
            assumed_milli: asked_milli,
            observed_milli: asked_milli,
            latest_milli: asked_milli,
            highest_milli: [0; 2],
            periods: 0,
            arrived: 0,
        }
    }

    pub(super) const fn assumed(&self) -> MilliRps {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "`adopt` keeps it in the range of a u32"
        )]
        MilliRps(self.assumed_milli as u32)
    }

    /// Takes the requests that arrived so far into account.
    pub(super) fn observe(&mut self, arrived: u64, elapsed_ns: u64) {
        let new = arrived.saturating_sub(self.arrived);
        self.arrived = arrived;
        let scaled = u128::from(new).saturating_mul(1_000_000_000_000);
        let Some(rate) = scaled.checked_div(u128::from(elapsed_ns)) else {
            return;
        };
        let rate_milli = u64::try_from(rate).unwrap_or(u64::MAX).min(u32::MAX.into());
        self.latest_milli = rate_milli;
        let kept = self.observed_milli.saturating_mul(SHARE.saturating_sub(1));
        self.observed_milli = kept.saturating_add(rate_milli) / SHARE;
        let [highest, before] = self.highest_milli;
        self.highest_milli = [highest.max(self.observed_milli), before];
        self.periods = self.periods.saturating_add(1);
        if self.periods >= HELD_PERIODS {
            self.periods = 0;
            self.highest_milli = [self.observed_milli, highest];
        }
    }

    /// The rate to reckon with: the highest of the last minutes.
    fn expected_milli(&self) -> u64 {
        let [highest, before] = self.highest_milli;
        highest.max(before)
    }

    const fn with_headroom(rate_milli: u64) -> u64 {
        let headroom = rate_milli.saturating_mul(HEADROOM_PER_MILLE) / 1_000;
        rate_milli.saturating_add(headroom)
    }

    /// Requests are late: assumes the rate of the last period at once, if it is higher.
    pub(super) fn jump(&mut self) -> bool {
        let target = Self::with_headroom(self.latest_milli).min(u32::MAX.into());
        let moves = target > self.assumed_milli;
        if moves {
            self.assumed_milli = target;
            let [highest, before] = self.highest_milli;
            self.highest_milli = [highest.max(self.latest_milli), before];
        }
        moves
    }

    /// Assumes what is observed, if the two differ by more than hysteresis and chance explain.
    pub(super) fn adopt(&mut self) -> bool {
        let target = Self::with_headroom(self.expected_milli());
        let target = target.max(self.least_milli).min(u32::MAX.into());
        // Of a Poisson count per second, smoothed by 1/8: variance rate / 15.
        let deviation = (self.assumed_milli.saturating_mul(1_000) / 15).isqrt();
        let chance = deviation.saturating_mul(SIGMA);
        let hysteresis = self.assumed_milli.saturating_mul(HYSTERESIS_PER_MILLE) / 1_000;
        // A rate that was asked for has no headroom in it: compare what is observed.
        let observed = self.expected_milli().max(self.least_milli);
        let differs = observed.abs_diff(self.assumed_milli) > hysteresis.saturating_add(chance);
        let moves = differs && target != self.assumed_milli;
        if moves {
            self.assumed_milli = target;
        }
        moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrivals::{Arrivals, Process};

    const SECOND_NS: u64 = 1_000_000_000;
    const BUDGET: MicroSec = MicroSec(500_000);

    /// Counts per second of an arrival process.
    fn observe_for(estimate: &mut RateEstimate, process: Process, rate: u32, seed: u64) -> u32 {
        let mut arrivals = Arrivals::new(process, MilliRps(rate), seed, 0)
            .unwrap()
            .peekable();
        let (mut arrived, mut adopted) = (estimate.arrived, 0);
        // What came before is remembered for ten minutes.
        for second in 1..=900 {
            while arrivals
                .next_if(|at_ns| *at_ns < second * SECOND_NS)
                .is_some()
            {
                arrived += 1;
            }
            estimate.observe(arrived, SECOND_NS);
            adopted += u32::from(estimate.adopt());
        }
        adopted
    }

    #[test]
    fn chance_alone_moves_nothing() {
        for rate in [2_000, 60_000, 1_000_000] {
            for seed in 0..20 {
                let mut estimate = RateEstimate::new(MilliRps(rate), BUDGET);
                let adopted = observe_for(&mut estimate, Process::Poisson, rate, seed);
                assert_eq!(adopted, 0, "rate {rate}, seed {seed}");
            }
        }
    }

    #[test]
    fn a_lasting_change_is_followed_and_then_kept() {
        for (from, to) in [(60_000, 120_000), (60_000, 20_000)] {
            let mut estimate = RateEstimate::new(MilliRps(from), BUDGET);
            let adopted = observe_for(&mut estimate, Process::Constant, to, 1);
            assert!((1..=6).contains(&adopted), "{adopted} changes");
            let found = estimate.assumed().0;
            assert!(found >= to && found <= to + to / 4, "{found}");
        }
    }

    #[test]
    fn a_rate_that_comes_in_waves_is_kept_through_the_silence() {
        let mut estimate = RateEstimate::new(MilliRps(60_000), BUDGET);
        let mut arrived = 0;
        let mut adopted = 0;
        for second in 0..3_600 {
            arrived += if second % 60 < 30 { 120 } else { 0 };
            estimate.observe(arrived, SECOND_NS);
            adopted += u32::from(estimate.adopt());
        }
        assert!(adopted <= 4, "{adopted} changes");
        assert!(estimate.assumed().0 >= 120_000);
    }

    #[test]
    fn when_requests_are_late_the_last_period_counts_at_once() {
        let mut estimate = RateEstimate::new(MilliRps(60_000), BUDGET);
        estimate.observe(60, SECOND_NS);
        assert!(!estimate.jump() || estimate.assumed().0 == 66_000);
        estimate.observe(260, SECOND_NS);
        assert!(estimate.jump());
        assert_eq!(estimate.assumed(), MilliRps(220_000));
        assert!(!estimate.jump(), "once");
    }

    #[test]
    fn silence_never_becomes_a_rate_of_zero() {
        let mut estimate = RateEstimate::new(MilliRps(60_000), BUDGET);
        for _ in 0..1_000 {
            estimate.observe(0, SECOND_NS);
            let _ = estimate.adopt();
        }
        assert_eq!(estimate.assumed(), MilliRps(4_000), "two in a budget");
        estimate.observe(5, 0);
    }
}
