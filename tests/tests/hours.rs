//! Fifty hours of board time on the measured grids. Goal: budgets hold and training loses nothing against somebody
//! who knew each hour in advance. Method: `fulcrum_tests::hours`; a thousand and more hours are a command,
//! `cargo run --release -p fulcrum-tests --bin hours`. A failure names the seed that replays it.

use fulcrum_tests::hours::table;
use fulcrum_tests::{golden, grids};

/// Every kind of traffic five times without and five times with faults.
const SEEDS: std::ops::Range<u64> = 0..50;

#[test]
fn hours_on_measured_grids_keep_their_budgets_and_train_as_the_optimum_does() {
    let Some(folder) = grids::folder() else {
        return;
    };
    let plans = table::plans(&folder);
    let sums = table::live(&plans, SEEDS, |trace, outcome| {
        // One control period.
        assert!(outcome.excess_s <= 1.0, "seed {}: {outcome:?}", trace.seed);
        assert!(
            !trace.faults.is_empty() || outcome.met_share() >= 0.999,
            "seed {}: {outcome:?}",
            trace.seed
        );
    });
    let all = |name: &str| {
        let found = sums.iter().find(|(other, _)| other == name);
        found.map(|(_, sum)| sum.shares()).unwrap()
    };
    for name in ["all", "all, faults"] {
        let (met, trained, _) = all(name);
        let least = if name == "all" { 0.999 } else { 0.998 };
        assert!(met >= least && trained >= 0.97, "{name}: {met} {trained}");
    }
    golden::assert_golden("hours.txt", &table::text(&sums));
}
