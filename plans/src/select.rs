//! Selection: the look-up that turns a budget into a row of the table.
//!
//! Every answer is a mode that was observed to fit (invariant I3); where nothing fits there is no
//! answer, never the nearest guess. Ties are broken in a fixed order, so that a workstation and a
//! board always agree: better objective, then lower peak latency, then less power, then the earlier
//! row and the smaller batch. Integers only; see [`crate::problem`] for the formulas and their rounding.
//!
//! A [`Selector`] sorts the cells of every slot by their power once, so that a budget allows a prefix of each whose
//! fastest cell is known; what is left of a search is in `gaps.rs`. `benches/select.rs` and `docs/loop.md` have the times.
//! Does not allocate, does not panic.

mod aim;
mod column;
mod combination;
mod gaps;
mod slots;

use crate::mode::PowerMode;
use crate::problem::{self, Demand, Throughput};
use crate::table::{CELLS_MAX, PlanTable};
use crate::units::{MicroSec, MilliRps, MilliWatt};
use column::{Column, Within};
use heapless::Vec;
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

/// The best row for a problem and a demand, of a plan that is asked once; see [`Selector::select`].
#[must_use]
pub fn select(plan: &PlanTable, problem: Problem, demand: &Demand) -> Option<Solution> {
    Selector::new(plan).select(problem, demand)
}

/// A plan that is ready to be asked: the cells of every slot in the order of their power.
///
/// It borrows the plan, so that the plan cannot change under it. It takes 44 kB, and up to 0.4 ms to make: whoever asks
/// more than once keeps it.
pub struct Selector<'a> {
    plan: &'a PlanTable,
    columns: Vec<Column, CELLS_MAX>,
}

impl<'a> Selector<'a> {
    /// Makes a plan ready.
    #[must_use]
    pub fn new(plan: &'a PlanTable) -> Self {
        let mut columns = Vec::new();
        for slot in 0..plan.slot_count() {
            // There are no more slots than a row has cells.
            _ = columns.push(Column::new(plan, slot));
        }
        Self { plan, columns }
    }

    /// The plan.
    #[must_use]
    pub const fn plan(&self) -> &'a PlanTable {
        self.plan
    }

    /// The best row for a problem and a demand. For [`Problem::Training`] only the power of the demand
    /// counts.
    ///
    /// `None` if no observed mode fits, if the plan lacks the workload, or if the rate is zero.
    #[must_use]
    pub fn select(&self, problem: Problem, demand: &Demand) -> Option<Solution> {
        match problem {
            Problem::Training => self.training(demand.power_mw),
            Problem::Inference(workload) => self.inference(workload, demand),
            Problem::TrainingInference(workload) => gaps::fill(self, workload, demand, Gap::Train),
            Problem::TwoInferences => gaps::fill(self, 0, demand, Gap::Infer(1)),
        }
    }

    /// The cells of a slot within a power budget.
    fn within(&self, slot: usize, budget: MilliWatt) -> Option<Within<'_>> {
        self.columns.get(slot)?.within(budget)
    }

    fn training(&self, budget: MilliWatt) -> Option<Solution> {
        let cells = self.within(self.plan.slot_train()?, budget)?;
        let row = cells.fastest_row()?;
        Some(Solution {
            row,
            mode: self.plan.rows.get(row)?.mode,
            power_mw: cells.fastest_power()?,
            serving: None,
            background: Some(Background {
                batch: train_batch(self.plan)?,
                time_us: cells.time_min,
                steps: 0,
            }),
        })
    }

    fn inference(&self, workload: usize, demand: &Demand) -> Option<Solution> {
        let mut best: Option<((u64, MilliWatt, usize, u16), MicroSec)> = None;
        for (slot, batch) in self.plan.slots_infer(workload) {
            // Batches ascend: from where the window alone takes longer than the best, nothing is better.
            let window = problem::latency_scaled(batch, demand.rate, MicroSec(0));
            if best.is_some_and(|((latency, ..), _)| latency < window) {
                break;
            }
            let Some(time_max) = problem::time_infer_max(batch, demand) else {
                break;
            };
            let Some(cells) = self.within(slot, demand.power_mw) else {
                continue;
            };
            let time_us = cells.time_min;
            if u64::from(time_us.0) > time_max {
                continue;
            }
            let latency = problem::latency_scaled(batch, demand.rate, time_us);
            let rank = (latency, cells.fastest_power()?, cells.fastest_row()?, batch);
            if best.is_none_or(|(best, _)| rank < best) {
                best = Some((rank, time_us));
            }
        }
        let ((_, power_mw, row, batch), time_us) = best?;
        Some(Solution {
            row,
            mode: self.plan.rows.get(row)?.mode,
            power_mw,
            serving: Some(Serving {
                batch,
                time_us,
                latency_us: problem::peak_latency_us(batch, demand.rate, time_us)?,
            }),
            background: None,
        })
    }
}

fn train_batch(plan: &PlanTable) -> Option<u16> {
    plan.train
        .as_ref()
        .and_then(|workload| workload.batches.first())
        .copied()
}
