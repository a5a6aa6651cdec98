//! The best combination of an inference batch and of what runs in its gaps.
//!
//! The shortest times within the budget are known of every slot ([`super::column`]). They tell how much each pair of
//! batch sizes may do at most ([`super::pair`]), and how short the cells of a row have to be that is as good as the
//! best so far ([`super::aim`]). So most pairs are never looked at, and of the others a few rows.

use super::aim::Aim;
use super::column::Within;
use super::combination::Combination;
use super::pair::{PAIRS_MAX, Pair};
use super::slots::{Gap, InferSlot, StepSlot, infer_slots, step_slots};
use super::{Background, Selector, Serving, Solution};
use crate::problem::{self, Demand};
use crate::table::Row;
use heapless::Vec;

/// The best solution with an inference workload and something in its gaps; see [`Selector::select`].
pub(super) fn fill(
    selector: &Selector<'_>,
    workload: usize,
    demand: &Demand,
    gap: Gap,
) -> Option<Solution> {
    let search = Search {
        rows: &selector.plan.rows,
        demand,
        infer: &infer_slots(selector, workload, demand),
        step: &step_slots(selector, gap, demand.power_mw),
    };
    let best = search.with_steps().or_else(|| search.without_steps())?;
    Some(Solution {
        row: best.row,
        mode: search.rows.get(best.row)?.mode,
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
    infer: &'a [InferSlot<'a>],
    step: &'a [StepSlot<'a>],
}

impl Search<'_> {
    /// The best combination that has a step in its windows.
    fn with_steps(&self) -> Option<Combination> {
        let rate = self.demand.rate;
        let mut pairs: Vec<Pair<'_>, PAIRS_MAX> = Vec::new();
        // The smallest batch last, which goes first among equals: its latency is the least.
        for infer in self.infer.iter().rev() {
            for step in self.step {
                if let Some(pair) = Pair::new(infer, step) {
                    // There are no more pairs than that.
                    _ = pairs.push(pair);
                }
            }
        }
        let mut best = None;
        // What may do most first: it usually does, and spares the others their rows.
        let mut next = Pair::take_first(&mut pairs);
        while let Some(pair) = next {
            next = if self.with_pair(&pair, &mut best)
                && let Some(best) = &best
            {
                pairs.retain(|pair| !pair.is_behind(best, rate));
                Pair::take_first(&mut pairs)
            } else {
                pairs.pop()
            };
        }
        best
    }

    /// Takes the best combination with this pair if it is better than the best so far, and whether it was.
    fn with_pair(&self, pair: &Pair<'_>, best: &mut Option<Combination>) -> bool {
        let mut aim = Aim::new(pair, self.demand.rate, best.as_ref());
        let (infer, step) = (&pair.infer.cells, &pair.step.cells);
        // The row of the shortest step is usually near the best, and leaves few others.
        let first = self.improve(step.fastest_row, &mut aim, best);
        let ahead = self.with_rows(step, |aim| aim.step_max_ahead(), &mut aim, best);
        // Now no row is ahead. One that is even has both a short step and a short inference minibatch.
        let even = if aim.is_even_by_step() {
            self.with_rows(step, |aim| aim.step_max_even(), &mut aim, best)
        } else {
            self.with_rows(infer, |aim| aim.time_max_even(), &mut aim, best)
        };
        first || ahead || even
    }

    /// Looks at the rows with a cell that takes at most what the aim says.
    fn with_rows(
        &self,
        cells: &Within<'_>,
        limit: impl Fn(&Aim<'_>) -> u64,
        aim: &mut Aim<'_>,
        best: &mut Option<Combination>,
    ) -> bool {
        let mut improved = false;
        let mut time_max = limit(aim);
        cells.visit(time_max, |row| {
            if self.improve(row, aim, best) {
                improved = true;
                time_max = limit(aim);
            }
            time_max
        });
        improved
    }

    /// Takes a row's combination if it is better than the best so far, and whether it was.
    fn improve(&self, index: usize, aim: &mut Aim<'_>, best: &mut Option<Combination>) -> bool {
        let pair = aim.pair;
        let cells = self
            .rows
            .get(index)
            .and_then(|row| Some((row.cell(pair.infer.slot)?, row.cell(pair.step.slot)?)));
        let Some((infer_cell, step_cell)) = cells else {
            return false;
        };
        if !aim.reached_by(infer_cell.time_us.0.into(), step_cell.time_us.0.into()) {
            return false;
        }
        let (infer, step) = ((pair.infer, infer_cell), (pair.step, step_cell));
        let Some(found) = Combination::new(index, infer, step, self.demand) else {
            return false;
        };
        if best.as_ref().is_some_and(|best| !found.better_than(best)) {
            return false;
        }
        *aim = Aim::new(pair, self.demand.rate, Some(&found));
        *best = Some(found);
        true
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
            let mut visit = |row: usize| {
                if let Some(found) = self.best_step(row, infer)
                    && best.is_none_or(|best| found.better_than(&best))
                {
                    best = Some(found);
                    time_max = u64::from(found.time_us.0);
                }
                time_max
            };
            // The row of the shortest minibatch leaves few others.
            let time_max = visit(infer.cells.fastest_row);
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
        steps.reduce(|best, next| if next.better_than(&best) { next } else { best })
    }
}
