//! Hours of board time in seconds: the loop under traffic, noise, spikes, slowdown and failures.
//!
//! Goal: the promises of `docs/loop.md` hold for arrivals that nobody planned for. Method: the very loop of
//! `fulcrumd` on a virtual clock. Every failure prints the seed that replays it.

mod simulation;

use fulcrum_plan::problem::steps_per_window;
use fulcrum_plan::units::{MicroSec, MilliRps};
use fulcrum_runtime::arrivals::{Arrivals, Process};
use fulcrum_runtime::schedule::{Assignment, Overload, Policy, Serving};
use simulation::{Disturbance, Outcome, SECOND_NS, USUAL, run};
use std::fmt::Write;

const MS: u64 = 1_000_000;
const HOUR_NS: u64 = 3600 * SECOND_NS;

/// The worked example of the plan format: batches of 32 in 46 ms, training steps of 70 ms, at 60/s.
const RATE: f64 = 60.0;

fn assignment(budget_ms: u64, trains: bool) -> Assignment {
    Assignment {
        serving: Some(Serving {
            batch: 32,
            infer_ns: 46 * MS,
            budget_ns: budget_ms * MS,
        }),
        train_ns: trains.then_some(70 * MS),
        bulk: None,
        policy: Policy::default(),
    }
}

/// Arrivals, and the rate that the loop is told: the highest.
fn traffic(process: Process, rate: f64, seed: u64) -> (Arrivals, MilliRps) {
    let milli = |rate: f64| MilliRps((rate * 1e3) as u32);
    let arrivals = Arrivals::new(process, milli(rate), seed, 0).unwrap();
    (arrivals, milli(rate * process.peak()))
}

fn hour(process: Process, rate: f64, budget_ms: u64, trains: bool, seed: u64) -> Outcome {
    let traffic = traffic(process, rate, seed);
    run(
        assignment(budget_ms, trains),
        traffic,
        USUAL,
        (seed, HOUR_NS),
    )
}

/// The best that training could do: all time that full batches leave.
fn steps_at_most(serving: &Serving, train_ns: u64, outcome: &Outcome, duration_ns: u64) -> f64 {
    let batches = outcome.served as f64 / f64::from(serving.batch);
    (duration_ns as f64 - batches * serving.infer_ns as f64) / train_ns as f64
}

#[test]
fn the_latency_budget_holds_for_every_kind_of_traffic() {
    // 700 ms: the plan's own peak latency is 580 ms at 60/s.
    for (_, traffic) in Process::NAMES {
        for seed in 0..4 {
            let managed = hour(traffic, RATE / traffic.peak(), 700, true, seed);
            assert!(
                managed.missed_ppm() <= 1_000,
                "{traffic:?}, seed {seed}: {} of {} missed",
                managed.missed,
                managed.arrived
            );
        }
    }
}

#[test]
fn training_gets_at_least_what_the_formula_promises() {
    let serving = assignment(700, true).serving.unwrap();
    let steps = steps_per_window(32, MilliRps(60_000), MicroSec(46_000), MicroSec(70_000)).unwrap();
    let promised = steps as f64 * RATE / 32.0 * 3600.0;
    for traffic in [Process::Constant, Process::Poisson] {
        let outcome = hour(traffic, RATE, 700, true, 1);
        assert!(
            outcome.steps as f64 >= 0.97 * promised,
            "{traffic:?}: {outcome:?}"
        );
        let most = steps_at_most(&serving, 70 * MS, &outcome, HOUR_NS);
        assert!(
            (outcome.steps as f64) < 1.005 * most,
            "{traffic:?}: {outcome:?}"
        );
    }
}

#[test]
fn a_slower_board_costs_training_first() {
    let slower = Disturbance {
        slower: 2.0,
        ..USUAL
    };
    let seed = 5;
    let traffic = traffic(Process::Poisson, RATE, seed);
    let outcome = run(assignment(700, true), traffic, slower, (seed, HOUR_NS));
    assert!(outcome.missed_ppm() <= 1_000, "seed {seed}: {outcome:?}");
    let undisturbed = hour(Process::Poisson, RATE, 700, true, seed);
    assert!(
        outcome.steps < undisturbed.steps * 4 / 5,
        "seed {seed}: {outcome:?}"
    );
}

#[test]
fn failures_are_counted_and_nothing_else_suffers() {
    let failing = Disturbance {
        fail_every: 500,
        ..USUAL
    };
    let seed = 6;
    let traffic = traffic(Process::Poisson, RATE, seed);
    let outcome = run(assignment(700, true), traffic, failing, (seed, HOUR_NS));
    // One batch in 500 fails: 2,000 ppm of the requests.
    assert!(outcome.missed_ppm() < 4_000, "seed {seed}: {outcome:?}");
}

#[test]
fn overload_starves_training_and_keeps_the_admitted_in_time() {
    // 1,000/s: inference alone serves 695/s.
    let seed = 7;
    for overload in [Overload::RejectNewest, Overload::DropLate] {
        let overloaded = Assignment {
            policy: Policy {
                overload,
                ..Policy::default()
            },
            ..assignment(700, true)
        };
        let traffic = traffic(Process::Poisson, 1000.0, seed);
        let outcome = run(overloaded, traffic, USUAL, (seed, 600 * SECOND_NS));
        assert!(outcome.steps < 10, "seed {seed}: {outcome:?}");
        // Inference works without a pause, and little of it is in vain.
        let possible = 32.0 / 0.046 * 600.0;
        assert!(
            outcome.served as f64 > 0.95 * possible,
            "seed {seed}: {outcome:?}"
        );
        // Of the fourteen batches that one waits for, one in 1,000 takes twice as long.
        assert!(
            outcome.late * 50 < outcome.served,
            "seed {seed}: {outcome:?}"
        );
    }
}

