//! The best combination of an inference batch and of what runs in its gaps.
//!
//! The shortest times within the budget are known of every slot ([`super::column`]), so it is known what a pair of batch
//! sizes does at most, whatever rows they are of. For most pairs that is less than the best so far, and they are never
//! looked at. Of the others the rows of the shortest steps are asked first: the best of what they do is usually the best
//! of all or close to it. What it leaves to be found tells how short the cells of a row have to be ([`super::aim`]), and
//! few are.

use super::aim::Aim;
use super::column::Within;
use super::combination::Combination;
use super::slots::{Gap, InferSlot, StepSlot, infer_slots, step_slots};
use super::{Background, Selector, Serving, Solution};
use crate::problem::{self, Demand, Throughput};
use crate::table::{BATCHES_MAX, Row};
use heapless::Vec;

/// Most pairs of batch sizes.
const PAIRS_MAX: usize = BATCHES_MAX * BATCHES_MAX;

/// The best solution with an inference workload and something in its gaps; see [`Selector::select`].
pub(super) fn fill(
    selector: &Selector<'_>,
    workload: usize,
    demand: &Demand,
    gap: Gap,
) -> Option<Solution> {
    let (mut infer, mut step) = (Vec::new(), Vec::new());
    infer_slots(selector, workload, demand, &mut infer);
    step_slots(selector, gap, demand.power_mw, &mut step);
    let search = Search {
        rows: &selector.plan.rows,
        demand,
        infer: &infer,
        step: &step,
    };
    let best = search.with_steps().or_else(|| search.without_steps())?;
    Some(Solution {
        row: best.row,
        mode: search.rows.get(best.row)?.mode,
        power_mw: best.power_mw,
        serving: Some(Serving {
            batch: best.throughput.batch,
            time_us: best.time_us,
            latency_us: problem::peak_latency_us(best.throughput.batch, demand.rate, best.time_us)?,
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
    infer: &'a [InferSlot<'a>],
    step: &'a [StepSlot<'a>],
}

impl Search<'_> {
    /// The best combination that has a step in its windows.
    fn with_steps(&self) -> Option<Combination> {
        let mut best = None;
        let mut pairs: Vec<_, PAIRS_MAX> = Vec::new();
        // The largest batches first: they usually do most.
        for infer in self.infer.iter().rev() {
            for step in self.step.iter().rev() {
                if may_do(infer, step, best.as_ref()) {
                    self.open(infer, step, &mut best);
                    // There are no more pairs than that.
                    _ = pairs.push((infer, step));
                }
            }
        }
        // The best is better by now.
        for &(infer, step) in &pairs {
            if may_do(infer, step, best.as_ref()) {
                let aim = Aim::new(infer, step, self.demand.rate, best.as_ref());
                if aim.is_in_reach() {
                    self.with_pair(aim, &mut best);
                }
            }
        }
        best
    }

    /// Takes the combination of the row that has the shortest step if it is better than the best so far.
    fn open(&self, infer: &InferSlot<'_>, step: &StepSlot<'_>, best: &mut Option<Combination>) {
        if let Some(index) = step.cells.fastest_row()
            && let Some(row) = self.rows.get(index)
            && let (Some(infer_cell), Some(step_cell)) = (row.cell(infer.slot), row.cell(step.slot))
            && let Some(found) =
                Combination::new(index, (infer, infer_cell), (step, step_cell), self.demand)
            && found.throughput.steps > 0
        {
            found.improve(best, self.demand.rate);
        }
    }

    /// Takes the best combination with a pair if it is better than the best so far.
    fn with_pair(&self, mut aim: Aim<'_>, best: &mut Option<Combination>) {
        let (infer, step) = (&aim.infer.cells, &aim.step.cells);
        self.with_rows(step, |aim| aim.step_max_ahead(), &mut aim, best);
        // Now no row is ahead. One that is even has both a short step and a short inference minibatch.
        if aim.is_even_by_step() {
            self.with_rows(step, |aim| aim.step_max_even(), &mut aim, best);
        } else {
            self.with_rows(infer, |aim| aim.time_max_even(), &mut aim, best);
        }
    }

    /// Looks at the rows with a cell that takes at most what the aim says.
    fn with_rows(
        &self,
        cells: &Within<'_>,
        limit: fn(&Aim<'_>) -> u64,
        aim: &mut Aim<'_>,
        best: &mut Option<Combination>,
    ) {
        let mut time_max = limit(aim);
        cells.visit(time_max, |row| {
            if self.improve(row, aim, best) {
                *aim = Aim::new(aim.infer, aim.step, self.demand.rate, best.as_ref());
                time_max = limit(aim);
            }
            time_max
        });
    }

    /// Takes a row's combination if it is better than the best so far, and whether it was.
    #[inline]
    fn improve(&self, index: usize, aim: &Aim<'_>, best: &mut Option<Combination>) -> bool {
        let (infer, step) = (aim.infer, aim.step);
        let cells = self
            .rows
            .get(index)
            .and_then(|row| Some((row.cell(infer.slot)?, row.cell(step.slot)?)));
        let Some((infer_cell, step_cell)) = cells else {
            return false;
        };
        if !aim.reached_by(infer_cell.time_us.0.into(), step_cell.time_us.0.into()) {
            return false;
        }
        Combination::new(index, (infer, infer_cell), (step, step_cell), self.demand)
            .is_some_and(|found| found.improve(best, self.demand.rate))
    }

    /// The best combination where no step fits into any window: that of least latency.
    fn without_steps(&self) -> Option<Combination> {
        let rate = self.demand.rate;
        let mut best: Option<Combination> = None;
        for infer in self.infer {
            let Some(fastest) = infer.cells.fastest_row() else {
                continue;
            };
            let mut time_max = best.map_or(infer.time_max, |best| {
                problem::time_of_latency(best.latency_scaled(rate), infer.batch, rate)
            });
            if infer.time_min > time_max {
                continue;
            }
            let mut visit = |row: usize| {
                if let Some(found) = self.best_step(row, infer)
                    && found.improve(&mut best, rate)
                {
                    time_max = u64::from(found.time_us.0);
                }
                time_max
            };
            // The row of the shortest minibatch leaves few others.
            let time_max = visit(fastest);
            infer.cells.visit(time_max, visit);
        }
        best
    }

    /// A row's best combination with an inference batch.
    fn best_step(&self, index: usize, infer: &InferSlot<'_>) -> Option<Combination> {
        let row = self.rows.get(index)?;
        let infer_cell = row.cell(infer.slot)?;
        let steps = self.step.iter().filter_map(|step| {
            let step_cell = row.cell(step.slot)?;
            Combination::new(index, (infer, infer_cell), (step, step_cell), self.demand)
        });
        let rate = self.demand.rate;
        steps.reduce(|best, next| {
            if next.is_better(&best, rate) {
                next
            } else {
                best
            }
        })
    }
}

/// Whether a row with the shortest times of both slots, whatever rows they are of, does as much as the best so far, and
/// at least a step per window.
fn may_do(infer: &InferSlot<'_>, step: &StepSlot<'_>, best: Option<&Combination>) -> bool {
    let (time_us, step_us) = (infer.cells.time_min, step.cells.time_min);
    let Some(steps) = problem::steps_in_window(infer.window_us, time_us, step_us) else {
        return true;
    };
    let most = Throughput {
        steps,
        step_batch: step.counts,
        batch: infer.batch,
    };
    steps > 0 && best.is_none_or(|best| most.compare(&best.throughput).is_ge())
}
