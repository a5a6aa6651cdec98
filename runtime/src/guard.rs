//! The guard: keeps power, latency and arrivals within what the present mode was chosen for.
//!
//! Once per control period ([`PERIOD_NS`]) it looks at what was measured and may ask for another row of the
//! plan. It reads no clock, does no I/O, does not allocate and does not panic; the loop carries a change
//! out when [`crate::schedule`] says so.
//!
//! - **Power above the budget, over-current, heat**: the power that selection may use (the *cap*) goes down
//!   at once: by what was measured too much, and to what fits a board that draws as many times the plan's power
//!   as was measured. If no row fits any more, training stops first; then the row of the least power is taken.
//!   After [`CALM_PERIODS`] quiet periods the cap climbs back by half of the way; every relapse after a climb
//!   doubles the wait. A single reading that no row of the plan could ever draw is not believed.
//! - **Requests late or rejected** ([`MISSED_PER_MILLE`] in a period): the rate of that period counts at once;
//!   where it does not explain the misses, the board is taken for a tenth slower until it is quiet again.
//! - **A slower board than the plan says**: a board slower by a factor `f` is the plan's board with time
//!   running `f` times as fast. So the plan is asked for the rate `a * f` and the budget `L / f`; by the
//!   formulas of [`fulcrum_plan::problem`] that is exact for sustaining, latency and `k`. A faster board than
//!   planned is not believed: what made it faster may go away, and its power was measured at the plan's pace.
//! - **Arrivals** that differ from what the row was chosen for, beyond hysteresis, and not more often than
//!   [`DWELL_NS`].
//!
//! What no budget demands is done only if it is worth its cost: if the row in use does not answer the demand any
//! more, or if within [`DWELL_NS`] the other one trains more than is lost while the mode changes.
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

use fulcrum_plan::problem::{self, Demand, Throughput};
use fulcrum_plan::select::{Background, Problem, Serving, Solution, select};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_plan::{PlanTable, PowerMode};
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
/// More requests than these thousandths missed in a period are no chance.
pub const MISSED_PER_MILLE: u64 = 10;
/// The least number of them.
const MISSED_LEAST: u64 = 2;
/// Most that unexplained misses make of the board's pace.
const STRAINED_PACE_MAX: u64 = 2_000;
/// Time that a change of clocks keeps the loop from working (jetson.md 4.1: 1 to 8 ms).
const CLOCKS_NS: u64 = 8_000_000;
/// The same with cores going online or offline (tens of ms).
const CORES_NS: u64 = 80_000_000;
/// A board counts as slower beyond this many thousandths of the plan's time.
const SLOWER_PER_MILLE: u64 = 1_050;

