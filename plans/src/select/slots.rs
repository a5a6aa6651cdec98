//! The slots of a pair of workloads, with the shortest time of each.

use super::train_batch;
use crate::problem::{self, Demand};
use crate::table::{BATCHES_MAX, Cell, PlanTable, Row};
use crate::units::MilliWatt;
use core::cmp::Ordering;
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
pub(super) struct InferSlot {
    pub(super) slot: usize,
    pub(super) batch: u16,
    pub(super) window_us: u64,
    /// The longest time that meets latency and rate.
    pub(super) time_max: u64,
    /// The shortest time of any row.
    pub(super) time_min: u64,
}

/// A slot of what runs in the gaps.
pub(super) struct StepSlot {
    pub(super) slot: usize,
    pub(super) batch: u16,
    /// What a step counts: 1 (minibatches of training), or its samples (inference, whose batch size
    /// is free).
    pub(super) counts: u16,
    /// The shortest time of any row.
    pub(super) time_min: u64,
}

impl StepSlot {
    /// Compares how much is done in a given time.
    pub(super) fn compare_speed(&self, other: &Self) -> Ordering {
        let times = |one: &Self, other: &Self| other.time_min.saturating_mul(one.counts.into());
        times(self, other).cmp(&times(other, self))
    }
}

pub(super) fn infer_slots(
    plan: &PlanTable,
    rows: &[Row],
    workload: usize,
    demand: &Demand,
) -> Vec<InferSlot, BATCHES_MAX> {
    // Batches ascend: from the first one whose window is longer than the latency budget, all are.
    let mut slots = collect(plan.slots_infer(workload).map_while(|(slot, batch)| {
        let time_max = problem::time_infer_max(batch, demand)?;
        Some(InferSlot {
            slot,
            batch,
            window_us: problem::window_us(batch, demand.rate)?,
            time_max,
            time_min: time_max.saturating_add(1),
        })
    }));
    let first = slots.first().map_or(0, |slot| slot.slot);
    shorten(rows, demand.power_mw, first, &mut slots, |slot| {
        &mut slot.time_min
    });
    slots.retain(|slot| slot.time_min <= slot.time_max);
    slots
}

pub(super) fn step_slots(
    plan: &PlanTable,
    rows: &[Row],
    gap: Gap,
    budget: MilliWatt,
) -> Vec<StepSlot, BATCHES_MAX> {
    let step = |(slot, batch), counts| StepSlot {
        slot,
        batch,
        counts,
        time_min: u64::MAX,
    };
    let mut slots = match gap {
        Gap::Train => {
            let slot = plan.slot_train().zip(train_batch(plan));
            collect(slot.map(|slot| step(slot, 1)).into_iter())
        }
        Gap::Infer(other) => collect(plan.slots_infer(other).map(|slot| step(slot, slot.1))),
    };
    let first = slots.first().map_or(0, |slot| slot.slot);
    shorten(rows, budget, first, &mut slots, |slot| &mut slot.time_min);
    slots.retain(|slot| slot.time_min < u64::MAX);
    slots
}

/// Collects the slots of one workload. (heapless' own `collect` panics beyond [`BATCHES_MAX`], and the linker could not
/// tell that no workload has more: I1.)
fn collect<T>(slots: impl Iterator<Item = T>) -> Vec<T, BATCHES_MAX> {
    let mut collected = Vec::new();
    for slot in slots {
        if collected.push(slot).is_err() {
            break;
        }
    }
    collected
}

/// Lowers the time of each slot to that of its shortest cell within the budget, if that is shorter; the slots stand
/// side by side from `first` on. Reads every cell once, in the order of memory: most of what a selection costs.
fn shorten<T>(
    rows: &[Row],
    budget: MilliWatt,
    first: usize,
    slots: &mut [T],
    time_min: impl Fn(&mut T) -> &mut u64,
) {
    #[cold]
    fn replace(time_min: &mut u64, cell: &Cell, budget: MilliWatt) {
        if cell.power_mw <= budget {
            *time_min = u64::from(cell.time_us.0);
        }
    }
    let shorten = |slots: &mut [T], cells: &[Option<Cell>]| {
        for (slot, cell) in slots.iter_mut().zip(cells) {
            let time_min = time_min(slot);
            if let Some(cell) = cell
                && u64::from(cell.time_us.0) < *time_min
            {
                replace(time_min, cell, budget);
            }
        }
    };
    let last = first.saturating_add(slots.len());
    // By fours, which the compiler unrolls.
    let (fours, rest) = slots.as_chunks_mut::<4>();
    // From the hungriest row down: the shortest times are usually found early.
    for row in rows.iter().rev() {
        let cells = row.cells.get(first..last).unwrap_or_default();
        let (cells, cells_rest) = cells.as_chunks::<4>();
        for (slots, cells) in fours.iter_mut().zip(cells) {
            shorten(slots, cells);
        }
        shorten(rest, cells_rest);
    }
}
