//! What can be asked of a plan, and what a device would answer: always through `select`, so that the
//! page shows exactly what a board will do.

use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, Selector, Solution};
use fulcrum_plan::table::Workload;
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_plan::{Cell, PlanTable, PowerMode, Row};

/// A problem that a plan can answer while it serves requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// The problem.
    pub problem: Problem,
    /// Index of the inference workload that is served.
    pub served: usize,
}

impl Question {
    /// The problems with requests that a plan has the workloads for.
    #[must_use]
    pub fn of(plan: &PlanTable) -> Vec<Self> {
        let with_train = |served| match plan.train {
            Some(_) => Problem::TrainingInference(served),
            None => Problem::Inference(served),
        };
        // Without training the second workload is what runs in the gaps of the first.
        let served = match plan.train {
            Some(_) => 0..plan.infer.len(),
            None => 0..plan.infer.len().min(1),
        };
        let mut questions: Vec<Self> = served
            .map(|served| Self {
                problem: with_train(served),
                served,
            })
            .collect();
        if plan.infer.len() == 2 {
            questions.push(Self {
                problem: Problem::TwoInferences,
                served: 0,
            });
        }
        questions
    }

    /// Name of the workload that is served.
    #[must_use]
    pub fn served_name<'a>(&self, plan: &'a PlanTable) -> &'a str {
        plan.infer.get(self.served).map_or("", |w| w.name.as_str())
    }

    /// Name of what runs in the gaps.
    #[must_use]
    pub fn background_name<'a>(&self, plan: &'a PlanTable) -> Option<&'a str> {
        let workload = match self.problem {
            Problem::TrainingInference(_) => plan.train.as_ref(),
            Problem::TwoInferences => plan.infer.get(1),
            Problem::Training | Problem::Inference(_) => None,
        };
        workload.map(|workload| workload.name.as_str())
    }

    /// What is optimized, as a number: minibatches per second of training, samples per second of the
    /// non-urgent inference, or the peak latency in ms.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "for display")]
    pub fn value(&self, solution: &Solution, rate: MilliRps) -> f64 {
        let per_second = solution.background_per_second(rate);
        match (self.problem, per_second, solution.serving) {
            (Problem::TwoInferences, Some(per_second), _) => {
                per_second * solution.background.map_or(0.0, |b| f64::from(b.batch))
            }
            (_, Some(per_second), _) => per_second,
            (_, None, Some(serving)) => serving.latency_us as f64 / 1e3,
            (_, None, None) => 0.0,
        }
    }

    /// What [`Question::value`] counts.
    #[must_use]
    pub const fn value_title(&self) -> &'static str {
        match self.problem {
            Problem::Training | Problem::TrainingInference(_) => "training minibatches per second",
            Problem::Inference(_) => "peak latency, ms",
            Problem::TwoInferences => "non-urgent samples per second",
        }
    }
}

/// An answer that holds from a power budget on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The smallest budget that gets it.
    pub budget: MilliWatt,
    /// The answer.
    pub solution: Solution,
}

/// Every power of a plan's cells, ascending: an answer can change at no other budget.
fn powers(plan: &PlanTable) -> Vec<MilliWatt> {
    let cells = plan.rows.iter().flat_map(|row| row.cells.iter().flatten());
    let mut powers: Vec<MilliWatt> = cells.map(|cell| cell.power_mw).collect();
    powers.sort_unstable();
    powers.dedup();
    powers
}

/// What `select` answers over all power budgets: one step at every budget where the answer changes.
#[must_use]
pub fn steps(
    plan: &PlanTable,
    problem: Problem,
    latency_us: MicroSec,
    rate: MilliRps,
) -> Vec<Step> {
    let selector = Selector::new(plan);
    let mut steps: Vec<Step> = Vec::new();
    for budget in powers(plan) {
        let demand = Demand {
            power_mw: budget,
            latency_us,
            rate,
        };
        let Some(solution) = selector.select(problem, &demand) else {
            continue;
        };
        if steps.last().is_none_or(|last| last.solution != solution) {
            steps.push(Step { budget, solution });
        }
    }
    steps
}

