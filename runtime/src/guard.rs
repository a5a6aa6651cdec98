//! The guard: keeps power, latency and arrivals within what the present mode was chosen for.
//!
//! Once per control period ([`PERIOD_NS`]) it looks at what was measured and may ask for another row of the
//! plan. It reads no clock, does no I/O, does not allocate and does not panic; the loop carries a change
//! out when [`crate::schedule`] says so.
//!
//! - **Power above the budget, over-current, heat**: the power that selection may use (the *cap*) goes down
//!   at once, by what was measured too much. If no row fits any more, training stops first; then the row of
//!   the least power is taken. After [`CALM_PERIODS`] quiet periods the cap climbs back by half of the way;
//!   every relapse doubles the wait.
//! - **A slower board than the plan says**: a board slower by a factor `f` is the plan's board with time
//!   running `f` times as fast. So the plan is asked for the rate `a * f` and the budget `L / f`; by the
//!   formulas of [`fulcrum_plan::problem`] that is exact for sustaining, latency and `k`. A faster board than
//!   planned is not believed: what made it faster may go away, and its power was measured at the plan's pace.
//! - **Arrivals** that differ from what the row was chosen for, beyond hysteresis, and not more often than
//!   [`DWELL_NS`].
//!
//! A sensor that says nothing ([`Reading::power_mw`] is `None`) is no reason to act and none to climb.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "tests may compute freely")
)]

mod rate;

use fulcrum_plan::PlanTable;
use fulcrum_plan::problem::{self, Demand};
use fulcrum_plan::select::{Problem, Serving, Solution, select};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use rate::RateEstimate;

/// Time between two looks.
pub const PERIOD_NS: u64 = 1_000_000_000;
/// Quiet periods before the cap climbs. A guess: a board's case takes about half a minute to cool.
pub const CALM_PERIODS: u32 = 30;
/// Longest wait before a climb, after many relapses.
const CALM_PERIODS_MAX: u32 = 960;
/// Least time between two changes that no budget demands.
pub const DWELL_NS: u64 = 10_000_000_000;
/// Measured power counts as above the budget beyond this many thousandths of it: an INA3221 is accurate
/// to about 1 % (its data sheet's gain error and the shunt's tolerance).
const POWER_TOLERANCE_PER_MILLE: u64 = 10;
/// Least step of the cap.
const CAP_STEP_MW: u32 = 250;
/// The cap after over-current or heat, where no measured excess says how far to go: nine tenths.
const CAP_CUT_PER_MILLE: u64 = 900;
/// A board counts as slower beyond this many thousandths of the plan's time.
const SLOWER_PER_MILLE: u64 = 1_050;

/// What was measured since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Board power; `None` if it cannot be read.
    pub power_mw: Option<MilliWatt>,
    /// Whether over-current events were counted.
    pub over_current: bool,
    /// Whether a thermal zone is close to throttling.
    pub hot: bool,
    /// Requests that arrived so far, admitted or not.
    pub arrived: u64,
    /// Measured time of an inference batch over the plan's, in thousandths, once measured.
    pub slowdown_per_mille: Option<u64>,
}

/// Why another row is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Measured power is above the budget.
    Power,
    /// Over-current events.
    OverCurrent,
    /// Heat.
    Heat,
    /// Quiet for long enough: back towards the budget.
    Calm,
    /// The board is slower, or less slow, than assumed.
    Pace,
    /// Requests come faster or slower than assumed.
    Arrivals,
    /// Something else changed the clocks: they are set again.
    Drift,
}

impl core::fmt::Display for Reason {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Power => "power above the budget",
            Self::OverCurrent => "over-current events",
            Self::Heat => "close to thermal throttling",
            Self::Calm => "quiet for long enough",
            Self::Pace => "the board's pace differs from the plan's",
            Self::Arrivals => "the arrival rate changed",
            Self::Drift => "clocks changed by something else",
        })
    }
}

impl Reason {
    /// Whether a budget is violated until the change is done.
    #[must_use]
    pub const fn is_urgent(self) -> bool {
        matches!(self, Self::Power | Self::OverCurrent | Self::Heat)
    }
}

