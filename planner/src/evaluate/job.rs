//! One strategy and seed on one case.

use super::StudyProblem;
use super::case::{self, Case};
use super::trace;
use super::violations::Violations;
use crate::answer::{self, Answer};
use crate::bench::Bench;
use crate::demand::Load;
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
    /// Time of computing, of all searches together.
    pub(super) seconds: f64,
}

/// Answers by load, then by power; nothing for a load that was left out.
type Answers = Vec<Option<Vec<Option<Answer>>>>;

/// A search for one demand is run for every seventh load where there are many: seven is prime to the
/// number of rates and of latency budgets of every grid, so that all of both occur.
const LOAD_STRIDE: usize = 7;
/// Loads up to which none is left out.
const LOADS_MAX: usize = 30;

/// A strategy with its seed on a source that may fail, for one case.
struct Job<'a, S> {
    source: &'a S,
    faults: Option<Faults>,
    case: &'a Case,
    strategy: &'a Strategy,
    seed: u64,
}

/// Runs one job.
pub(super) fn run<S: ProfileSource + Clone + Sync>(
    source: &S,
    case: &Case,
    strategy: &Strategy,
    faults: Option<Faults>,
    seed: u64,
) -> Outcome {
    let start = Instant::now();
    let job = Job {
        source,
        faults,
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
            Kind::Nn => predicted(case, &pool, seed),
            _ => observed(case, &pool),
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
        let source: &mut dyn ProfileSource = match self.faults {
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
        let stride = if count > LOADS_MAX { LOAD_STRIDE } else { 1 };
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
                power_mw,
                latency_us: load.latency_us,
                rate: load.rate,
            },
        };
        let (pool, runs) = self.search(Some(&goal), memory);
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
    case.grid
        .loads
        .iter()
        .map(|load| Some(best(load)))
        .collect()
}

/// The best answers of what was observed.
fn observed(case: &Case, pool: &Pool) -> Answers {
    let modes = pool.observed_modes();
    answers(case, modes.iter().copied(), |mode, slot| {
        pool.cell(mode, slot)
    })
}

/// The best answers of what is predicted from what was observed.
fn predicted(case: &Case, pool: &Pool, seed: u64) -> Answers {
    let cells = nn::predict(&case.task, &case.modes, pool, seed);
    let slots = case.task.slots().len();
    answers(case, 0..case.modes.len(), |mode, slot| {
        cells[mode * slots + slot]
    })
}

/// What a search for one demand found and cost.
struct Found {
    answer: Option<Answer>,
    runs: usize,
    modes: usize,
}

/// Judges answers by the true cells of the modes they chose.
fn judge(case: &Case, answers: &Answers) -> Outcome {
    let mut losses = Vec::with_capacity(case.solvable);
    let mut violations = Violations::default();
    let mut answered = 0;
    let mut configurations = 0;
    for ((load, optima), answers) in case.grid.loads.iter().zip(&case.optima).zip(answers) {
        let Some(answers) = answers else {
            continue;
        };
        configurations += answers.len();
        for ((power, optimum), answer) in case.grid.powers.iter().zip(optima).zip(answers) {
            answered += usize::from(answer.is_some());
            let valid = answer.and_then(|answer| {
                violations.count(case, &answer, load, *power);
                true_answer(case, &answer, load, *power)
            });
            if let Some(optimum) = optimum {
                losses.push(valid.map(|valid| valid.loss(optimum, &case.offers[valid.offer])));
            }
        }
    }
    violations.answers = answered;
    let is_trace = case.problem == StudyProblem::Dynamic;
    Outcome {
        configurations,
        losses,
        violations,
        runs: 0.0,
        modes: 0.0,
        switches: is_trace
            .then(|| answers.iter().cloned().collect::<Option<Vec<_>>>())
            .flatten()
            .map(|complete| trace::switches(&complete)),
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
