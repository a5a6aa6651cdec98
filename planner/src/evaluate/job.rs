//! One strategy and seed on one case.

use super::StudyProblem;
use super::case::{self, Case};
use super::trace::{self, Switching};
use super::violations::Violations;
use crate::answer::{self, Answer};
use crate::bench::Bench;
use crate::demand::Load;
use crate::margin::Margin;
use crate::pool::Pool;
use crate::prior::Prior;
use crate::profile::faults::{Faults, Unreliable};
use crate::profile::journal::Record;
use crate::profile::{Measurement, ProfileSource, Run};
use crate::search::gmd::Memory;
use crate::search::{self, Goal, Kind, Strategy, nn};
use crate::space::Grid;
use crate::workload::Task;
use fulcrum_plan::Cell;
use fulcrum_plan::problem::Demand;
use fulcrum_plan::units::MilliWatt;
use rayon::prelude::*;
use std::time::Instant;

/// What a strategy achieved with one seed.
pub(super) struct Outcome {
    /// Configurations, solvable or not.
    pub(super) configurations: usize,
    /// Loss of every solvable configuration, in the case's order; `None` where it was not solved, or
    /// not without a violation.
    pub(super) losses: Vec<Option<f64>>,
    pub(super) violations: Violations,
    /// Profiles paid, on average over the searches.
    pub(super) runs: f64,
    /// Modes observed, on average over the searches.
    pub(super) modes: f64,
    /// Changes of mode per window of a trace.
    pub(super) switches: Option<f64>,
    /// Share of time that changes of mode take in a trace.
    pub(super) switching_time: Option<f64>,
    /// Time of computing, of all searches together.
    pub(super) seconds: f64,
}

/// Answers by load, then by power; nothing for a load that was left out.
type Answers = Vec<Option<Vec<Option<Answer>>>>;

/// The search for one demand that fits a surrogate at every step leaves loads out where there are many:
/// it is run for every load, every 17th or every 47th, whichever are no more than [`LOADS_MAX`]. Both strides
/// are prime to the number of rates, of latency budgets and of windows of every grid, so that all of them occur.
const LOAD_STRIDES: [usize; 3] = [1, 17, 47];
const LOADS_MAX: usize = 15;

/// How a source is measured, and how what it shows counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measuring {
    /// How the source fails while it is measured; the truth stays exact.
    pub faults: Option<Faults>,
    /// By how much every measurement counts as larger.
    pub margin: Margin,
}

/// A strategy with its seed on a source, for one case.
struct Job<'a, S> {
    source: &'a S,
    measuring: Measuring,
    case: &'a Case,
    strategy: &'a Strategy,
    seed: u64,
}

/// Runs one job.
pub(super) fn run<S: ProfileSource + Clone + Sync>(
    source: &S,
    case: &Case,
    strategy: &Strategy,
    measuring: Measuring,
    seed: u64,
) -> Outcome {
    let start = Instant::now();
    let job = Job {
        source,
        measuring,
        case,
        strategy,
        seed,
    };
    let (answers, runs, modes) = if strategy.kind.is_for_one_demand() {
        job.by_demand()
    } else {
        let (pool, runs) = job.search(None, &mut Memory::default());
        let modes = pool.observed_modes().len() as f64;
        let answers = match strategy.kind {
            Kind::Nn => predicted(case, &pool, seed, measuring.margin),
            _ => observed(case, &pool.widened(measuring.margin)),
        };
        (answers, runs as f64, modes)
    };
    let seconds = start.elapsed().as_secs_f64();
    let mut outcome = judge(case, &answers);
    outcome.runs = runs;
    outcome.modes = modes;
    outcome.seconds = seconds;
    outcome
}

