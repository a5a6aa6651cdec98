//! Invariant I4: selection equals a naive scan of the same table.
//!
//! The scan below is written from the formulas of the paper in exact fractions (`i128`), without the
//! crate's arithmetic, its early end, or its order of evaluation.

mod sample;

use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, Selector, Solution, select};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_plan::{Cell, PlanTable};

/// What is compared: (throughput as a fraction, latency, power); and what identifies the answer.
struct Naive {
    /// steps * samples, requests per batch
    throughput: (i128, i128),
    /// `b * 10^9 + t * rate`
    latency: i128,
    power: u32,
    row: usize,
    batch: u16,
    /// Batch of the background; 0 for none.
    step_batch: u16,
    steps: i128,
}

fn cell(plan: &PlanTable, row: usize, slot: usize) -> Option<Cell> {
    plan.rows[row].cells[slot]
}

/// Slot, batch, and what a step counts.
fn background_slots(plan: &PlanTable, problem: Problem) -> Vec<(usize, u16, i128)> {
    match problem {
        Problem::TrainingInference(_) => plan
            .slot_train()
            .map(|slot| (slot, plan.train.as_ref().unwrap().batches[0], 1))
            .into_iter()
            .collect(),
        Problem::TwoInferences => plan
            .slots_infer(1)
            .map(|(slot, batch)| (slot, batch, i128::from(batch)))
            .collect(),
        _ => vec![],
    }
}

fn naive(plan: &PlanTable, problem: Problem, demand: &Demand) -> Option<Naive> {
    let workload = match problem {
        Problem::Inference(workload) | Problem::TrainingInference(workload) => workload,
        _ => 0,
    };
    let (budget, rate) = (demand.power_mw.0, i128::from(demand.rate.0));
    let mut all = Vec::new();
    for row in 0..plan.rows.len() {
        for (slot, batch) in plan.slots_infer(workload) {
            let Some(infer) = cell(plan, row, slot) else {
                continue;
            };
            let time = i128::from(infer.time_us.0);
            // window = batch / a, in us: batch * 1e9 / rate. Everything below is times `rate`.
            let window = i128::from(batch) * 1_000_000_000;
            let latency = window + time * rate;
            if latency > i128::from(demand.latency_us.0) * rate || time * rate > window || rate == 0
            {
                continue;
            }
            let mut push = |steps: i128, (step_batch, samples): (u16, i128), power: u32| {
                if power <= budget {
                    let throughput = (steps * samples, i128::from(batch));
                    all.push(Naive {
                        throughput,
                        latency,
                        power,
                        row,
                        batch,
                        step_batch,
                        steps,
                    });
                }
            };
            if matches!(problem, Problem::Inference(_)) {
                push(0, (0, 1), infer.power_mw.0);
            }
            for (slot, step_batch, samples) in background_slots(plan, problem) {
                let Some(step) = cell(plan, row, slot) else {
                    continue;
                };
                let steps = (window - time * rate) / (i128::from(step.time_us.0) * rate);
                push(
                    steps,
                    (step_batch, samples),
                    infer.power_mw.0.max(step.power_mw.0),
                );
            }
        }
    }
    all.into_iter().reduce(|best, next| {
        let (ours, theirs) = (next.throughput, best.throughput);
        let better = (ours.0 * theirs.1).cmp(&(theirs.0 * ours.1)).reverse();
        let order = better
            .then(next.latency.cmp(&best.latency))
            .then(next.power.cmp(&best.power));
        if order.is_lt() { next } else { best }
    })
}

fn random_demand(rng: &mut sample::Rng) -> Demand {
    Demand {
        power_mw: MilliWatt(rng.within(8_000, 55_000)),
        latency_us: MicroSec(rng.within(1_000, 3_000_000)),
        rate: MilliRps(rng.within(0, 400_000)),
    }
}

fn assert_same(found: Option<Solution>, naive: Option<Naive>, context: &str) {
    match (found, naive) {
        (None, None) => {}
        (Some(found), Some(naive)) => {
            let serving = found.serving.unwrap();
            assert_eq!(found.row, naive.row, "{context}");
            assert_eq!(serving.batch, naive.batch, "{context}");
            assert_eq!(found.power_mw.0, naive.power, "{context}");
            let steps = found
                .background
                .map_or(0, |background| i128::from(background.steps));
            assert_eq!(steps, naive.steps, "{context}");
            let step_batch = found.background.map_or(0, |background| background.batch);
            assert_eq!(step_batch, naive.step_batch, "{context}");
        }
        (found, naive) => panic!("{context}: {found:?}, naive: {}", naive.is_some()),
    }
}

