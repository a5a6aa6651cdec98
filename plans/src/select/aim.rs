//! What a row needs to be as good as the best combination so far.
//!
//! Told in times and in steps per window, so that a row is decided without a division.

use super::combination::Combination;
use super::slots::{InferSlot, StepSlot};
use crate::problem::{self, Throughput};
use crate::table::BATCHES_MAX;
use crate::units::MilliRps;
use core::cmp::Ordering;
use heapless::Vec;

/// What a row needs with one slot of steps to be as good as the best so far.
#[derive(Default)]
pub(super) struct Aims<'a> {
    /// With each slot of the inference workload with which any row may be as good.
    pub(super) pairs: Vec<Aim<'a>, BATCHES_MAX>,
    /// The longest step of such a row.
    pub(super) step_max: u64,
}

impl<'a> Aims<'a> {
    /// Sets them by the best combination so far. Without one, a window has to hold a step at all.
    pub(super) fn set(
        &mut self,
        slots: &'a [InferSlot],
        step: &StepSlot,
        rate: MilliRps,
        best: Option<&Combination>,
    ) {
        self.pairs.clear();
        self.step_max = 0;
        for infer in slots {
            if let Some(aim) = Aim::new(infer, step, rate, best) {
                self.step_max = self.step_max.max(aim.step_max());
                // There are no more aims than slots.
                _ = self.pairs.push(aim);
            }
        }
    }
}

/// What a row needs in one pair of slots to be as good as the best so far.
pub(super) struct Aim<'a> {
    pub(super) infer: &'a InferSlot,
    /// Steps per window to be even, which is enough with a latency that is not longer, and to be ahead.
    steps: (u64, u64),
    /// The longest inference minibatch whose latency is not longer.
    time_even: u64,
}

impl<'a> Aim<'a> {
    /// `None` if no row can be as good.
    fn new(
        infer: &'a InferSlot,
        step: &StepSlot,
        rate: MilliRps,
        best: Option<&Combination>,
    ) -> Option<Self> {
        let mut aim = Self {
            infer,
            steps: (1, 1),
            time_even: 0,
        };
        if let Some(best) = best {
            if bound(infer, step, &best.throughput) == Ordering::Less {
                return None;
            }
            aim.steps = best.throughput.steps_needed(infer.batch, step.counts);
            if aim.steps.0 < aim.steps.1 {
                aim.time_even = problem::time_of_latency(best.latency_scaled, infer.batch, rate);
            }
        }
        aim.reached_by(infer.time_min, step.time_min).then_some(aim)
    }

    /// Steps that a window has to hold after an inference minibatch of this time.
    const fn steps_after(&self, time_us: u64) -> u64 {
        let (even, ahead) = self.steps;
        if time_us > self.time_even {
            ahead
        } else {
            even
        }
    }

    /// Whether a row with these times is as good.
    pub(super) fn reached_by(&self, time_us: u64, step_us: u64) -> bool {
        // A product that saturates is beyond every window.
        let steps_us = self.steps_after(time_us).saturating_mul(step_us);
        time_us.saturating_add(steps_us) <= self.infer.window_us
    }

    /// The longest step of a row that is as good.
    fn step_max(&self) -> u64 {
        let left_us = self.infer.window_us.saturating_sub(self.infer.time_min);
        let steps = self.steps_after(self.infer.time_min);
        left_us.checked_div(steps).unwrap_or(u64::MAX)
    }
}

/// Compares a throughput that the shortest times of two slots do not exceed with another.
fn bound(infer: &InferSlot, step: &StepSlot, other: &Throughput) -> Ordering {
    // Steps not rounded to whole ones; both sides times the step's time, which spares a division.
    Throughput {
        steps: infer.window_us.saturating_sub(infer.time_min),
        step_batch: step.counts,
        batch: infer.batch,
    }
    .compare(&Throughput {
        steps: other.steps.saturating_mul(step.time_min),
        ..*other
    })
}
