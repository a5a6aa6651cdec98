//! Selection: the look-up that turns a budget into a row of the table.
//!
//! Every answer is a mode that was observed to fit (invariant I3); where nothing fits there is no
//! answer, never the nearest guess. Ties are broken in a fixed order, so that a workstation and a
//! board always agree: better objective, then lower peak latency, then less power, then the earlier
//! row and the smaller batch. Integers only; see [`crate::problem`] for the formulas and their rounding.
//!
//! Cost: one pass over the rows whose smallest power is within the budget (rows are sorted by it). Does
//! not allocate, does not panic.

use crate::mode::PowerMode;
use crate::problem::{self, Demand, Throughput};
use crate::table::{Cell, PlanTable, Row};
use crate::units::{MicroSec, MilliRps, MilliWatt};
use core::cmp::Ordering;

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
        Problem::Inference(workload) => serving(plan, workload, demand, Gap::Idle),
        Problem::TrainingInference(workload) => serving(plan, workload, demand, Gap::Train),
        Problem::TwoInferences => serving(plan, 0, demand, Gap::Infer(1)),
    }
}

/// Rows that a power budget can use at all, with their index.
fn affordable(plan: &PlanTable, budget: MilliWatt) -> impl Iterator<Item = (usize, &Row)> {
    plan.rows
        .iter()
        .enumerate()
        .take_while(move |(_, row)| row.power_min().is_some_and(|power| power <= budget))
}

fn training(plan: &PlanTable, budget: MilliWatt) -> Option<Solution> {
    let slot = plan.slot_train()?;
    let batch = plan
        .train
        .as_ref()
        .and_then(|workload| workload.batches.first())
        .copied()?;
    let fits = affordable(plan, budget)
        .filter_map(|(index, row)| Some((index, row, row.cell(slot)?)))
        .filter(|(_, _, cell)| cell.power_mw <= budget);
    // `min_by_key` keeps the first of equals: the earlier row.
    let (row, found, cell) = fits.min_by_key(|(_, _, cell)| **cell)?;
    Some(Solution {
        row,
        mode: found.mode,
        power_mw: cell.power_mw,
        serving: None,
        background: Some(Background {
            batch,
            time_us: cell.time_us,
            steps: 0,
        }),
    })
}

/// What runs between two inference batches.
#[derive(Clone, Copy)]
enum Gap {
    Idle,
    Train,
    Infer(usize),
}

/// A fitting combination of one row, compared exactly.
struct Candidate {
    throughput: Throughput,
    /// Exact peak latency in units of 10^-9 requests (see [`problem::latency_scaled`]).
    latency_scaled: u64,
    power_mw: MilliWatt,
    row: usize,
    batch: u16,
    time_us: MicroSec,
    background: Option<Background>,
}

impl Candidate {
    fn better_than(&self, best: &Self) -> bool {
        self.throughput
            .compare(&best.throughput)
            .reverse()
            .then_with(|| self.latency_scaled.cmp(&best.latency_scaled))
            .then_with(|| self.power_mw.cmp(&best.power_mw))
            == Ordering::Less
    }
}

fn serving(plan: &PlanTable, workload: usize, demand: &Demand, gap: Gap) -> Option<Solution> {
    if demand.rate.0 == 0 {
        return None;
    }
    let mut best: Option<Candidate> = None;
    for (index, row) in affordable(plan, demand.power_mw) {
        for (slot, batch) in plan.slots_infer(workload) {
            let Some(cell) = row.cell(slot) else { continue };
            let fits = cell.power_mw <= demand.power_mw
                && problem::meets_latency(batch, demand.rate, cell.time_us, demand.latency_us)
                && problem::sustains(batch, demand.rate, cell.time_us);
            if !fits {
                continue;
            }
            let Some(candidate) = fill_gap(plan, row, demand, gap, (index, batch, cell)) else {
                continue;
            };
            if best.as_ref().is_none_or(|best| candidate.better_than(best)) {
                best = Some(candidate);
            }
        }
    }
    let best = best?;
    let latency_us = problem::peak_latency_us(best.batch, demand.rate, best.time_us)?;
    Some(Solution {
        row: best.row,
        mode: plan.rows.get(best.row)?.mode,
        power_mw: best.power_mw,
        serving: Some(Serving {
            batch: best.batch,
            time_us: best.time_us,
            latency_us,
        }),
        background: best.background,
    })
}

/// The best thing to run in the gaps of one fitting inference cell.
fn fill_gap(
    plan: &PlanTable,
    row: &Row,
    demand: &Demand,
    gap: Gap,
    (index, batch, infer): (usize, u16, &Cell),
) -> Option<Candidate> {
    let alone = Candidate {
        throughput: Throughput {
            steps: 0,
            step_batch: 1,
            batch,
        },
        latency_scaled: problem::latency_scaled(batch, demand.rate, infer.time_us),
        power_mw: infer.power_mw,
        row: index,
        batch,
        time_us: infer.time_us,
        background: None,
    };
    let with = |slot: usize, step_batch: u16, samples: u16| -> Option<Candidate> {
        let cell = row.cell(slot)?;
        let power_mw = problem::interleaved_power(infer.power_mw, cell.power_mw);
        if power_mw > demand.power_mw {
            return None;
        }
        let steps = problem::steps_per_window(batch, demand.rate, infer.time_us, cell.time_us)?;
        Some(Candidate {
            throughput: Throughput {
                steps,
                step_batch: samples,
                batch,
            },
            power_mw,
            background: Some(Background {
                batch: step_batch,
                time_us: cell.time_us,
                steps,
            }),
            ..alone
        })
    };
    match gap {
        Gap::Idle => Some(alone),
        // Training counts minibatches: there is one batch size.
        Gap::Train => with(
            plan.slot_train()?,
            plan.train
                .as_ref()
                .and_then(|workload| workload.batches.first())
                .copied()?,
            1,
        ),
        // The non-urgent inference counts samples: its batch size is free.
        Gap::Infer(background) => plan
            .slots_infer(background)
            .filter_map(|(slot, step_batch)| with(slot, step_batch, step_batch))
            .reduce(|best, next| if next.better_than(&best) { next } else { best }),
    }
}