/// A plan of one slot alone, as if it were a training workload: what `select` then answers is the
/// fastest mode of that workload and batch size within a power budget.
fn alone(plan: &PlanTable, slot: usize, batch: u16) -> PlanTable {
    let mut rows: Vec<Row> = plan
        .rows
        .iter()
        .filter_map(|row| {
            let cell = row.cell(slot)?;
            Some(Row {
                mode: row.mode,
                cells: core::iter::once(Some(*cell)).collect(),
            })
        })
        .collect();
    rows.sort_by_key(|row| (row.power_min(), row.mode));
    PlanTable {
        board: plan.board.clone(),
        provenance: plan.provenance.clone(),
        train: Some(Workload {
            name: Default::default(),
            batches: core::iter::once(batch).collect(),
        }),
        infer: Default::default(),
        rows: rows.into_iter().collect(),
    }
}

/// The fastest mode of one slot over all power budgets, with its cell.
#[must_use]
pub fn fastest(plan: &PlanTable, slot: usize, batch: u16) -> Vec<(PowerMode, Cell)> {
    let steps = steps(
        &alone(plan, slot, batch),
        Problem::Training,
        MicroSec(0),
        MilliRps(0),
    );
    let cell = |step: Step| {
        let background = step.solution.background?;
        let cell = Cell {
            time_us: background.time_us,
            power_mw: step.solution.power_mw,
        };
        Some((step.solution.mode, cell))
    };
    steps.into_iter().filter_map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn between_two_steps_select_answers_the_lower_one() {
        let plan = sample::plan();
        let (latency_us, rate) = (MicroSec(900_000), MilliRps(20_000));
        for question in Question::of(&plan) {
            let steps = steps(&plan, question.problem, latency_us, rate);
            assert!(steps.len() > 1, "{question:?}");
            let selector = Selector::new(&plan);
            for power in 0..60_000 {
                let power_mw = MilliWatt(power);
                let demand = Demand {
                    power_mw,
                    latency_us,
                    rate,
                };
                let expected = steps.iter().rfind(|step| step.budget <= power_mw);
                let found = selector.select(question.problem, &demand);
                assert_eq!(found, expected.map(|step| step.solution), "{power} mW");
            }
        }
    }

    #[test]
    fn the_fastest_of_a_slot_are_its_front() {
        let plan = sample::plan();
        for (slot, batch) in plan.slots_infer(0) {
            let front = fastest(&plan, slot, batch);
            assert!(front.windows(2).all(|pair| {
                pair[0].1.power_mw < pair[1].1.power_mw && pair[0].1.time_us > pair[1].1.time_us
            }));
            let cells = || plan.rows.iter().filter_map(|row| row.cell(slot));
            for cell in cells() {
                assert!(front.iter().any(|(_, best)| best.covers(cell)));
            }
            let fastest = cells().map(|cell| cell.time_us).min();
            assert_eq!(front.last().map(|(_, cell)| cell.time_us), fastest);
        }
    }

    #[test]
    fn a_plan_is_asked_what_it_has_the_workloads_for() {
        let problems = |plan: &PlanTable| -> Vec<Problem> {
            Question::of(plan)
                .iter()
                .map(|question| question.problem)
                .collect()
        };
        let mut plan = sample::plan();
        assert_eq!(problems(&plan), [Problem::TrainingInference(0)]);
        plan.train = None;
        assert_eq!(problems(&plan), [Problem::Inference(0)]);
        let second = plan.infer[0].clone();
        plan.infer.push(second).unwrap();
        assert_eq!(
            problems(&plan),
            [Problem::Inference(0), Problem::TwoInferences]
        );
        plan.infer.clear();
        assert_eq!(problems(&plan), []);
    }
}