impl<S: ProfileSource + Clone + Sync> Job<'_, S> {
    /// What a search observes, and the profiles it pays.
    fn search(&self, goal: Option<&Goal>, memory: &mut Memory) -> (Pool, usize) {
        let Self { case, strategy, .. } = self;
        let (mut sound, mut faulty);
        let source: &mut dyn ProfileSource = match self.measuring.faults {
            None => {
                sound = self.source.clone();
                &mut sound
            }
            Some(faults) => {
                let seed = self.seed;
                faulty = Unreliable::new(self.source.clone(), Faults { seed, ..faults });
                &mut faulty
            }
        };
        let mut quiet = |_: usize, _: usize, _: &Run, _: &Measurement| {};
        let most = match strategy.limit {
            Some(limit) if !strategy.kind.is_for_one_demand() => limit as usize,
            _ => usize::MAX,
        };
        let (task, modes, prior) = (&case.task, &case.modes, &case.prior);
        let mut bench = Bench::new(source, task, modes, prior, most, &mut quiet);
        // A search that stops early has what it has; without a goal where one is needed it has nothing.
        let _ = search::run(strategy, &mut bench, self.seed, goal, memory);
        let (pool, runs, _) = bench.finish();
        (pool, runs)
    }

    /// A search per solvable configuration; with the mean of profiles and of modes.
    fn by_demand(&self) -> (Answers, f64, f64) {
        let case = self.case;
        let powers = &case.grid.powers;
        let count = case.grid.loads.len();
        let is_slow = self.strategy.kind == Kind::Gmd;
        let few = |stride: &usize| !is_slow || count / stride <= LOADS_MAX;
        let stride = LOAD_STRIDES
            .into_iter()
            .find(few)
            .unwrap_or(LOAD_STRIDES[2]);
        let is_searched = |load: usize| load.is_multiple_of(stride);
        // One memory per power budget: results do not depend on it, and it stays small.
        let columns: Vec<Vec<Option<Found>>> = (0..powers.len())
            .into_par_iter()
            .map(|power| {
                let mut memory = Memory::default();
                (0..count)
                    .map(|load| {
                        case.optima[load][power].filter(|_| is_searched(load))?;
                        Some(self.for_demand(&case.grid.loads[load], powers[power], &mut memory))
                    })
                    .collect()
            })
            .collect();
        let found = || columns.iter().flatten().flatten();
        let searches = found().count().max(1) as f64;
        let runs: usize = found().map(|found| found.runs).sum();
        let modes: usize = found().map(|found| found.modes).sum();
        let answers = (0..count)
            .map(|load| {
                let answer = |column: &Vec<Option<Found>>| column[load].as_ref()?.answer;
                is_searched(load).then(|| columns.iter().map(answer).collect())
            })
            .collect();
        (answers, runs as f64 / searches, modes as f64 / searches)
    }

    fn for_demand(&self, load: &Load, power_mw: MilliWatt, memory: &mut Memory) -> Found {
        let case = self.case;
        let goal = Goal {
            problem: case.problem.formulas(),
            demand: Demand {
                power_mw: self.measuring.margin.narrow(power_mw),
                latency_us: load.latency_us,
                rate: load.rate,
            },
        };
        let (pool, runs) = self.search(Some(&goal), memory);
        let pool = pool.widened(self.measuring.margin);
        let modes = pool.observed_modes();
        let cell = |mode: usize, slot: usize| pool.cell(mode, slot);
        let one = modes.iter().copied();
        let best = answer::best_by_power(one, cell, &case.offers, load, &[power_mw]);
        Found {
            answer: best.first().copied().flatten(),
            runs,
            modes: modes.len(),
        }
    }
}

/// What a search of a task by itself measures.
pub(super) fn measured<S: ProfileSource + Clone>(
    source: &S,
    task: &Task,
    strategy: &Strategy,
    grid: Grid,
) -> Vec<Record> {
    let modes = case::candidates(source, task, grid);
    let most = strategy.limit.map_or(usize::MAX, |limit| limit as usize);
    let (mut source, prior) = (source.clone(), Prior::default());
    let mut records = Vec::new();
    let mut keep = |_: usize, _: usize, run: &Run, measurement: &Measurement| {
        records.push(Record {
            run: run.clone(),
            measurement: *measurement,
        });
    };
    let mut bench = Bench::new(&mut source, task, &modes, &prior, most, &mut keep);
    let _ = search::run(strategy, &mut bench, 0, None, &mut Memory::default());
    drop(bench);
    records
}

