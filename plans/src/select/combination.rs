//! One row's combination of an inference batch and of what runs in its gaps.

use super::slots::{InferSlot, StepSlot};
use crate::problem::{self, Demand, Throughput};
use crate::table::Cell;
use crate::units::{MicroSec, MilliRps, MilliWatt};
use core::cmp::Ordering;

/// A combination that meets the demand, compared exactly.
#[derive(Clone, Copy)]
pub(super) struct Combination {
    pub(super) throughput: Throughput,
    pub(super) power_mw: MilliWatt,
    pub(super) row: usize,
    pub(super) step_batch: u16,
    pub(super) time_us: MicroSec,
    pub(super) step_time_us: MicroSec,
}

impl Combination {
    /// A row's combination of two slots; `None` if it does not meet the demand.
    pub(super) fn new(
        row: usize,
        (infer, infer_cell): (&InferSlot<'_>, &Cell),
        (step, step_cell): (&StepSlot<'_>, &Cell),
        demand: &Demand,
    ) -> Option<Self> {
        let (time_us, step_time_us) = (infer_cell.time_us, step_cell.time_us);
        let power_mw = problem::interleaved_power(infer_cell.power_mw, step_cell.power_mw);
        if u64::from(time_us.0) > infer.time_max || power_mw > demand.power_mw {
            return None;
        }
        Some(Self {
            throughput: Throughput {
                steps: problem::steps_in_window(infer.window_us, time_us, step_time_us)?,
                step_batch: step.counts,
                batch: infer.batch,
            },
            power_mw,
            row,
            step_batch: step.batch,
            time_us,
            step_time_us,
        })
    }

    /// Takes the place of the best so far if it is better, and whether it is.
    pub(super) fn improve(self, best: &mut Option<Self>, rate: MilliRps) -> bool {
        let is_better = best.as_ref().is_none_or(|best| self.is_better(best, rate));
        if is_better {
            *best = Some(self);
        }
        is_better
    }

    pub(super) fn is_better(&self, other: &Self, rate: MilliRps) -> bool {
        let latency = |it: &Self| it.latency_scaled(rate);
        // The last tie-break: where in the plan it stands.
        let place = |it: &Self| (it.row, it.throughput.batch, it.step_batch);
        self.throughput
            .compare(&other.throughput)
            .reverse()
            .then_with(|| latency(self).cmp(&latency(other)))
            .then_with(|| self.power_mw.cmp(&other.power_mw))
            .then_with(|| place(self).cmp(&place(other)))
            == Ordering::Less
    }

    /// See [`problem::latency_scaled`].
    pub(super) fn latency_scaled(&self, rate: MilliRps) -> u64 {
        problem::latency_scaled(self.throughput.batch, rate, self.time_us)
    }
}
