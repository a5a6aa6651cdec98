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
use crate::table::{BATCHES_MAX, Cell, PlanTable, Row};
use crate::units::{MicroSec, MilliRps, MilliWatt};
use core::cmp::Ordering;
use heapless::Vec;

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

/// Rows that a power budget can use at all: a prefix, because rows are sorted by smallest power.
fn affordable(plan: &PlanTable, budget: MilliWatt) -> &[Row] {
    let fits = |row: &Row| row.power_min().is_some_and(|power| power <= budget);
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

fn training(plan: &PlanTable, budget: MilliWatt) -> Option<Solution> {
    let slot = plan.slot_train()?;
    let batch = train_batch(plan)?;
    let cells = affordable(plan, budget)
        .iter()
        .enumerate()
        .filter_map(|(index, row)| {
            let cell = row.cell(slot).filter(|cell| cell.power_mw <= budget)?;
            Some((index, row.mode, cell))
        });
    // `min_by_key` keeps the first of equals: the earlier row.
    let (row, mode, cell) = cells.min_by_key(|(_, _, cell)| **cell)?;
    Some(Solution {
        row,
        mode,
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

/// A slot of the inference workload, with what its cells must meet.
struct InferSlot {
    slot: usize,
    batch: u16,
    time_max: u64,
}

/// A slot of what runs in the gaps.
struct StepSlot {
    slot: usize,
    batch: u16,
    /// What a step counts: 1 (minibatches of training), or its samples (inference, whose batch size
    /// is free).
    counts: u16,
}

/// A fitting combination, compared exactly.
struct Candidate {
    throughput: Throughput,
    latency_scaled: u64,
    power_mw: MilliWatt,
    row: usize,
    batch: u16,
    time_us: MicroSec,
    background: Option<Background>,
}

impl Candidate {
    /// The last tie-break: where in the plan it stands.
    fn place(&self) -> (usize, u16, u16) {
        (
            self.row,
            self.batch,
            self.background.map_or(0, |background| background.batch),
        )
    }

    fn better_than(&self, best: &Self) -> bool {
        self.throughput
            .compare(&best.throughput)
            .reverse()
            .then_with(|| self.latency_scaled.cmp(&best.latency_scaled))
            .then_with(|| self.power_mw.cmp(&best.power_mw))
            .then_with(|| self.place().cmp(&best.place()))
            == Ordering::Less
    }
}

/// Collects the slots of one workload. `None` beyond [`BATCHES_MAX`], which no workload has; heapless'
/// own `collect` would panic there, and the linker could not tell that it never does (I1).
fn collect<T>(slots: impl Iterator<Item = T>) -> Option<Vec<T, BATCHES_MAX>> {
    let mut collected = Vec::new();
    for slot in slots {
        collected.push(slot).ok()?;
    }
    Some(collected)
}

fn serving(plan: &PlanTable, workload: usize, demand: &Demand, gap: Gap) -> Option<Solution> {
    let infer_slots = collect(plan.slots_infer(workload).filter_map(|(slot, batch)| {
        Some(InferSlot {
            slot,
            batch,
            time_max: problem::time_infer_max(batch, demand)?,
        })
    }))?;
    let step_slots = match gap {
        Gap::Idle => Vec::new(),
        Gap::Train => {
            let (slot, batch) = plan.slot_train().zip(train_batch(plan))?;
            collect(core::iter::once(StepSlot {
                slot,
                batch,
                counts: 1,
            }))?
        }
        Gap::Infer(other) => collect(plan.slots_infer(other).map(|(slot, batch)| StepSlot {
            slot,
            batch,
            counts: batch,
        }))?,
    };
    let mut scan = Scan { demand, best: None };
    // From the hungriest row down: the best is usually found early, and then spares the others most of
    // their arithmetic. The order decides nothing, `Candidate::place` breaks every tie.
    for (index, row) in affordable(plan, demand.power_mw).iter().enumerate().rev() {
        if !step_slots.is_empty() && scan.is_beyond(row, &step_slots) {
            continue;
        }
        for infer in &infer_slots {
            let Some(cell) = row.cell(infer.slot) else {
                continue;
            };
            if u64::from(cell.time_us.0) > infer.time_max || cell.power_mw > demand.power_mw {
                continue;
            }
            if matches!(gap, Gap::Idle) {
                scan.offer_alone(index, infer.batch, cell);
            }
            for step in &step_slots {
                if let Some(step_cell) = row.cell(step.slot) {
                    scan.offer(index, (infer.batch, cell), (step, step_cell));
                }
            }
        }
    }
    let best = scan.best?;
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

/// The best so far.
struct Scan<'a> {
    demand: &'a Demand,
    best: Option<Candidate>,
}

impl Scan<'_> {
    fn keep_if_better(&mut self, candidate: Candidate) {
        if self
            .best
            .as_ref()
            .is_none_or(|best| candidate.better_than(best))
        {
            self.best = Some(candidate);
        }
    }

    /// Whether no step of this row could reach the best, even with whole windows to itself.
    fn is_beyond(&self, row: &Row, step_slots: &[StepSlot]) -> bool {
        let Some(best) = &self.best else { return false };
        let window = (1, self.demand.rate, MicroSec(0));
        step_slots.iter().all(|slot| {
            row.cell(slot.slot).is_none_or(|step| {
                best.throughput
                    .out_of_reach(window, (slot.counts, step.time_us))
            })
        })
    }

    fn offer_alone(&mut self, row: usize, batch: u16, infer: &Cell) {
        let latency_scaled = problem::latency_scaled(batch, self.demand.rate, infer.time_us);
        if self
            .best
            .as_ref()
            .is_some_and(|best| best.latency_scaled < latency_scaled)
        {
            return;
        }
        self.keep_if_better(Candidate {
            throughput: Throughput {
                steps: 0,
                step_batch: 1,
                batch: 1,
            },
            latency_scaled,
            power_mw: infer.power_mw,
            row,
            batch,
            time_us: infer.time_us,
            background: None,
        });
    }

    fn offer(
        &mut self,
        row: usize,
        (batch, infer): (u16, &Cell),
        (slot, step): (&StepSlot, &Cell),
    ) {
        let rate = self.demand.rate;
        if step.power_mw > self.demand.power_mw {
            return;
        }
        let window = (batch, rate, infer.time_us);
        let beaten = |best: &Candidate| {
            best.throughput
                .out_of_reach(window, (slot.counts, step.time_us))
        };
        if self.best.as_ref().is_some_and(beaten) {
            return;
        }
        let steps = problem::steps_per_window(batch, rate, infer.time_us, step.time_us);
        let Some(steps) = steps else { return };
        self.keep_if_better(Candidate {
            throughput: Throughput {
                steps,
                step_batch: slot.counts,
                batch,
            },
            latency_scaled: problem::latency_scaled(batch, rate, infer.time_us),
            power_mw: problem::interleaved_power(infer.power_mw, step.power_mw),
            row,
            batch,
            time_us: infer.time_us,
            background: Some(Background {
                batch: slot.batch,
                time_us: step.time_us,
                steps,
            }),
        });
    }
}
