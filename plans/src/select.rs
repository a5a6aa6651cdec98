//! Selection: the look-up that turns a budget into a row of the table.
//!
//! Every answer is a mode that was observed to fit (invariant I3); where nothing fits there is no
//! answer, never the nearest guess. Ties are broken in a fixed order, so that a workstation and a
//! board always agree: better objective, then lower peak latency, then less power, then the earlier
//! row and the smaller batch. Integers only; see [`crate::problem`] for the formulas and their rounding.
//!
//! Only rows whose smallest power is within the budget are looked at, a prefix, because rows are sorted by it. At worst
//! 5 to 10 µs for 256 rows of 8 batch sizes (`benches/select.rs`, `docs/loop.md`). Does not allocate, does not panic.

mod aim;
mod combination;
mod gaps;
mod slots;

use crate::mode::PowerMode;
use crate::problem::{self, Demand, Throughput};
use crate::table::{Cell, PlanTable, Row};
use crate::units::{MicroSec, MilliRps, MilliWatt};
use slots::Gap;

/// What is to be decided (Fulcrum paper: its problem statements; two inferences are ours).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Train as fast as the power budget allows.
    Training,
    /// Serve an inference workload of the plan (by index) with the least peak latency.
    Inference(usize),
    /// Serve an inference workload and train as fast as possible in the gaps.
    TrainingInference(usize),
    /// Serve the first inference workload and run as much as possible of the second in the gaps.
    TwoInferences,
}

/// The inference side of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Requests per batch.
    pub batch: u16,
    /// Time of one inference minibatch.
    pub time_us: MicroSec,
    /// Peak latency `b/a + t_in`, rounded up.
    pub latency_us: u64,
}

/// What runs in the gaps: a training step, or a batch of the non-urgent inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Background {
    /// Samples per step.
    pub batch: u16,
    /// Time of one step.
    pub time_us: MicroSec,
    /// Steps per window of requests, `k`; zero if there is no room, and for training alone.
    pub steps: u64,
}

/// An answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solution {
    /// Row of the plan.
    pub row: usize,
    /// Its mode.
    pub mode: PowerMode,
    /// Power that was observed, `max` over what takes turns.
    pub power_mw: MilliWatt,
    /// The inference side, unless only training was asked for.
    pub serving: Option<Serving>,
    /// The background side, unless only inference was asked for.
    pub background: Option<Background>,
}

impl Solution {
    /// Background minibatches per second at an arrival rate (training alone ignores the rate).
    #[must_use]
    pub fn background_per_second(&self, rate: MilliRps) -> Option<f64> {
        let background = self.background?;
        Some(match self.serving {
            None => problem::train_per_second(background.time_us),
            Some(serving) => {
                let steps = background.steps;
                Throughput {
                    steps,
                    step_batch: 1,
                    batch: serving.batch,
                }
                .per_second(rate)
            }
        })
    }
}

/// The best row for a problem and a demand. For [`Problem::Training`] only the power of the demand
/// counts.
///
/// `None` if no observed mode fits, if the plan lacks the workload, or if the rate is zero.
#[must_use]
pub fn select(plan: &PlanTable, problem: Problem, demand: &Demand) -> Option<Solution> {
    match problem {
        Problem::Training => training(plan, demand.power_mw),
        Problem::Inference(workload) => inference(plan, workload, demand),
        Problem::TrainingInference(workload) => gaps::fill(plan, workload, demand, Gap::Train),
        Problem::TwoInferences => gaps::fill(plan, 0, demand, Gap::Infer(1)),
    }
}

/// Rows that a power budget can use at all: a prefix, because rows are sorted by smallest power.
fn affordable(plan: &PlanTable, budget: MilliWatt) -> &[Row] {
    let fits = |row: &Row| {
        row.cells
            .iter()
            .flatten()
            .any(|cell| cell.power_mw <= budget)
    };
    plan.rows
        .get(..plan.rows.partition_point(fits))
        .unwrap_or_default()
}

fn train_batch(plan: &PlanTable) -> Option<u16> {
    plan.train
        .as_ref()
        .and_then(|workload| workload.batches.first())
        .copied()
}

/// The fastest cell of a slot, of those the one of least power, of those the earliest, with its row.
fn fastest(
    rows: &[Row],
    slot: usize,
    (time_max, budget): (u64, MilliWatt),
) -> Option<(usize, &Cell)> {
    let mut best: Option<(usize, &Cell)> = None;
    let mut time_max = time_max;
    // From the hungriest row down: the best is usually found early, and the branch below then never taken.
    for (index, row) in rows.iter().enumerate().rev() {
        let Some(cell) = row.cell(slot) else { continue };
        if u64::from(cell.time_us.0) > time_max || cell.power_mw > budget {
            continue;
        }
        if best.is_none_or(|(_, best)| cell <= best) {
            best = Some((index, cell));
            time_max = u64::from(cell.time_us.0);
        }
    }
    best
}

fn training(plan: &PlanTable, budget: MilliWatt) -> Option<Solution> {
    let slot = plan.slot_train()?;
    let batch = train_batch(plan)?;
    let (row, cell) = fastest(affordable(plan, budget), slot, (u64::MAX, budget))?;
    Some(Solution {
        row,
        mode: plan.rows.get(row)?.mode,
        power_mw: cell.power_mw,
        serving: None,
        background: Some(Background {
            batch,
            time_us: cell.time_us,
            steps: 0,
        }),
    })
}

fn inference(plan: &PlanTable, workload: usize, demand: &Demand) -> Option<Solution> {
    let rows = affordable(plan, demand.power_mw);
    let mut best: Option<((u64, MilliWatt, usize, u16), MicroSec)> = None;
    for (slot, batch) in plan.slots_infer(workload) {
        // Batches ascend: from where the window alone takes longer than the best, nothing is better.
        let window = problem::latency_scaled(batch, demand.rate, MicroSec(0));
        if best.is_some_and(|((latency, ..), _)| latency < window) {
            break;
        }
        let Some(time_max) = problem::time_infer_max(batch, demand) else {
            break;
        };
        let Some((row, cell)) = fastest(rows, slot, (time_max, demand.power_mw)) else {
            continue;
        };
        let latency = problem::latency_scaled(batch, demand.rate, cell.time_us);
        let rank = (latency, cell.power_mw, row, batch);
        if best.is_none_or(|(best, _)| rank < best) {
            best = Some((rank, cell.time_us));
        }
    }
    let ((_, power_mw, row, batch), time_us) = best?;
    Some(Solution {
        row,
        mode: plan.rows.get(row)?.mode,
        power_mw,
        serving: Some(Serving {
            batch,
            time_us,
            latency_us: problem::peak_latency_us(batch, demand.rate, time_us)?,
        }),
        background: None,
    })
}