/// Asks a plan everything at random demands; how many had an answer.
fn compare(plan: &PlanTable, seed: u64, demands: impl Fn(&mut sample::Rng) -> Demand) -> usize {
    let mut rng = sample::Rng(seed ^ 0xdead_beef);
    let mut answered = 0;
    let selector = Selector::new(plan);
    for _ in 0..20 {
        let demand = demands(&mut rng);
        for problem in [
            Problem::Inference(0),
            Problem::Inference(1),
            Problem::TrainingInference(0),
            Problem::TrainingInference(1),
            Problem::TwoInferences,
        ] {
            let found = selector.select(problem, &demand);
            answered += usize::from(found.is_some());
            let context = format!("seed {seed}, {problem:?}, {demand:?}");
            assert_same(found, naive(plan, problem, &demand), &context);
        }
    }
    answered
}

#[test]
fn i4_select_equals_a_naive_scan() {
    let answered: usize = (0..600)
        .map(|seed| compare(&sample::plan(seed, 80), seed, random_demand))
        .sum();
    assert!(
        answered > 1_000,
        "only {answered} demands had an answer: the test shows little"
    );
}

/// Times and powers of a few values only, and windows of whole multiples of them, so that nearly every
/// comparison is a tie.
#[test]
fn i4_select_equals_a_naive_scan_among_ties() {
    let mut answered = 0;
    for seed in 0..600 {
        let mut plan = sample::plan(seed, 80);
        let mut rng = sample::Rng(!seed);
        for cell in plan
            .rows
            .iter_mut()
            .flat_map(|row| &mut row.cells)
            .flatten()
        {
            cell.time_us = MicroSec(rng.within(1, 4) * 5_000);
            cell.power_mw = MilliWatt(rng.within(2, 4) * 5_000);
        }
        plan.rows.sort_by_key(|row| (row.power_min(), row.mode));
        answered += compare(&plan, seed, |rng| Demand {
            power_mw: MilliWatt(rng.within(2, 4) * 5_000),
            latency_us: MicroSec(rng.within(1, 200) * 5_000),
            rate: MilliRps(200_000 / rng.within(1, 8)),
        });
    }
    assert!(
        answered > 1_000,
        "only {answered} demands had an answer: the test shows little"
    );
}

#[test]
fn i4_training_select_equals_a_naive_scan() {
    for seed in 0..600 {
        let plan = sample::plan(seed, 80);
        let mut rng = sample::Rng(seed);
        for _ in 0..20 {
            let demand = random_demand(&mut rng);
            let found = select(&plan, Problem::Training, &demand);
            let fastest = (0..plan.rows.len())
                .filter_map(|row| cell(&plan, row, plan.slot_train()?))
                .filter(|cell| cell.power_mw <= demand.power_mw)
                .map(|cell| (cell.time_us, cell.power_mw))
                .min();
            let answer = found.map(|s| (s.background.unwrap().time_us, s.power_mw));
            assert_eq!(answer, fastest, "seed {seed}, {demand:?}");
        }
    }
}

#[test]
fn i3_every_answer_is_an_observed_cell_within_the_budgets() {
    for seed in 0..300 {
        let plan = sample::plan(seed, 80);
        let mut rng = sample::Rng(!seed);
        let demand = random_demand(&mut rng);
        for problem in [
            Problem::Inference(0),
            Problem::TrainingInference(0),
            Problem::TwoInferences,
        ] {
            let Some(found) = select(&plan, problem, &demand) else {
                continue;
            };
            let serving = found.serving.unwrap();
            let row = &plan.rows[found.row];
            assert_eq!(row.mode, found.mode);
            let observed = plan.slots_infer(0).any(|(slot, batch)| {
                batch == serving.batch
                    && row
                        .cell(slot)
                        .is_some_and(|cell| cell.time_us == serving.time_us)
            });
            assert!(observed, "seed {seed}");
            assert!(found.power_mw <= demand.power_mw, "seed {seed}");
            assert!(
                serving.latency_us <= u64::from(demand.latency_us.0),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn what_cannot_be_asked_has_no_answer() {
    let demand = Demand {
        power_mw: MilliWatt(u32::MAX),
        latency_us: MicroSec(u32::MAX),
        rate: MilliRps(1_000),
    };
    let mut plan = sample::plan(0, 10);
    plan.train = None;
    plan.infer.truncate(0);
    for problem in [
        Problem::Training,
        Problem::Inference(0),
        Problem::TwoInferences,
    ] {
        assert_eq!(select(&plan, problem, &demand), None, "{problem:?}");
    }
    let still = Demand {
        rate: MilliRps(0),
        ..demand
    };
    assert_eq!(
        select(&sample::plan(2, 10), Problem::Inference(0), &still),
        None
    );
}
