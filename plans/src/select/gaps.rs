//! The best combination of an inference batch and of what runs in its gaps.
//!
//! Few combinations come near the best, and the shortest times of all rows tell where it can be. So every cell is read
//! once for them ([`super::slots`]), and after that a pass over the rows reads one slot of steps and stops only at steps
//! that are short enough next to the shortest inference minibatch ([`super::aim`]): a few of the rows, and most slots
//! need no pass at all.

use super::aim::Aims;
use super::combination::Combination;
use super::slots::{Gap, InferSlot, StepSlot, infer_slots, step_slots};
use super::{Background, Serving, Solution, affordable};
use crate::problem::{self, Demand};
use crate::table::{PlanTable, Row};

/// The best solution with an inference workload and something in its gaps; see [`super::select`].
pub(super) fn fill(
    plan: &PlanTable,
    workload: usize,
    demand: &Demand,
    gap: Gap,
) -> Option<Solution> {
    let rows = affordable(plan, demand.power_mw);
    let search = Search {
        rows,
        demand,
        infer: &infer_slots(plan, rows, workload, demand),
        step: &step_slots(plan, rows, gap, demand.power_mw),
    };
    let best = search.with_steps().or_else(|| search.without_steps())?;
    Some(Solution {
        row: best.row,
        mode: plan.rows.get(best.row)?.mode,
        power_mw: best.power_mw,
        serving: Some(Serving {
            batch: best.batch,
            time_us: best.time_us,
            latency_us: problem::peak_latency_us(best.batch, demand.rate, best.time_us)?,
        }),
        background: Some(Background {
            batch: best.step_batch,
            time_us: best.step_time_us,
            steps: best.throughput.steps,
        }),
    })
}

/// What is searched.
struct Search<'a> {
    rows: &'a [Row],
    demand: &'a Demand,
    infer: &'a [InferSlot],
    step: &'a [StepSlot],
}

impl Search<'_> {
    /// The best combination that has a step in its windows.
    fn with_steps(&self) -> Option<Combination> {
        let steps = self.step.iter().rev();
        let fastest = steps
            .clone()
            .max_by(|one, other| one.compare_speed(other))?;
        // The best is usually found with the step that does most by itself, and spares the others their pass.
        let best = self.with_step(fastest, None);
        steps
            .filter(|step| step.slot != fastest.slot)
            .fold(best, |best, step| self.with_step(step, best))
    }

    /// The best combination with this step, or the best so far.
    fn with_step(&self, step: &StepSlot, mut best: Option<Combination>) -> Option<Combination> {
        let rate = self.demand.rate;
        let mut aims = Aims::default();
        aims.set(self.infer, step, rate, best.as_ref());
        if aims.pairs.is_empty() {
            return best;
        }
        // From the hungriest row down: the best is usually found early.
        for (index, row) in self.rows.iter().enumerate().rev() {
            let Some(step_cell) = row.cell(step.slot) else {
                continue;
            };
            let step_us = u64::from(step_cell.time_us.0);
            if step_us > aims.step_max {
                continue;
            }
            let mut improved = false;
            for aim in &aims.pairs {
                let Some(infer_cell) = row.cell(aim.infer.slot) else {
                    continue;
                };
                if !aim.reached_by(u64::from(infer_cell.time_us.0), step_us) {
                    continue;
                }
                let found = Combination::new(
                    index,
                    (aim.infer, infer_cell),
                    (step, step_cell),
                    self.demand,
                );
                if let Some(found) = found
                    && best.as_ref().is_none_or(|best| found.better_than(best))
                {
                    best = Some(found);
                    improved = true;
                }
            }
            if improved {
                aims.set(self.infer, step, rate, best.as_ref());
            }
        }
        best
    }

    /// The best combination where no step fits into any window: that of least latency.
    fn without_steps(&self) -> Option<Combination> {
        let mut best: Option<Combination> = None;
        for infer in self.infer {
            let mut time_max = best.map_or(infer.time_max, |best| {
                problem::time_of_latency(best.latency_scaled, infer.batch, self.demand.rate)
            });
            if infer.time_min > time_max {
                continue;
            }
            for (index, row) in self.rows.iter().enumerate().rev() {
                let Some(infer_cell) = row.cell(infer.slot) else {
                    continue;
                };
                if u64::from(infer_cell.time_us.0) > time_max {
                    continue;
                }
                for step in self.step {
                    let Some(step_cell) = row.cell(step.slot) else {
                        continue;
                    };
                    let found = Combination::new(
                        index,
                        (infer, infer_cell),
                        (step, step_cell),
                        self.demand,
                    );
                    if let Some(found) = found
                        && best.is_none_or(|best| found.better_than(&best))
                    {
                        best = Some(found);
                        time_max = u64::from(infer_cell.time_us.0);
                    }
                }
            }
        }
        best
    }
}