/// What the guard asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The row and batch to go to.
    pub solution: Solution,
    /// Why.
    pub reason: Reason,
}

/// The guard of one run.
#[derive(Clone, Debug)]
pub struct Guard {
    problem: Problem,
    asked: Demand,
    current: Solution,
    cap_mw: MilliWatt,
    calm: u32,
    calm_needed: u32,
    pace_per_mille: u64,
    rate: RateEstimate,
    changed_ns: u64,
    looked_ns: u64,
}

impl Guard {
    /// A guard over an answer to a problem and a demand, at a time.
    #[must_use]
    pub const fn new(problem: Problem, asked: Demand, current: Solution, now_ns: u64) -> Self {
        Self {
            problem,
            asked,
            current,
            cap_mw: asked.power_mw,
            calm: 0,
            calm_needed: CALM_PERIODS,
            pace_per_mille: 1_000,
            rate: RateEstimate::new(asked.rate),
            changed_ns: now_ns,
            looked_ns: now_ns,
        }
    }

    /// The row in use.
    #[must_use]
    pub const fn current(&self) -> &Solution {
        &self.current
    }

    /// The arrival rate that the row in use was chosen for.
    #[must_use]
    pub const fn assumed_rate(&self) -> MilliRps {
        self.rate.assumed()
    }

