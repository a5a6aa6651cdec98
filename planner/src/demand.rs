//! The demands that users have: budgets of power and latency, and arrival rates.
//!
//! The grids are those of the Fulcrum draft (fulcrum.md section 6). The draft gives BERT a grid of its
//! own, because no other would have a solution; here that is a property, not a name: a workload is
//! *heavy* when its fastest minibatch takes longer than a limit. The draft's power budgets, 10 W to 50 or
//! 60 W, are those of an AGX Orin; a board whose modes all draw less than [`DRAFT_POWER_MIN`] at most gets
//! as many budgets over its own range.

use crate::workload::Task;
use fulcrum_plan::Cell;
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

/// A board that never draws this much has nothing to choose at most of the draft's budgets.
pub const DRAFT_POWER_MIN: MilliWatt = MilliWatt(30_000);
/// Budgets of a board with a range of its own: as many as the draft has from 10 to 50 W.
const OWN_BUDGETS: u32 = 41;

/// The smallest and the largest power of some cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PowerRange {
    /// Smallest.
    pub low: MilliWatt,
    /// Largest.
    pub high: MilliWatt,
}

impl PowerRange {
    /// The range of cells; of no cell, that of the draft's board.
    #[must_use]
    pub fn of(cells: impl Iterator<Item = Cell> + Clone) -> Self {
        let powers = cells.map(|cell| cell.power_mw);
        Self {
            low: powers.clone().min().unwrap_or(MilliWatt(10_000)),
            high: powers.max().unwrap_or(MilliWatt(50_000)),
        }
    }

    /// Budgets in watts up to `watts_max`, or the board's own.
    fn budgets(self, watts_max: u32) -> Vec<MilliWatt> {
        if self.high >= DRAFT_POWER_MIN {
            return (10..=watts_max)
                .map(|watts| MilliWatt(watts * 1000))
                .collect();
        }
        let span = self.high.0.saturating_sub(self.low.0);
        (0..OWN_BUDGETS)
            .map(|step| MilliWatt(self.low.0 + (span * step).div_ceil(OWN_BUDGETS - 1)))
            .collect()
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
    /// is heavy; `range` is what the board is known to draw.
    #[must_use]
    pub fn of(problem: Problem, heavy: bool, range: PowerRange) -> Self {
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
            powers: range.budgets(watts_max),
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
        let range = PowerRange {
            low: MilliWatt(11_000),
            high: MilliWatt(51_000),
        };
        let count = |problem, heavy| DemandGrid::of(problem, heavy, range).demands().count();
        assert_eq!(count(Problem::Training, false), 41);
        assert_eq!(count(Problem::Training, true), 51);
        assert_eq!(count(Problem::Inference(0), false), 41 * 11 * 13);
        assert_eq!(count(Problem::Inference(0), true), 41 * 8 * 15);
        assert_eq!(count(Problem::TrainingInference(0), false), 41 * 16 * 10);
        assert_eq!(count(Problem::TwoInferences, true), 41 * 9 * 15);
    }

    #[test]
    fn a_small_board_has_budgets_over_its_own_range() {
        let cell = |power_mw| Cell {
            time_us: MicroSec(1),
            power_mw: MilliWatt(power_mw),
        };
        let range = PowerRange::of([5_500, 10_900, 7_000].map(cell).into_iter());
        let powers = DemandGrid::of(Problem::Training, false, range).powers;
        assert_eq!(powers.len(), 41);
        assert_eq!(powers.first(), Some(&MilliWatt(5_500)));
        assert_eq!(powers.last(), Some(&MilliWatt(10_900)));
        assert!(powers.is_sorted_by(|low, high| low < high));
    }
}
