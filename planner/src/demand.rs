//! The demands that users have: budgets of power and latency, and arrival rates.
//!
//! The grids are those of the Fulcrum draft (fulcrum.md section 6). The draft gives BERT a grid of its
//! own, because no other would have a solution; here that is a property, not a name: a workload is
//! *heavy* when its fastest minibatch takes longer than a limit.

use crate::workload::Task;
use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::Problem;
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};

/// A workload whose smallest inference minibatch takes longer than this at best is heavy: the lightest
/// latency budgets of the draft, 50 to 150 ms, leave it no room.
pub const HEAVY_INFER_US: u32 = 50_000;
/// A training minibatch that takes longer than this at best is heavy.
pub const HEAVY_TRAIN_US: u32 = 300_000;

/// The slot that decides whether a task is heavy, and the time in µs beyond which it is: the smallest
/// batch of what is served, else the training minibatch.
#[must_use]
pub fn heavy_limit(task: &Task) -> (usize, u32) {
    match task.slots_infer(0).first() {
        Some(&slot) => (slot, HEAVY_INFER_US),
        None => (0, HEAVY_TRAIN_US),
    }
}

/// Latency budget and arrival rate of one demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    /// Latency budget.
    pub latency_us: MicroSec,
    /// Arrival rate.
    pub rate: MilliRps,
}

/// Every combination of a power budget and a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemandGrid {
    /// Power budgets, ascending.
    pub powers: Vec<MilliWatt>,
    /// Loads; a single one of no meaning for training alone.
    pub loads: Vec<Load>,
}

fn loads(
    latencies_ms: impl Iterator<Item = u32>,
    rates: impl Iterator<Item = u32> + Clone,
) -> Vec<Load> {
    latencies_ms
        .flat_map(|ms| {
            rates.clone().map(move |per_second| Load {
                latency_us: MicroSec(ms * 1000),
                rate: MilliRps(per_second * 1000),
            })
        })
        .collect()
}

impl DemandGrid {
    /// The grid of a problem. `heavy` is whether the workload that is served or, in training, trained
    /// is heavy.
    #[must_use]
    pub fn of(problem: Problem, heavy: bool) -> Self {
        let watts_max = if heavy && problem == Problem::Training {
            60
        } else {
            50
        };
        let loads = match (problem, heavy) {
            (Problem::Training, _) => vec![Load {
                latency_us: MicroSec(u32::MAX),
                rate: MilliRps(0),
            }],
            (Problem::Inference(_), false) => loads((50..=150).step_by(10), (30..=90).step_by(5)),
            (Problem::Inference(_), true) => loads((1000..=2400).step_by(200), 1..=15),
            (_, false) => loads((500..=2000).step_by(100), (30..=120).step_by(10)),
            (_, true) => loads((2000..=6000).step_by(500), 1..=15),
        };
        Self {
            powers: (10..=watts_max)
                .map(|watts| MilliWatt(watts * 1000))
                .collect(),
            loads,
        }
    }

    /// Every demand, by load, then by power.
    pub fn demands(&self) -> impl Iterator<Item = Demand> + '_ {
        self.loads.iter().flat_map(|load| {
            self.powers.iter().map(|power| Demand {
                power_mw: *power,
                latency_us: load.latency_us,
                rate: load.rate,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grids_have_the_drafts_sizes() {
        let count = |problem, heavy| DemandGrid::of(problem, heavy).demands().count();
        assert_eq!(count(Problem::Training, false), 41);
        assert_eq!(count(Problem::Training, true), 51);
        assert_eq!(count(Problem::Inference(0), false), 41 * 11 * 13);
        assert_eq!(count(Problem::Inference(0), true), 41 * 8 * 15);
        assert_eq!(count(Problem::TrainingInference(0), false), 41 * 16 * 10);
        assert_eq!(count(Problem::TwoInferences, true), 41 * 9 * 15);
    }
}