    /// Whether a control period is over.
    #[must_use]
    pub const fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.looked_ns) >= PERIOD_NS
    }

    /// Looks at what was measured, and asks for a change if one is needed.
    #[must_use]
    pub fn step(&mut self, now_ns: u64, plan: &PlanTable, reading: &Reading) -> Option<Change> {
        let elapsed_ns = now_ns.saturating_sub(self.looked_ns);
        self.looked_ns = now_ns;
        self.rate.observe(reading.arrived, elapsed_ns);
        let reason = self
            .power(reading)
            .or_else(|| self.demand(now_ns, reading))?;
        let solution = self.choose(plan)?;
        let same = solution.row == self.current.row
            && solution.serving.map(|serving| serving.batch)
                == self.current.serving.map(|serving| serving.batch)
            && solution.background.is_some() == self.current.background.is_some();
        (!same).then_some(Change { solution, reason })
    }

    /// The change was carried out.
    pub const fn done(&mut self, now_ns: u64, solution: Solution) {
        self.current = solution;
        self.changed_ns = now_ns;
    }

    /// The cap after this reading, and whether it changed.
    fn power(&mut self, reading: &Reading) -> Option<Reason> {
        let budget_mw = u64::from(self.asked.power_mw.0);
        let tolerated_mw = budget_mw
            .saturating_mul(POWER_TOLERANCE_PER_MILLE)
            .div_ceil(1_000)
            .saturating_add(budget_mw);
        let excess_mw = reading
            .power_mw
            .map(|power| u64::from(power.0))
            .filter(|power_mw| *power_mw > tolerated_mw)
            .map(|power_mw| power_mw.saturating_sub(budget_mw));
        let row_mw = u64::from(self.current.power_mw.0).min(u64::from(self.cap_mw.0));
        let (target_mw, reason) = if let Some(excess_mw) = excess_mw {
            (row_mw.saturating_sub(excess_mw), Reason::Power)
        } else if reading.over_current {
            (
                row_mw.saturating_mul(CAP_CUT_PER_MILLE) / 1_000,
                Reason::OverCurrent,
            )
        } else if reading.hot {
            (
                row_mw.saturating_mul(CAP_CUT_PER_MILLE) / 1_000,
                Reason::Heat,
            )
        } else {
            return self.climb(reading);
        };
        let target = u32::try_from(target_mw).unwrap_or(u32::MAX);
        let least = u32::try_from(row_mw)
            .unwrap_or(u32::MAX)
            .saturating_sub(CAP_STEP_MW);
        self.cap_mw = MilliWatt(target.min(least));
        self.calm_needed = if self.calm < self.calm_needed {
            self.calm_needed.saturating_mul(2).min(CALM_PERIODS_MAX)
        } else {
            CALM_PERIODS
        };
        self.calm = 0;
        Some(reason)
    }

    /// A quiet period: after enough of them the cap goes half of the way back.
    fn climb(&mut self, reading: &Reading) -> Option<Reason> {
        let missing_mw = self.asked.power_mw.0.saturating_sub(self.cap_mw.0);
        if missing_mw == 0 || reading.power_mw.is_none() {
            return None;
        }
        self.calm = self.calm.saturating_add(1);
        if self.calm < self.calm_needed {
            return None;
        }
        self.calm = 0;
        let step_mw = missing_mw.div_ceil(2).max(CAP_STEP_MW).min(missing_mw);
        self.cap_mw = MilliWatt(self.cap_mw.0.saturating_add(step_mw));
        Some(Reason::Calm)
    }

    /// Whether pace or arrivals differ from what the row was chosen for.
    fn demand(&mut self, now_ns: u64, reading: &Reading) -> Option<Reason> {
        if now_ns.saturating_sub(self.changed_ns) < DWELL_NS {
            return None;
        }
        if let Some(measured) = reading.slowdown_per_mille {
            let pace = if measured > SLOWER_PER_MILLE {
                measured
            } else {
                1_000
            };
            // A tenth up or down: less is noise.
            if pace.abs_diff(self.pace_per_mille) > self.pace_per_mille / 10 {
                self.pace_per_mille = pace;
                return Some(Reason::Pace);
            }
        }
        self.rate.adopt().then_some(Reason::Arrivals)
    }

    /// The best row under the cap, at the assumed pace and rate; the safest one if none fits.
    fn choose(&self, plan: &PlanTable) -> Option<Solution> {
        let scaled = |value: u32, numerator: u64, denominator: u64| -> Option<u32> {
            let scaled = u64::from(value).saturating_mul(numerator);
            u32::try_from(scaled.checked_div(denominator)?).ok()
        };
        let demand = Demand {
            power_mw: self.cap_mw,
            latency_us: MicroSec(scaled(self.asked.latency_us.0, 1_000, self.pace_per_mille)?),
            rate: MilliRps(scaled(self.rate.assumed().0, self.pace_per_mille, 1_000)?),
        };
        if let Some(solution) = select(plan, self.problem, &demand) {
            return Some(solution);
        }
        if self.cap_mw >= self.asked.power_mw {
            // No budget is violated: the loop copes with pace and arrivals where it is.
            return None;
        }
        let workload = match self.problem {
            Problem::Training => return least_power_training(plan),
            Problem::TwoInferences => 0,
            Problem::Inference(workload) | Problem::TrainingInference(workload) => workload,
        };
        select(plan, Problem::Inference(workload), &demand)
            .or_else(|| self.least_power_inference(plan, workload))
    }

    /// The inference cell of the least power, whatever its latency: the last resort.
    fn least_power_inference(&self, plan: &PlanTable, workload: usize) -> Option<Solution> {
        let cells = plan.rows.iter().enumerate().flat_map(|(index, row)| {
            plan.slots_infer(workload)
                .filter_map(move |(slot, batch)| Some((row.cell(slot)?, index, row.mode, batch)))
        });
        let (cell, row, mode, batch) =
            cells.min_by_key(|(cell, index, _, batch)| (cell.power_mw, *index, *batch))?;
        let latency_us = problem::peak_latency_us(batch, self.rate.assumed(), cell.time_us)?;
        Some(Solution {
            row,
            mode,
            power_mw: cell.power_mw,
            serving: Some(Serving {
                batch,
                time_us: cell.time_us,
                latency_us,
            }),
            background: None,
        })
    }
}

/// The training cell of the least power: a board that only trains goes on as slowly as it can.
fn least_power_training(plan: &PlanTable) -> Option<Solution> {
    let slot = plan.slot_train()?;
    let least = plan
        .rows
        .iter()
        .filter_map(|row| row.cell(slot))
        .map(|cell| cell.power_mw)
        .min()?;
    let demand = Demand {
        power_mw: least,
        latency_us: MicroSec(u32::MAX),
        rate: MilliRps(0),
    };
    select(plan, Problem::Training, &demand)
}

#[cfg(test)]
mod tests;
