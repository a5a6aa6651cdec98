//! Many hours as a table.

use super::trace::Trace;
use super::{Outcome, run};
use fulcrum_plan::PlanTable;
use fulcrum_planner::boards;
use fulcrum_planner::margin::Margin;
use fulcrum_planner::plan::{self, PlanRequest};
use fulcrum_planner::prior::Prior;
use fulcrum_planner::profile::ProfileSource;
use fulcrum_planner::profile::replay::Replay;
use fulcrum_planner::space::Grid;
use fulcrum_planner::workload::Role;
use fulcrum_runtime::arrivals::Process;
use std::fmt::Write as _;
use std::path::Path;

/// One plan for every pair of a training and an inference workload that a folder has: of all modes that were
/// measured for both, so that the optimum of the table is that of the grid.
///
/// # Panics
/// The folder is no replay.
#[must_use]
pub fn plans(folder: &Path) -> Vec<PlanTable> {
    let board = boards::named("orin-agx").expect("a board");
    let mut source =
        Replay::open(folder, Some("orin-agx")).unwrap_or_else(|error| panic!("{error}"));
    let names = |role: Role| -> Vec<String> {
        let of_role = source
            .workloads()
            .iter()
            .filter(|workload| workload.role == role);
        of_role.map(|workload| workload.name.clone()).collect()
    };
    let (trains, infers) = (names(Role::Train), names(Role::Infer));
    let mut plans = Vec::new();
    for train in &trains {
        for infer in &infers {
            let request = PlanRequest {
                train: Some(train.clone()),
                infer: vec![infer.clone()],
                strategy: "exhaustive".parse().expect("a strategy"),
                max_profiles: None,
                seed: 1,
                grid: Grid::All,
                demand: None,
                prior: Prior::default(),
                margin: Margin::default(),
            };
            let made = plan::make(&mut source, board, &request, &mut |_, _, _, _| {});
            plans.push(
                made.unwrap_or_else(|error| panic!("{train}, {infer}: {error}"))
                    .0,
            );
        }
    }
    plans
}

/// Traces of a kind, summed.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    traces: u64,
    total: Outcome,
    met_worst: Option<(f64, u64)>,
    train_worst: Option<(f64, u64)>,
    below: u64,
    excess_worst: Option<(f64, u64)>,
}

impl Sum {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.traces += 1;
        let total = &mut self.total;
        total.arrived += outcome.arrived;
        total.servable += outcome.servable;
        total.met += outcome.met;
        total.steps += outcome.steps;
        total.optimum.formula += outcome.optimum.formula;
        total.optimum.fluid += outcome.optimum.fluid;
        total.switches += outcome.switches;
        self.below += u64::from(outcome.met_share() < 0.999);
        let smaller = |worst: &mut Option<(f64, u64)>, share: f64| {
            if worst.is_none_or(|(least, _)| share < least) {
                *worst = Some((share, seed));
            }
        };
        smaller(&mut self.met_worst, outcome.met_share());
        smaller(&mut self.train_worst, outcome.train_share());
        smaller(&mut self.excess_worst, -outcome.excess_s);
    }

    /// Of all traces: the share of servable requests in time, training against the optimum, and the longest
    /// time above the power budget in seconds.
    #[must_use]
    pub fn shares(&self) -> (f64, f64, f64) {
        let (excess_s, _) = self.excess_worst.unwrap_or_default();
        (self.total.met_share(), self.total.train_share(), -excess_s)
    }

    fn line(&self, name: &str) -> String {
        let ((met, met_seed), (train, train_seed)) = (
            self.met_worst.unwrap_or_default(),
            self.train_worst.unwrap_or_default(),
        );
        let (excess_s, excess_seed) = self.excess_worst.unwrap_or_default();
        let total = &self.total;
        format!(
            "{name:<16} {:>6} {:>11} {:>9.4} {:>9.4} {:>6} {:>6} {:>8.2} {:>8.2} {:>7.2} {:>6} {:>6.1} {:>6} {:>9.1}",
            self.traces,
            total.servable,
            total.met_share() * 100.0,
            met * 100.0,
            met_seed,
            self.below,
            total.train_share() * 100.0,
            total.steps as f64 / total.optimum.fluid.max(1.0) * 100.0,
            train * 100.0,
            train_seed,
            -excess_s,
            excess_seed,
            total.switches as f64 / self.traces.max(1) as f64,
        )
    }
}

/// Lives the hours of some seeds.
pub fn live(
    plans: &[PlanTable],
    seeds: impl Iterator<Item = u64>,
    mut each: impl FnMut(&Trace, &Outcome),
) -> Vec<(String, Sum)> {
    let kinds = Process::NAMES.len();
    let mut sums = vec![Sum::default(); 2 * kinds + 2];
    for seed in seeds {
        let trace = Trace::draw(plans, seed);
        let outcome = run(&trace, &plans[trace.plan]);
        each(&trace, &outcome);
        let kind = Process::NAMES
            .iter()
            .position(|(_, process)| *process == trace.process);
        let faulty = usize::from(!trace.faults.is_empty());
        sums[faulty * kinds + kind.unwrap_or(0)].add(seed, &outcome);
        sums[2 * kinds + faulty].add(seed, &outcome);
    }
    let of = |faults: &'static str| Process::NAMES.map(|(name, _)| format!("{name}{faults}"));
    let names = of("").into_iter().chain(of(", faults"));
    let names = names.chain(["all".to_owned(), "all, faults".to_owned()]);
    names.zip(sums).collect()
}

/// The table of [`live`].
#[must_use]
pub fn text(sums: &[(String, Sum)]) -> String {
    let mut text = String::from(
        "                                      in time, % of servable     training, % of optimum       above budget    changes\n\
         traffic          traces    servable       all     worst   seed  <99.9      all    fluid   worst   seed  longest s   seed   an hour\n",
    );
    for (name, sum) in sums {
        let _ = writeln!(text, "{}", sum.line(name));
    }
    text
}
