//! What a row needs to be as good as the best combination so far.
//!
//! Told in times and in steps per window, so that a row is decided without a division.

use super::combination::Combination;
use super::slots::{InferSlot, StepSlot};
use crate::problem;
use crate::units::MilliRps;

/// What a row needs with a pair of slots to be as good as the best so far.
pub(super) struct Aim<'a> {
    pub(super) infer: &'a InferSlot<'a>,
    pub(super) step: &'a StepSlot<'a>,
    /// Steps per window to be even, which is enough with a latency that is not longer.
    even: u64,
    /// The longest inference minibatch whose latency is not longer; zero where no row can be even.
    time_even: u64,
    /// Steps per window to be ahead, whatever the latency.
    ahead: u64,
}

impl<'a> Aim<'a> {
    /// Without a best so far, a window has to hold a step.
    pub(super) fn new(
        infer: &'a InferSlot<'a>,
        step: &'a StepSlot<'a>,
        rate: MilliRps,
        best: Option<&Combination>,
    ) -> Self {
        let mut aim = Self {
            infer,
            step,
            even: 1,
            time_even: 0,
            ahead: 1,
        };
        if let Some(best) = best {
            let batch = infer.batch;
            (aim.even, aim.ahead) = best.throughput.steps_needed(batch, step.counts);
            // Only where the shortest times leave room for as much: that spares most pairs a division.
            if aim.even < aim.ahead && aim.holds(infer.time_min, aim.even, step.time_min) {
                aim.time_even = problem::time_of_latency(best.latency_scaled(rate), batch, rate);
            }
        }
        aim
    }

    /// Whether any row may be as good: one with the shortest times of both slots, whatever rows they are of.
    pub(super) fn is_in_reach(&self) -> bool {
        self.reached_by(self.infer.time_min, self.step.time_min)
    }

    /// Whether a row with these times is as good.
    pub(super) fn reached_by(&self, time_us: u64, step_us: u64) -> bool {
        let steps = if time_us > self.time_even {
            self.ahead
        } else {
            self.even
        };
        self.holds(time_us, steps, step_us)
    }

    /// Whether the window does.
    fn holds(&self, time_us: u64, steps: u64, step_us: u64) -> bool {
        // A product that saturates is beyond every window.
        time_us.saturating_add(steps.saturating_mul(step_us)) <= self.infer.window_us
    }

    /// The longest step of a row that is ahead.
    pub(super) fn step_max_ahead(&self) -> u64 {
        self.step_max(self.ahead)
    }

    /// The longest step of a row that is even.
    pub(super) fn step_max_even(&self) -> u64 {
        self.step_max(self.even)
    }

    /// The longest inference minibatch of a row that is even.
    pub(super) fn time_max_even(&self) -> u64 {
        let steps_us = self.even.saturating_mul(self.step.time_min);
        let left_us = self.infer.window_us.saturating_sub(steps_us);
        left_us.min(self.time_even)
    }

    /// Whether even rows are likely rarer among those of short steps than among those of short inference minibatches:
    /// which of the two limits is closer to the shortest time.
    pub(super) fn is_even_by_step(&self) -> bool {
        let (infer_min, step_min) = (self.infer.time_min, self.step.time_min);
        let time_max = self.time_max_even();
        // Where no inference minibatch is short enough, asking for them is over at once.
        time_max >= infer_min
            && self.step_max_even().saturating_mul(infer_min) < time_max.saturating_mul(step_min)
    }

    fn step_max(&self, steps: u64) -> u64 {
        let left_us = self.infer.window_us.saturating_sub(self.infer.time_min);
        left_us.checked_div(steps).unwrap_or(u64::MAX)
    }
}