/// What was measured since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Board power; `None` if it cannot be read.
    pub power_mw: Option<MilliWatt>,
    /// What the work since the last look draws by the plan, averaged over its time.
    pub planned_mw: Option<MilliWatt>,
    /// Whether over-current events were counted.
    pub over_current: bool,
    /// Whether a thermal zone is close to throttling.
    pub hot: bool,
    /// Requests that arrived so far, admitted or not.
    pub arrived: u64,
    /// Requests so far that were not answered in time.
    pub missed: u64,
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
    /// Requests are late or rejected.
    Latency,
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
            Self::Latency => "requests late or rejected",
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
        matches!(
            self,
            Self::Power | Self::OverCurrent | Self::Heat | Self::Latency
        )
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
    /// Quiet periods since the cap last moved, and how many it takes to climb.
    calm: u32,
    calm_needed: u32,
    /// Whether the cap's last move was upwards.
    climbed: bool,
    /// Power of the row in which a budget was violated last.
    wrong_mw: MilliWatt,
    /// Whether the last reading of power was beyond what the plan's rows can draw.
    implausible: bool,
    pace_per_mille: u64,
    strained_until_ns: u64,
    missed: u64,
    arrived: u64,
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
            climbed: false,
            wrong_mw: MilliWatt(0),
            implausible: false,
            pace_per_mille: 1_000,
            strained_until_ns: 0,
            missed: 0,
            arrived: 0,
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
        let power = self.plausible(plan, reading);
        let reason = self.power(power, reading);
        let reason = reason.or_else(|| self.demand(now_ns, reading))?;
        let solution = self.choose(plan, reason)?;
        let same = solution.row == self.current.row
            && solution.serving.map(|serving| serving.batch)
                == self.current.serving.map(|serving| serving.batch)
            && solution.background.is_some() == self.current.background.is_some();
        let asked = !same && (reason.is_urgent() || self.is_worth(plan, &solution));
        asked.then_some(Change { solution, reason })
    }

    /// How long a change to another mode keeps the loop from working.
    #[must_use]
    pub const fn cost_ns(&self, mode: &PowerMode) -> u64 {
        if mode.cores == self.current.mode.cores {
            CLOCKS_NS
        } else {
            CORES_NS
        }
    }

    /// The change was carried out.
    pub const fn done(&mut self, now_ns: u64, solution: Solution) {
        self.current = solution;
        self.changed_ns = now_ns;
    }

    /// The power that was read, unless that is the first time that it is more than twice what any row draws.
    fn plausible(&mut self, plan: &PlanTable, reading: &Reading) -> Option<MilliWatt> {
        let power_mw = reading.power_mw?;
        let cells = plan.rows.iter().flat_map(|row| row.cells.iter().flatten());
        let most_mw = cells.map(|cell| cell.power_mw.0).max().unwrap_or(u32::MAX);
        let implausible = power_mw.0 > most_mw.saturating_mul(2);
        let before = core::mem::replace(&mut self.implausible, implausible);
        (!implausible || before).then_some(power_mw)
    }

    /// The cap after this reading, and whether it changed.
    fn power(&mut self, power_mw: Option<MilliWatt>, reading: &Reading) -> Option<Reason> {
        let budget_mw = u64::from(self.asked.power_mw.0);
        let tolerated_mw = budget_mw
            .saturating_mul(POWER_TOLERANCE_PER_MILLE)
            .div_ceil(1_000)
            .saturating_add(budget_mw);
        let excessive_mw = power_mw
            .map(|power| u64::from(power.0))
            .filter(|power_mw| *power_mw > tolerated_mw);
        let row_mw = u64::from(self.current.power_mw.0).min(u64::from(self.cap_mw.0));
        let (target_mw, reason) = if let Some(drawn_mw) = excessive_mw {
            let excess_mw = drawn_mw.saturating_sub(budget_mw);
            // What fits if every row draws as many times the plan's power as was measured.
            let fitting_mw = reading.planned_mw.and_then(|planned| {
                let scaled = u64::from(planned.0).saturating_mul(budget_mw);
                scaled.checked_div(drawn_mw)
            });
            let target_mw = row_mw.saturating_sub(excess_mw);
            (
                target_mw.min(fitting_mw.unwrap_or(target_mw)),
                Reason::Power,
            )
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
            return self.climb(power_mw);
        };
        let target = u32::try_from(target_mw).unwrap_or(u32::MAX);
        self.wrong_mw = MilliWatt(u32::try_from(row_mw).unwrap_or(u32::MAX));
        let least = self.wrong_mw.0.saturating_sub(CAP_STEP_MW);
        self.cap_mw = MilliWatt(target.min(least));
        if self.climbed {
            // Soon after a climb: that was too far.
            let soon = self.calm < self.calm_needed;
            self.calm_needed = match soon {
                true => self.calm_needed.saturating_mul(2).min(CALM_PERIODS_MAX),
                false => CALM_PERIODS,
            };
        }
        self.climbed = false;
        self.calm = 0;
        Some(reason)
    }

    /// A quiet period: after enough of them the cap goes half of the way back.
    fn climb(&mut self, power_mw: Option<MilliWatt>) -> Option<Reason> {
        power_mw?;
        self.calm = self.calm.saturating_add(1);
        let missing_mw = self.asked.power_mw.0.saturating_sub(self.cap_mw.0);
        let step_mw = missing_mw.div_ceil(2).max(CAP_STEP_MW).min(missing_mw);
        let target_mw = MilliWatt(self.cap_mw.0.saturating_add(step_mw));
        // Only what went wrong before takes longer.
        let needed = match target_mw < self.wrong_mw {
            true => CALM_PERIODS,
            false => self.calm_needed,
        };
        if missing_mw == 0 || self.calm < needed {
            return None;
        }
        self.calm = 0;
        self.climbed = true;
        self.cap_mw = target_mw;
        Some(Reason::Calm)
    }

    /// Whether requests are missed, or pace or arrivals differ from what the row was chosen for.
    fn demand(&mut self, now_ns: u64, reading: &Reading) -> Option<Reason> {
        let missed = reading.missed.saturating_sub(self.missed);
        let arrived = reading.arrived.saturating_sub(self.arrived);
        (self.missed, self.arrived) = (reading.missed, reading.arrived);
        let late = missed >= MISSED_LEAST
            && missed.saturating_mul(1_000) > arrived.saturating_mul(MISSED_PER_MILLE);
        if !late && now_ns.saturating_sub(self.changed_ns) < DWELL_NS {
            return None;
        }
        let strained = now_ns < self.strained_until_ns;
        if let Some(measured) = reading.slowdown_per_mille {
            let pace = if measured > SLOWER_PER_MILLE {
                measured
            } else {
                1_000
            };
            // A tenth up or down: less is noise.
            let differs = pace.abs_diff(self.pace_per_mille) > self.pace_per_mille / 10;
            if differs && (pace > self.pace_per_mille || !strained) {
                self.pace_per_mille = pace;
                return Some(if late { Reason::Latency } else { Reason::Pace });
            }
        }
        if !late {
            return self.rate.adopt().then_some(Reason::Arrivals);
        }
        if !self.rate.jump() {
            let strained_pace = self.pace_per_mille.saturating_add(self.pace_per_mille / 10);
            self.pace_per_mille = strained_pace.min(STRAINED_PACE_MAX.max(self.pace_per_mille));
            let calm_ns = PERIOD_NS.saturating_mul(CALM_PERIODS.into());
            self.strained_until_ns = now_ns.saturating_add(calm_ns);
        }
        Some(Reason::Latency)
    }

    /// What is asked of the plan: under the cap, at the assumed pace and rate.
    fn demanded(&self) -> Option<Demand> {
        let scaled = |value: u32, numerator: u64, denominator: u64| -> Option<u32> {
            let scaled = u64::from(value).saturating_mul(numerator);
            u32::try_from(scaled.checked_div(denominator)?).ok()
        };
        Some(Demand {
            power_mw: self.cap_mw,
            latency_us: MicroSec(scaled(self.asked.latency_us.0, 1_000, self.pace_per_mille)?),
            rate: MilliRps(scaled(self.rate.assumed().0, self.pace_per_mille, 1_000)?),
        })
    }

    /// The urgent inference workload, if there is one.
    const fn workload(&self) -> Option<usize> {
        match self.problem {
            Problem::Training => None,
            Problem::TwoInferences => Some(0),
            Problem::Inference(workload) | Problem::TrainingInference(workload) => Some(workload),
        }
    }

    /// The best row for what is demanded; the safest one if none fits.
    fn choose(&self, plan: &PlanTable, reason: Reason) -> Option<Solution> {
        let demand = self.demanded()?;
        if let Some(solution) = select(plan, self.problem, &demand) {
            return Some(solution);
        }
        if reason == Reason::Latency {
            return self.fastest_inference(plan, self.workload()?);
        }
        if self.cap_mw >= self.asked.power_mw {
            // No budget is violated: the loop copes with pace and arrivals where it is.
            return None;
        }
        let Some(workload) = self.workload() else {
            return least_power_training(plan);
        };
        select(plan, Problem::Inference(workload), &demand)
            .or_else(|| self.least_power_inference(plan, workload))
    }

    /// Whether a change that no budget demands pays for its cost.
    fn is_worth(&self, plan: &PlanTable, solution: &Solution) -> bool {
        let (Some(demand), Some(background)) = (self.demanded(), solution.background) else {
            return true;
        };
        let Some(serving) = solution.serving else {
            return true;
        };
        let Some(present) = self.present(plan, &demand) else {
            return true;
        };
        // Steps per window of as many requests, scaled by the time that is left after the change.
        let left_ns = DWELL_NS.saturating_sub(self.cost_ns(&solution.mode));
        let scaled = |steps: u64, share_ns: u64| steps.saturating_mul(share_ns / 1_000_000);
        let changed = Throughput {
            steps: scaled(background.steps, left_ns),
            step_batch: background.batch,
            batch: serving.batch,
        };
        let kept = Throughput {
            steps: scaled(present.steps, DWELL_NS),
            ..present
        };
        changed.compare(&kept).is_gt()
    }

    /// What the row in use would do for a demand; `None` if it does not answer it.
    fn present(&self, plan: &PlanTable, demand: &Demand) -> Option<Throughput> {
        let (serving, background) = (self.current.serving?, self.current.background?);
        let row = plan.rows.get(self.current.row)?;
        let cell = |workload: usize, batch: u16| {
            let mut slots = plan.slots_infer(workload);
            let (slot, _) = slots.find(|(_, other)| *other == batch)?;
            row.cell(slot)
        };
        let infer = cell(self.workload()?, serving.batch)?;
        let step = match self.problem {
            Problem::TwoInferences => cell(1, background.batch)?,
            _ => row.cell(plan.slot_train()?)?,
        };
        if infer.power_mw.max(step.power_mw) > demand.power_mw {
            return None;
        }
        if !problem::meets_latency(serving.batch, demand.rate, infer.time_us, demand.latency_us) {
            return None;
        }
        Some(Throughput {
            steps: problem::steps_per_window(
                serving.batch,
                demand.rate,
                infer.time_us,
                step.time_us,
            )?,
            step_batch: background.batch,
            batch: serving.batch,
        })
    }

    /// The cell under the cap that serves the most requests per second, where none serves as many as come; what runs
    /// in its gaps stays.
    fn fastest_inference(&self, plan: &PlanTable, workload: usize) -> Option<Solution> {
        let half_us = self.asked.latency_us.0 / 2;
        let cells = plan.rows.iter().enumerate().flat_map(|(index, row)| {
            plan.slots_infer(workload)
                .filter_map(move |(slot, batch)| Some((row.cell(slot)?, index, row, batch)))
        });
        let fitting = cells.filter(|(cell, ..)| {
            cell.power_mw <= self.cap_mw && cell.time_us.0 <= half_us && cell.time_us.0 > 0
        });
        let (cell, index, row, batch) = fitting.max_by_key(|(cell, index, _, batch)| {
            let per_second = u64::from(*batch).saturating_mul(1_000_000_000);
            let per_second = per_second.checked_div(cell.time_us.0.into());
            (per_second, core::cmp::Reverse((*index, *batch)))
        })?;
        let trains = matches!(self.problem, Problem::TrainingInference(_));
        let step = plan.slot_train().filter(|_| trains);
        let step = step.and_then(|slot| row.cell(slot));
        let step = step.filter(|step| step.power_mw <= self.cap_mw);
        let train = plan.train.as_ref().and_then(|train| train.batches.first());
        Some(Solution {
            row: index,
            mode: row.mode,
            power_mw: step.map_or(cell.power_mw, |step| {
                problem::interleaved_power(cell.power_mw, step.power_mw)
            }),
            serving: Some(Serving {
                batch,
                time_us: cell.time_us,
                latency_us: problem::peak_latency_us(batch, self.rate.assumed(), cell.time_us)?,
            }),
            background: step.zip(train).map(|(step, batch)| Background {
                batch: *batch,
                time_us: step.time_us,
                steps: 0,
            }),
        })
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
