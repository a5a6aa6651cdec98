//! A batch size of the inference workload with one of what runs in its gaps.

use super::combination::Combination;
use super::slots::{InferSlot, StepSlot};
use crate::problem::{self, Throughput};
use crate::table::BATCHES_MAX;
use crate::units::MilliRps;
use core::cmp::Ordering;
use heapless::Vec;

/// Most pairs of slots.
pub(super) const PAIRS_MAX: usize = BATCHES_MAX * BATCHES_MAX;

/// A pair of slots.
pub(super) struct Pair<'a> {
    pub(super) infer: &'a InferSlot<'a>,
    pub(super) step: &'a StepSlot<'a>,
    /// With the shortest times of both, whatever row they are of: no row does more.
    pub(super) ideal: Throughput,
}

impl<'a> Pair<'a> {
    /// `None` if not even the shortest step fits behind the shortest inference minibatch.
    pub(super) fn new(infer: &'a InferSlot<'a>, step: &'a StepSlot<'a>) -> Option<Self> {
        let left_us = infer.window_us.checked_sub(infer.time_min)?;
        let steps = left_us.checked_div(step.time_min)?;
        let ideal = Throughput {
            steps,
            step_batch: step.counts,
            batch: infer.batch,
        };
        (steps > 0).then_some(Self { infer, step, ideal })
    }

    /// Whether every row is worse with it.
    pub(super) fn is_behind(&self, best: &Combination, rate: MilliRps) -> bool {
        match self.ideal.compare(&best.throughput) {
            Ordering::Less => true,
            Ordering::Equal => {
                let shortest = self.infer.cells.fastest.time_us;
                problem::latency_scaled(self.infer.batch, rate, shortest) > best.latency_scaled
            }
            Ordering::Greater => false,
        }
    }

    /// Takes the pair that may do most, of those the last.
    pub(super) fn take_first(pairs: &mut Vec<Self, PAIRS_MAX>) -> Option<Self> {
        let order = |(_, one): &(usize, &Self), (_, other): &(usize, &Self)| {
            one.ideal.compare(&other.ideal)
        };
        let (first, _) = pairs.iter().enumerate().max_by(order)?;
        let last = pairs.pop()?;
        Some(match pairs.get_mut(first) {
            Some(place) => core::mem::replace(place, last),
            None => last,
        })
    }
}
