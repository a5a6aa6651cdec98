//! Statistics of outcomes.

use super::job::Outcome;
use super::violations::Violations;
use super::{Part, StudyProblem};
use crate::search::Strategy;
use serde::Serialize;

/// Loss against the exhaustive optimum over all solvable configurations, as a share: of throughput
/// lost, or of peak latency in excess. A configuration that was not solved counts as 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Losses {
    /// Mean.
    pub mean: f64,
    /// Mean over the solved ones.
    pub mean_solved: f64,
    /// Median.
    pub median: f64,
    /// 95th percentile.
    pub p95: f64,
    /// Largest.
    pub worst: f64,
}

/// One line of the results.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Problem.
    pub problem: StudyProblem,
    /// Candidate modes, as named.
    pub grid: String,
    /// Task, or `None` for all of them.
    pub task: Option<String>,
    /// Strategy.
    pub strategy: String,
    /// Seeds that were run: one where nothing is random, whose result is that of every seed.
    pub seeds: u64,
    /// Configurations, over tasks and seeds.
    pub configurations: usize,
    /// Those with a solution.
    pub solvable: usize,
    /// Share of the solvable ones that were solved without a violation.
    pub solved: f64,
    /// Loss.
    pub loss: Losses,
    /// Largest mean loss of a task.
    pub worst_task_mean: f64,
    /// Violations.
    pub violations: Violations,
    /// Profiles per search.
    pub runs: f64,
    /// Modes per search.
    pub modes: f64,
    /// Changes of mode per window (dynamic only).
    pub switches_per_window: Option<f64>,
    /// Share of the time that these changes take (dynamic only); the loss includes it.
    pub switching_time: Option<f64>,
    /// Computing time per task and seed, in seconds. The one number that is not reproducible.
    pub seconds: f64,
}

impl Summary {
    /// Over the outcomes of a strategy in a part of the study, for one task or for all.
    pub(super) fn of(
        part: &Part,
        strategy: &Strategy,
        (task, seeds): (Option<&str>, u64),
        outcomes: &[&Outcome],
    ) -> Self {
        let count = outcomes.len().max(1) as f64;
        let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(|o| of(o)).sum::<f64>() / count;
        let all: Vec<Option<f64>> = outcomes
            .iter()
            .flat_map(|o| o.losses.iter().copied())
            .collect();
        let solved = all.iter().flatten().count();
        let mut violations = Violations::default();
        for outcome in outcomes {
            violations.add(&outcome.violations);
        }
        let mean_of_some = |of: fn(&Outcome) -> Option<f64>| {
            let known: Vec<f64> = outcomes.iter().filter_map(|o| of(o)).collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        Self {
            problem: part.problem,
            grid: part.grid.to_string(),
            task: task.map(str::to_owned),
            strategy: strategy.to_string(),
            seeds,
            configurations: outcomes.iter().map(|o| o.configurations).sum(),
            solvable: all.len(),
            solved: solved as f64 / all.len().max(1) as f64,
            loss: losses(&all),
            worst_task_mean: losses(&all).mean,
            violations,
            runs: mean(|o| o.runs),
            modes: mean(|o| o.modes),
            switches_per_window: mean_of_some(|o| o.switches),
            switching_time: mean_of_some(|o| o.switching_time),
            seconds: mean(|o| o.seconds),
        }
    }
}

/// Titles of [`Summary::columns`].
pub const COLUMNS: [&str; 11] = [
    "mean %",
    "worst task %",
    "median %",
    "p95 %",
    "worst %",
    "solved %",
    "over P/L/rate",
    "> 1 W, 10 ms",
    "runs",
    "modes",
    "s",
];

impl Summary {
    /// The problem, with its grid where that is not the usual one.
    #[must_use]
    pub fn title(&self) -> String {
        match self.grid.as_str() {
            "all" => format!("{}, all modes", self.problem.name()),
            _ => self.problem.name().to_owned(),
        }
    }

    /// The numbers for people, in the order of [`COLUMNS`].
    #[must_use]
    pub fn columns(&self) -> [String; COLUMNS.len()] {
        let percent = |share: f64| format!("{:.2}", 100.0 * share);
        let Violations {
            power,
            latency,
            rate,
            gross,
            ..
        } = self.violations;
        [
            percent(self.loss.mean),
            percent(self.worst_task_mean),
            percent(self.loss.median),
            percent(self.loss.p95),
            percent(self.loss.worst),
            percent(self.solved),
            format!("{power}/{latency}/{rate}"),
            gross.to_string(),
            format!("{:.1}", self.runs),
            format!("{:.1}", self.modes),
            format!("{:.2}", self.seconds),
        ]
    }
}

fn losses(all: &[Option<f64>]) -> Losses {
    let mut sorted: Vec<f64> = all.iter().map(|loss| loss.unwrap_or(1.0)).collect();
    sorted.sort_by(f64::total_cmp);
    let solved: Vec<f64> = all.iter().flatten().copied().collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let quantile = |share: f64| -> f64 {
        let at = ((sorted.len() as f64 * share).ceil() as usize).max(1) - 1;
        sorted.get(at).copied().unwrap_or(0.0)
    };
    Losses {
        mean: mean(&sorted),
        mean_solved: mean(&solved),
        median: quantile(0.5),
        p95: quantile(0.95),
        worst: quantile(1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsolved_configuration_counts_as_everything_lost() {
        let losses = losses(&[Some(0.0), Some(0.2), None, Some(0.1)]);
        assert!((losses.mean - 0.325).abs() < 1e-12);
        assert!((losses.mean_solved - 0.1).abs() < 1e-12);
        assert_eq!((losses.median, losses.p95, losses.worst), (0.1, 1.0, 1.0));
    }
}
