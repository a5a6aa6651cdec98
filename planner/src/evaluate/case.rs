//! One problem and task: the truth, the demands, and the exhaustive optimum of each.

use super::StudyProblem;
use super::trace;
use crate::answer::{self, Answer};
use crate::boards;
use crate::demand::{self, DemandGrid, Load, PowerRange};
use crate::offer::Offer;
use crate::prior::Prior;
use crate::profile::{ProfileSource, Run, Truth};
use crate::space::Grid;
use crate::workload::Task;
use fulcrum_plan::{Cell, PowerMode};

/// One problem and task with everything that is true of it.
pub(super) struct Case {
    pub(super) problem: StudyProblem,
    /// The workloads, for people.
    pub(super) name: String,
    pub(super) task: Task,
    pub(super) modes: Vec<PowerMode>,
    pub(super) prior: Prior,
    pub(super) offers: Vec<Offer>,
    /// Powers and loads. In the dynamic problem the loads are windows in time, for one latency budget
    /// after the other.
    pub(super) grid: DemandGrid,
    truth: Vec<Option<Cell>>,
    /// Per load, per power.
    pub(super) optima: Vec<Vec<Option<Answer>>>,
    /// Configurations with an optimum.
    pub(super) solvable: usize,
}

/// The modes that a search for a task may choose from.
pub(super) fn candidates(source: &impl ProfileSource, task: &Task, grid: Grid) -> Vec<PowerMode> {
    let board = boards::named(source.board()).ok();
    grid.candidates(&source.modes(task.workloads()), board)
}

impl Case {
    pub(super) fn new<S: ProfileSource + Truth>(
        source: &S,
        problem: StudyProblem,
        task: Task,
        grid: Grid,
        lessons: &Prior,
    ) -> Self {
        let modes = candidates(source, &task, grid);
        let slots = task.slots().len();
        let truth: Vec<Option<Cell>> = (0..modes.len() * slots)
            .map(|at| {
                let workload = task.workload_of(at % slots);
                source.truth(&Run {
                    mode: modes[at / slots],
                    role: workload.role,
                    workload: workload.name.clone(),
                    batch: task.slots()[at % slots].batch,
                })
            })
            .collect();
        let cell = |mode: usize, slot: usize| truth[mode * slots + slot];
        let (slot, limit_us) = demand::heavy_limit(&task);
        let times = (0..modes.len()).filter_map(|mode| cell(mode, slot));
        let is_heavy = times
            .map(|cell| cell.time_us.0)
            .min()
            .is_some_and(|fastest| fastest > limit_us);
        let slots = 0..task.slots().len();
        let cells = (0..modes.len())
            .flat_map(|mode| slots.clone().filter_map(move |slot| cell(mode, slot)));
        let range = PowerRange::of(cells);
        let mut demands = DemandGrid::of(problem.formulas(), is_heavy, range);
        if problem == StudyProblem::Dynamic {
            demands.loads = trace::windows(&demands.loads);
        }
        let offers = Offer::of(&task, problem.formulas());
        let best = |load: &Load| {
            answer::best_by_power(0..modes.len(), cell, &offers, load, &demands.powers)
        };
        let optima: Vec<Vec<Option<Answer>>> = demands.loads.iter().map(best).collect();
        let names: Vec<String> = task.workloads().iter().map(ToString::to_string).collect();
        Self {
            problem,
            name: names.join(" + "),
            solvable: optima.iter().flatten().flatten().count(),
            prior: lessons.without(&task),
            task,
            modes,
            offers,
            grid: demands,
            truth,
            optima,
        }
    }

    /// The true cell of a (mode, slot).
    pub(super) fn cell(&self, mode: usize, slot: usize) -> Option<Cell> {
        self.truth[mode * self.task.slots().len() + slot]
    }
}
