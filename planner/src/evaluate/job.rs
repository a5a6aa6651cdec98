//! One strategy and seed on one case.

use super::StudyProblem;
use super::case::Case;
use super::summary::Violations;
use super::trace;
use crate::answer::{self, Answer};
use crate::bench::Bench;
use crate::demand::Load;
use crate::pool::Pool;
use crate::profile::{Measurement, ProfileSource, Run};
use crate::search::{self, Goal, Kind, Strategy, nn};
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

/// Answers by load, then by power.
type Answers = Vec<Vec<Option<Answer>>>;

/// Runs one job.
pub(super) fn run<S: ProfileSource + Clone + Sync>(
    source: &S,
    case: &Case,
    strategy: &Strategy,
    seed: u64,
) -> Outcome {
    let start = Instant::now();
    let (answers, runs, modes) = if strategy.kind.is_for_one_demand() {
        by_demand(source, case, strategy, seed)
    } else {
        let (pool, runs) = search(source, case, strategy, seed, None);
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

fn search<S: ProfileSource + Clone>(
    source: &S,
    case: &Case,
    strategy: &Strategy,
    seed: u64,
    goal: Option<&Goal>,
) -> (Pool, usize) {
    let mut source = source.clone();
    let mut quiet = |_: usize, _: usize, _: &Run, _: &Measurement| {};
    let most = match strategy.limit {
        Some(limit) if !strategy.kind.is_for_one_demand() => limit as usize,
        _ => usize::MAX,
    };
    let mut bench = Bench::new(&mut source, &case.task, &case.modes, most, &mut quiet);
    // A search that stops early has what it has; without a goal where one is needed it has nothing.
    let _ = search::run(strategy, &mut bench, seed, goal);
    let (pool, runs, _) = bench.finish();
    (pool, runs)
}

/// The best answers of what was observed.
fn observed(case: &Case, pool: &Pool) -> Answers {
    let modes = pool.observed_modes();
    let best = |load: &Load| {
        let cell = |mode: usize, slot: usize| pool.cell(mode, slot);
        answer::best_by_power(
            modes.iter().copied(),
            cell,
            &case.offers,
            load,
            &case.grid.powers,
        )
    };
    case.grid.loads.iter().map(best).collect()
}

/// The best answers of what is predicted from what was observed.
fn predicted(case: &Case, pool: &Pool, seed: u64) -> Answers {
    let cells = nn::predict(&case.task, &case.modes, pool, seed);
    let slots = case.task.slots().len();
    let best = |load: &Load| {
        let cell = |mode: usize, slot: usize| cells[mode * slots + slot];
        answer::best_by_power(
            0..case.modes.len(),
            cell,
            &case.offers,
            load,
            &case.grid.powers,
        )
    };
    case.grid.loads.iter().map(best).collect()
}

/// A search per solvable configuration; with the mean of profiles and of modes.
fn by_demand<S: ProfileSource + Clone + Sync>(
    source: &S,
    case: &Case,
    strategy: &Strategy,
    seed: u64,
) -> (Answers, f64, f64) {
    let answer = |at: usize| -> Option<(Option<Answer>, usize, usize)> {
        let width = case.grid.powers.len();
        let (load, power_mw) = (case.grid.loads[at / width], case.grid.powers[at % width]);
        case.optima[at / width][at % width]?;
        let goal = Goal {
            problem: case.problem.formulas(),
            demand: Demand {
                power_mw,
                latency_us: load.latency_us,
                rate: load.rate,
            },
        };
        let (pool, runs) = search(source, case, strategy, seed, Some(&goal));
        let modes = pool.observed_modes();
        let cell = |mode: usize, slot: usize| pool.cell(mode, slot);
        let best = answer::best_by_power(
            modes.iter().copied(),
            cell,
            &case.offers,
            &load,
            &[power_mw],
        );
        Some((best.first().copied().flatten(), runs, modes.len()))
    };
    let width = case.grid.powers.len();
    let found: Vec<_> = (0..width * case.grid.loads.len())
        .into_par_iter()
        .map(answer)
        .collect();
    let searches = found.iter().flatten().count().max(1) as f64;
    let runs: usize = found.iter().flatten().map(|(_, runs, _)| runs).sum();
    let modes: usize = found.iter().flatten().map(|(_, _, modes)| modes).sum();
    let answers = found
        .chunks(width)
        .map(|row| {
            row.iter()
                .map(|found| found.and_then(|(answer, ..)| answer))
                .collect()
        })
        .collect();
    (answers, runs as f64 / searches, modes as f64 / searches)
}

/// Judges answers by the true cells of the modes they chose.
fn judge(case: &Case, answers: &Answers) -> Outcome {
    let mut losses = Vec::with_capacity(case.solvable);
    let mut violations = Violations::default();
    let mut answered = 0;
    for ((load, optima), answers) in case.grid.loads.iter().zip(&case.optima).zip(answers) {
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
        configurations: case.grid.loads.len() * case.grid.powers.len(),
        losses,
        violations,
        runs: 0.0,
        modes: 0.0,
        switches: is_trace.then(|| trace::switches(answers)),
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