/// The best answers of some modes, for every load.
fn answers(
    case: &Case,
    modes: impl Iterator<Item = usize> + Clone,
    cell: impl Fn(usize, usize) -> Option<Cell> + Copy,
) -> Answers {
    let best = |load: &Load| {
        answer::best_by_power(modes.clone(), cell, &case.offers, load, &case.grid.powers)
    };
    let mut answers: Vec<Vec<Option<Answer>>> = case.grid.loads.iter().map(best).collect();
    if case.problem == StudyProblem::Dynamic {
        trace::hold(&mut answers, |load, power, mode| {
            let power = [case.grid.powers[power]];
            let load = &case.grid.loads[load];
            let one = std::iter::once(mode);
            let best = answer::best_by_power(one, cell, &case.offers, load, &power);
            best.first().copied().flatten()
        });
    }
    answers.into_iter().map(Some).collect()
}

/// The best answers of what was observed.
fn observed(case: &Case, pool: &Pool) -> Answers {
    let modes = pool.observed_modes();
    answers(case, modes.iter().copied(), |mode, slot| {
        pool.cell(mode, slot)
    })
}

/// The best answers of what is predicted from what was observed.
fn predicted(case: &Case, pool: &Pool, seed: u64, margin: Margin) -> Answers {
    let cells = nn::predict(&case.task, &case.modes, pool, seed);
    let slots = case.task.slots().len();
    answers(case, 0..case.modes.len(), |mode, slot| {
        cells[mode * slots + slot].map(|cell| margin.widen(cell))
    })
}

/// What a search for one demand found and cost.
struct Found {
    answer: Option<Answer>,
    runs: usize,
    modes: usize,
}

/// Judges answers by the true cells of the modes they chose. Time that changes of mode take is lost.
fn judge(case: &Case, answers: &Answers) -> Outcome {
    let mut losses = Vec::with_capacity(case.solvable);
    let mut violations = Violations::default();
    let mut configurations = 0;
    let complete = || answers.iter().cloned().collect::<Option<Vec<_>>>();
    let switching = (case.problem == StudyProblem::Dynamic)
        .then(complete)
        .flatten()
        .map(|complete| Switching::of(&complete, &case.modes));
    for (load, answers) in answers.iter().enumerate() {
        let Some(answers) = answers else {
            continue;
        };
        configurations += answers.len();
        for (power, answer) in answers.iter().enumerate() {
            let demand = (&case.grid.loads[load], case.grid.powers[power]);
            violations.answers += usize::from(answer.is_some());
            let valid = answer.and_then(|answer| {
                violations.count(case, &answer, demand.0, demand.1);
                true_answer(case, &answer, demand.0, demand.1)
            });
            let left = switching
                .as_ref()
                .map_or(1.0, |switching| 1.0 - switching.shares[load][power]);
            if let Some(optimum) = &case.optima[load][power] {
                let loss = |valid: Answer| valid.loss(optimum, &case.offers[valid.offer]);
                losses.push(valid.map(|valid| 1.0 - (1.0 - loss(valid)) * left));
            }
        }
    }
    Outcome {
        configurations,
        losses,
        violations,
        runs: 0.0,
        modes: 0.0,
        switches: switching.as_ref().map(Switching::per_window),
        switching_time: switching.as_ref().map(Switching::time_share),
        seconds: 0.0,
    }
}

/// What an answer really gives; `None` if it breaks a condition.
fn true_answer(case: &Case, answer: &Answer, load: &Load, power: MilliWatt) -> Option<Answer> {
    let cell = |mode: usize, slot: usize| -> Option<Cell> { case.cell(mode, slot) };
    let offer = [case.offers[answer.offer]];
    let best = answer::best_by_power(std::iter::once(answer.mode), cell, &offer, load, &[power]);
    best.first().copied().flatten().map(|found| Answer {
        offer: answer.offer,
        ..found
    })
}
