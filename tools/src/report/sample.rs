//! Small plans for tests, made as users make them: searched on a simulated board.

use super::journal::Journal;
use fulcrum_plan::PlanTable;
use fulcrum_planner::boards;
use fulcrum_planner::margin::Margin;
use fulcrum_planner::plan::{self, PlanRequest};
use fulcrum_planner::prior::Prior;
use fulcrum_planner::profile::faults::{Faults, Unreliable};
use fulcrum_planner::profile::journal::{Header, Record};
use fulcrum_planner::profile::synthetic::Synthetic;
use fulcrum_planner::space::Grid;

/// A search: its plan, and what its journal would hold.
pub(super) fn search(
    train: Option<&str>,
    infer: &[&str],
    faults: Faults,
) -> (PlanTable, Header, Vec<Record>) {
    let request = PlanRequest {
        train: train.map(str::to_owned),
        infer: infer.iter().map(ToString::to_string).collect(),
        strategy: "rnd:90".parse().unwrap(),
        max_profiles: None,
        seed: 3,
        grid: Grid::Subset441,
        demand: None,
        prior: Prior::default(),
        margin: Margin::default(),
    };
    let board = boards::named("orin-agx").unwrap();
    let mut source = Unreliable::new(Synthetic::new(board, 3), faults);
    let header = plan::journal_header(&source, &request).unwrap();
    let mut records = Vec::new();
    let (table, _) = plan::make(
        &mut source,
        board,
        &request,
        &mut |_, _, run, measurement| {
            records.push(Record {
                run: run.clone(),
                measurement: *measurement,
            });
        },
    )
    .unwrap();
    (table, header, records)
}

/// Training and inference, nothing failed.
pub(super) fn plan() -> PlanTable {
    search(Some("lstm"), &["mobilenetv3"], Faults::default()).0
}

/// The same with clocks that got stuck.
pub(super) fn with_journal() -> (PlanTable, Journal) {
    let faults = Faults {
        seed: 1,
        stuck_clock: 0.1,
        ..Faults::default()
    };
    let (plan, header, records) = search(Some("lstm"), &["mobilenetv3"], faults);
    let journal = Journal::of(&plan, &header, records).unwrap();
    (plan, journal)
}
