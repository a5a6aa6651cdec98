//! Selection: the look-up that turns a budget into a row of the table.
//!
//! Every answer is a mode that was observed to fit (invariant I3); where nothing fits there is no
//! answer, never the nearest guess. Ties are broken in a fixed order, so that a workstation and a
//! board always agree: better objective, then lower peak latency, then less power, then the earlier
//! row and the smaller batch. Integers only; see [`crate::problem`] for the formulas and their rounding.
//!
//! Cost: of the rows whose smallest power is within the budget (rows are sorted by it) one pass per batch size, for
//! its shortest time, and one per pair of batch sizes that could still beat the best: a few microseconds for 256
//! rows of 8 batch sizes (`benches/select.rs`). Does not allocate, does not panic.

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
        Problem::Inference(workload) => inference(plan, workload, demand),
        Problem::TrainingInference(workload) => serving(plan, workload, demand, Gap::Train),
        Problem::TwoInferences => serving(plan, 0, demand, Gap::Infer(1)),
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

/// What runs between two inference batches.
#[derive(Clone, Copy)]
enum Gap {
    Train,
    Infer(usize),
}

/// A slot of the inference workload that some row can serve in time.
struct InferSlot {
    slot: usize,
    batch: u16,
    window_us: u64,
    time_max: u64,
    /// The shortest time of any row.
    time_min: MicroSec,
}

/// A slot of what runs in the gaps.
struct StepSlot {
    slot: usize,
    batch: u16,
    /// What a step counts: 1 (minibatches of training), or its samples (inference, whose batch size
    /// is free).
    counts: u16,
    /// The shortest time of any row.
    time_min: MicroSec,
}

/// A fitting combination, compared exactly.
struct Candidate {
    throughput: Throughput,
    latency_scaled: u64,
    power_mw: MilliWatt,
    row: usize,
    batch: u16,
    time_us: MicroSec,
    background: Background,
}

impl Candidate {
    fn new(
        row: usize,
        (infer, infer_cell): (&InferSlot, &Cell),
        (step, step_cell): (&StepSlot, &Cell),
        rate: MilliRps,
    ) -> Option<Self> {
        let time_us = infer_cell.time_us;
        let steps = problem::steps_per_window(infer.batch, rate, time_us, step_cell.time_us)?;
        Some(Self {
            throughput: Throughput {
                steps,
                step_batch: step.counts,
                batch: infer.batch,
            },
            latency_scaled: problem::latency_scaled(infer.batch, rate, time_us),
            power_mw: problem::interleaved_power(infer_cell.power_mw, step_cell.power_mw),
            row,
            batch: infer.batch,
            time_us,
            background: Background {
                batch: step.batch,
                time_us: step_cell.time_us,
                steps,
            },
        })
    }

    /// The last tie-break: where in the plan it stands.
    fn place(&self) -> (usize, u16, u16) {
        (self.row, self.batch, self.background.batch)
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
    let rows = affordable(plan, demand.power_mw);
    let time_min = |slot, time_max| {
        let (_, cell) = fastest(rows, slot, (time_max, demand.power_mw))?;
        Some(cell.time_us)
    };
    let infer_slots = collect(plan.slots_infer(workload).filter_map(|(slot, batch)| {
        let time_max = problem::time_infer_max(batch, demand)?;
        Some(InferSlot {
            slot,
            batch,
            window_us: problem::window_us(batch, demand.rate)?,
            time_max,
            time_min: time_min(slot, time_max)?,
        })
    }))?;
    let step = |(slot, batch), counts| {
        Some(StepSlot {
            slot,
            batch,
            counts,
            time_min: time_min(slot, u64::MAX)?,
        })
    };
    let step_slots = match gap {
        Gap::Train => {
            let slot = plan.slot_train().zip(train_batch(plan))?;
            collect(step(slot, 1).into_iter())?
        }
        Gap::Infer(other) => collect(
            plan.slots_infer(other)
                .filter_map(|slot| step(slot, slot.1)),
        )?,
    };
    let mut scan = Scan {
        rows,
        demand,
        best: None,
    };
    // From the largest batches down: the best is usually found early, and then spares the others most of their
    // arithmetic. The order decides nothing, `Candidate::place` breaks every tie.
    for infer in infer_slots.iter().rev() {
        for step in step_slots.iter().rev() {
            scan.pair(infer, step);
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
        background: Some(best.background),
    })
}

/// The search for the best combination of an inference batch and what runs in its gaps.
struct Scan<'a> {
    rows: &'a [Row],
    demand: &'a Demand,
    best: Option<Candidate>,
}

impl Scan<'_> {
    /// Looks for something better in one pair of slots.
    fn pair(&mut self, infer: &InferSlot, step: &StepSlot) {
        let mut aim = self.aim(infer, step);
        if !aim.reached_by(infer.time_min, step.time_min) {
            return;
        }
        let budget = self.demand.power_mw;
        for (index, row) in self.rows.iter().enumerate().rev() {
            let Some(step_cell) = row.cell(step.slot) else {
                continue;
            };
            if u64::from(step_cell.time_us.0) > aim.step_max {
                continue;
            }
            let Some(infer_cell) = row.cell(infer.slot) else {
                continue;
            };
            if !aim.reached_by(infer_cell.time_us, step_cell.time_us)
                || u64::from(infer_cell.time_us.0) > infer.time_max
                || problem::interleaved_power(infer_cell.power_mw, step_cell.power_mw) > budget
            {
                continue;
            }
            let candidate = Candidate::new(
                index,
                (infer, infer_cell),
                (step, step_cell),
                self.demand.rate,
            );
            if let Some(candidate) = candidate
                && self
                    .best
                    .as_ref()
                    .is_none_or(|best| candidate.better_than(best))
            {
                self.best = Some(candidate);
                aim = self.aim(infer, step);
            }
        }
    }

    /// What a row needs to be as good as the best so far.
    fn aim(&self, infer: &InferSlot, step: &StepSlot) -> Aim {
        let Some(best) = &self.best else {
            return Aim {
                window_us: infer.window_us,
                step_max: u64::MAX,
                steps: (0, 0),
                time_even: u64::MAX,
            };
        };
        let steps = best.throughput.steps_needed(infer.batch, step.counts);
        let left_us = infer.window_us.saturating_sub(u64::from(infer.time_min.0));
        Aim {
            window_us: infer.window_us,
            step_max: left_us.checked_div(steps.0).unwrap_or(u64::MAX),
            steps,
            time_even: problem::time_of_latency(best.latency_scaled, infer.batch, self.demand.rate),
        }
    }
}

/// What a row needs in one pair of slots to be as good as the best so far.
struct Aim {
    window_us: u64,
    /// The longest step, next to the fastest inference minibatch.
    step_max: u64,
    /// Steps per window to be even, and to be ahead, which a longer latency has to be.
    steps: (u64, u64),
    /// The longest inference minibatch whose latency is not longer.
    time_even: u64,
}

impl Aim {
    /// Whether a row with these times may be as good; with shorter ones it may be, too.
    fn reached_by(&self, infer: MicroSec, step: MicroSec) -> bool {
        let (infer_us, step_us) = (u64::from(infer.0), u64::from(step.0));
        let (even, ahead) = self.steps;
        let steps = if infer_us > self.time_even {
            ahead
        } else {
            even
        };
        // A product that saturates is beyond every window.
        infer_us.saturating_add(steps.saturating_mul(step_us)) <= self.window_us
    }
}