/// With a share of the time that training is promised, in thousandths.
fn promised(share_per_mille: u16, budget_ms: u64, train_ms: u64) -> Assignment {
    Assignment {
        train_ns: Some(train_ms * MS),
        policy: Policy {
            overload: Overload::RejectNewest,
            train_share_per_mille: share_per_mille,
        },
        ..assignment(budget_ms, true)
    }
}

#[test]
fn a_promised_share_is_kept_under_overload_and_who_is_admitted_is_in_time() {
    // Inference alone serves 695/s; 600/s leave an eighth of the time.
    let seed = 8;
    for (share_per_mille, budget_ms, train_ms) in [
        (200, 700, 70),
        (300, 300, 5),
        (500, 300, 70),
        (500, 1_000, 460),
        (900, 700, 70),
        // Hardly more than a batch fits beside the share.
        (600, 160, 5),
        (700, 200, 5),
    ] {
        for rate in [600.0, 1_000.0] {
            let assignment = promised(share_per_mille, budget_ms, train_ms);
            let traffic = traffic(Process::Poisson, rate, seed);
            let outcome = run(assignment, traffic, USUAL, (seed, 600 * SECOND_NS));
            let promised = f64::from(share_per_mille) / 1e3;
            let share = outcome.steps as f64 * train_ms as f64 / 600e3;
            let served = outcome.served as f64 * 0.046 / 32.0 / 600.0;
            let case = format!("{assignment:?}, {rate}/s, seed {seed}: {outcome:?}");
            assert!((share - promised).abs() < 0.01, "{share}, {case}");
            assert!(share + served > 0.99, "{served}, {case}");
            assert!(outcome.late * 200 < outcome.served, "{case}");
        }
    }
}

#[test]
fn a_promised_share_is_kept_where_times_spread() {
    let spread = Disturbance {
        noise: 0.15,
        spike_every: 100,
        ..USUAL
    };
    let seed = 10;
    let traffic = traffic(Process::Poisson, 1_000.0, seed);
    let outcome = run(
        promised(500, 300, 15),
        traffic,
        spread,
        (seed, 600 * SECOND_NS),
    );
    let share = outcome.steps as f64 * 15.0 / 600e3;
    assert!(share > 0.47, "{share}, seed {seed}: {outcome:?}");
    assert!(
        outcome.late * 50 < outcome.served,
        "seed {seed}: {outcome:?}"
    );
}

#[test]
fn a_promised_share_is_kept_where_answers_may_be_late() {
    // A thousand wait, each for more than a second: none is in time, and yet inference gets all that is not promised.
    let seed = 11;
    let mut assignment = promised(300, 700, 70);
    assignment.policy.overload = Overload::AnswerLate;
    let traffic = traffic(Process::Poisson, 1_000.0, seed);
    let outcome = run(assignment, traffic, USUAL, (seed, 600 * SECOND_NS));
    let share = outcome.steps as f64 * 0.07 / 600.0;
    assert!(
        (share - 0.3).abs() < 0.01,
        "{share}, seed {seed}: {outcome:?}"
    );
    let served = outcome.served as f64 * 0.046 / 32.0 / 600.0;
    assert!(share + served > 0.99, "{served}, seed {seed}: {outcome:?}");
    assert!(
        outcome.late * 10 > 9 * outcome.served,
        "seed {seed}: {outcome:?}"
    );
}

#[test]
fn a_promise_that_the_gaps_keep_anyway_changes_nothing() {
    let hours = [0, 200].map(|share_per_mille| {
        let traffic = traffic(Process::Poisson, RATE, 9);
        run(
            promised(share_per_mille, 700, 70),
            traffic,
            USUAL,
            (9, HOUR_NS),
        )
    });
    assert_eq!(hours[0], hours[1], "seed 9");
}

#[test]
fn the_same_seed_replays_the_same_hour() {
    let outcome = |seed| hour(Process::Bursts, 30.0, 700, true, seed);
    assert_eq!(outcome(3), outcome(3));
    assert_ne!(outcome(3), outcome(4));
}

/// Traffic x budget, one hour each, as a table that reviews like code. `FULCRUM_BLESS=1` rewrites it.
#[test]
fn the_table_of_outcomes_is_the_golden_one() {
    let mut table = String::from(
        "one hour, batches of 32 in 46 ms, steps of 70 ms, mean 60/s or the mean of a 60/s peak, seed 1\n\
         traffic   budget  arrived  missed ppm  batches   steps  of possible  p99 ms\n",
    );
    for (_, traffic) in Process::NAMES {
        for budget_ms in [300, 600, 700, 1000] {
            let outcome = hour(traffic, RATE / traffic.peak(), budget_ms, true, 1);
            let serving = assignment(budget_ms, true).serving.unwrap();
            let most = steps_at_most(&serving, 70 * MS, &outcome, HOUR_NS);
            writeln!(
                table,
                "{:<9} {budget_ms:>4} ms {:>8} {:>11} {:>8} {:>7} {:>10.1} % {:>7}",
                format!("{traffic:?}"),
                outcome.arrived,
                outcome.missed_ppm(),
                outcome.batches,
                outcome.steps,
                outcome.steps as f64 / most * 100.0,
                outcome.latency_p99_ns / MS,
            )
            .unwrap();
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulation/outcomes.txt");
    if std::env::var_os("FULCRUM_BLESS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let golden = std::fs::read_to_string(path).unwrap();
    assert_eq!(table, golden, "FULCRUM_BLESS=1 rewrites {path}");
}
