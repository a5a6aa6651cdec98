//! The slots of a pair of workloads, with the shortest time of each.

use super::column::Within;
use super::{Selector, train_batch};
use crate::problem::{self, Demand};
use crate::table::BATCHES_MAX;
use crate::units::MilliWatt;
use heapless::Vec;

/// What runs between two inference batches.
#[derive(Clone, Copy)]
pub(super) enum Gap {
    /// Training.
    Train,
    /// An inference workload of the plan, by index.
    Infer(usize),
}

/// A slot of the inference workload that some row can serve in time.
pub(super) struct InferSlot<'a> {
    pub(super) slot: usize,
    pub(super) batch: u16,
    pub(super) window_us: u64,
    /// The longest time that meets latency and rate.
    pub(super) time_max: u64,
    /// The shortest time of any row.
    pub(super) time_min: u64,
    /// Its cells within the power budget.
    pub(super) cells: Within<'a>,
}

/// A slot of what runs in the gaps.
pub(super) struct StepSlot<'a> {
    pub(super) slot: usize,
    pub(super) batch: u16,
    /// What a step counts: 1 (minibatches of training), or its samples (inference, whose batch size
    /// is free).
    pub(super) counts: u16,
    /// The shortest time of any row.
    pub(super) time_min: u64,
    /// Its cells within the power budget.
    pub(super) cells: Within<'a>,
}

/// Adds the slots of the inference workload.
pub(super) fn infer_slots<'a>(
    selector: &'a Selector<'_>,
    workload: usize,
    demand: &Demand,
    slots: &mut Vec<InferSlot<'a>, BATCHES_MAX>,
) {
    for (slot, batch) in selector.plan.slots_infer(workload) {
        let time_max = problem::time_infer_max(batch, demand);
        let window_us = problem::window_us(batch, demand.rate);
        let Some((time_max, window_us)) = time_max.zip(window_us) else {
            // Batches ascend: from the first one whose window is longer than the latency budget, all are.
            break;
        };
        let Some(cells) = selector.within(slot, demand.power_mw) else {
            continue;
        };
        let time_min = u64::from(cells.time_min.0);
        if time_min <= time_max {
            // There are no more slots than batch sizes.
            _ = slots.push(InferSlot {
                slot,
                batch,
                window_us,
                time_max,
                time_min,
                cells,
            });
        }
    }
}

/// Adds the slots of what runs in the gaps.
pub(super) fn step_slots<'a>(
    selector: &'a Selector<'_>,
    gap: Gap,
    budget: MilliWatt,
    slots: &mut Vec<StepSlot<'a>, BATCHES_MAX>,
) {
    let mut add = |(slot, batch), counts| {
        if let Some(cells) = selector.within(slot, budget) {
            // There are no more slots than batch sizes.
            _ = slots.push(StepSlot {
                slot,
                batch,
                counts,
                time_min: u64::from(cells.time_min.0),
                cells,
            });
        }
    };
    let plan = selector.plan;
    match gap {
        Gap::Train => {
            let slot = plan.slot_train().zip(train_batch(plan));
            slot.into_iter().for_each(|slot| add(slot, 1));
        }
        Gap::Infer(other) => plan.slots_infer(other).for_each(|slot| add(slot, slot.1)),
    }
}
