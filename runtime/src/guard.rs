//! The guard: keeps power, latency and arrivals within what the present mode was chosen for.
//!
//! Four times per control period ([`PERIOD_NS`]) it looks at power and heat, once at requests, and may ask for
//! another row of the plan. It reads no clock, does no I/O, does not allocate and does not panic; the loop carries a change
//! out when [`crate::schedule`] says so.
//!
//! - **Power above the budget, over-current, heat**: the power that selection may use (the *cap*) goes down
//!   at once: by what was measured too much, and to what fits a board that draws as many times the plan's power
//!   as was measured. If no row fits any more, training stops first; then the row of the least power is taken.
//!   After [`CALM_NS`] in peace, or a third of it while requests are missed, the cap climbs back by half of the way.
//!   A relapse goes back to where there was peace, and doubles the wait. While the work of a busy board shows how much
//!   hungrier than the plan it is, the cap follows that instead. Twice the plan's power of the work that was done
//!   is not believed at first. Sensors are noisy: where that plan's power explains what was measured, only an excess
//!   that lasts counts. Over-current and heat have a period to go away before they
//!   count again.
//! - **Requests late or rejected** ([`MISSED_PER_MILLE`] in a period): the rate of that period counts at once;
//!   where neither it nor a row that is too slow for it explains the misses, the board is taken for a tenth slower
//!   until it is quiet again.
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
//! A sensor that says nothing ([`Reading::power_mw`] is `None`) is no reason to act, and none to climb back after
//! power was above the budget.
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

mod cap;
mod meter;
mod rate;

pub use cap::CALM_NS;
use cap::Cap;
use fulcrum_plan::problem::{self, Demand, Throughput};
use fulcrum_plan::select::{Background, Problem, Selector, Serving, Solution};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_plan::{Cell, PlanTable, PowerMode, Row};
use meter::Meter;
use rate::RateEstimate;

/// Control period: what is wrong is put right within one.
pub const PERIOD_NS: u64 = 1_000_000_000;
/// Time between two looks.
pub const LOOK_NS: u64 = PERIOD_NS / 4;
/// Least time between two changes that no budget demands.
pub const DWELL_NS: u64 = 10_000_000_000;
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
    /// Board power, averaged over the readings since the last look; `None` if it cannot be read.
    pub power_mw: Option<MilliWatt>,
    /// How many readings that were.
    pub readings: u64,
    /// What the work since the last look draws by the plan, averaged over its time.
    pub planned_mw: Option<MilliWatt>,
    /// The most that any of it draws.
    pub peak_mw: Option<MilliWatt>,
    /// How long that work took.
    pub busy_ns: u64,
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
    /// Whether a budget is violated until the change is done, or may be: nobody knows what unknown clocks draw.
    #[must_use]
    pub const fn is_urgent(self) -> bool {
        matches!(
            self,
            Self::Power | Self::OverCurrent | Self::Heat | Self::Latency | Self::Drift
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
    /// The share of the time, in thousandths, that training was promised.
    train_share_per_mille: u16,
    current: Solution,
    cap: Cap,
    meter: Meter,
    pace_per_mille: u64,
    strained_until_ns: u64,
    missed: u64,
    arrived: u64,
    rate: RateEstimate,
    changed_ns: u64,
    looked_ns: u64,
    /// The same for requests.
    counted_ns: u64,
}

impl Guard {
    /// A guard over an answer to a problem and a demand, at a time.
    #[must_use]
    pub fn new(problem: Problem, asked: Demand, current: Solution, now_ns: u64) -> Self {
        Self {
            problem,
            asked,
            train_share_per_mille: 0,
            current,
            cap: Cap::new(asked.power_mw),
            meter: Meter::new(),
            pace_per_mille: 1_000,
            strained_until_ns: 0,
            missed: 0,
            arrived: 0,
            rate: RateEstimate::new(asked.rate, asked.latency_us),
            changed_ns: now_ns,
            looked_ns: now_ns,
            counted_ns: now_ns,
        }
    }

    /// Training was promised a share of the time. Where no row that can train answers all requests: one that can train,
    /// rather than one that answers more of them.
    #[must_use]
    pub const fn promising(mut self, train_share_per_mille: u16) -> Self {
        self.train_share_per_mille = train_share_per_mille;
        self
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

    /// Whether it is time to look again.
    #[must_use]
    pub const fn is_due(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.looked_ns) >= LOOK_NS
    }

    /// Looks at what was measured, and asks for a change if one is needed.
    #[must_use]
    pub fn step(
        &mut self,
        now_ns: u64,
        selector: &Selector<'_>,
        reading: &Reading,
    ) -> Option<Change> {
        let plan = selector.plan();
        let elapsed_ns = now_ns.saturating_sub(self.looked_ns);
        self.looked_ns = now_ns;
        let power_mw = self.meter.observe(plan, reading, elapsed_ns);
        let times_ns = (now_ns, elapsed_ns);
        let row_mw = self.current.power_mw;
        let meter = &mut self.meter;
        let reason = self.cap.observe(times_ns, row_mw, power_mw, reading, meter);
        let counted_ns = now_ns.saturating_sub(self.counted_ns);
        let requests = if counted_ns >= PERIOD_NS {
            self.counted_ns = now_ns;
            self.rate.observe(reading.arrived, counted_ns);
            self.demand(now_ns, plan, reading)
        } else {
            None
        };
        let reason = reason.or(requests)?;
        let solution = self.choose(selector, reason)?;
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
        self.mended();
    }

    /// The clocks of the row in use were set again.
    pub const fn mended(&mut self) {
        self.meter.reset();
    }

    /// Whether requests are missed, or pace or arrivals differ from what the row was chosen for.
    fn demand(&mut self, now_ns: u64, plan: &PlanTable, reading: &Reading) -> Option<Reason> {
        let missed = reading.missed.saturating_sub(self.missed);
        let arrived = reading.arrived.saturating_sub(self.arrived);
        (self.missed, self.arrived) = (reading.missed, reading.arrived);
        let late = missed >= MISSED_LEAST
            && missed.saturating_mul(1_000) > arrived.saturating_mul(MISSED_PER_MILLE);
        if !late && now_ns.saturating_sub(self.changed_ns) < DWELL_NS {
            return None;
        }
        self.cap.starve(late);
        let strained = now_ns < self.strained_until_ns;
        // What nobody has measured is as planned.
        let measured = reading.slowdown_per_mille.unwrap_or(1_000);
        let pace = if measured > SLOWER_PER_MILLE {
            measured
        } else {
            1_000
        };
        // A tenth up or down: less is noise.
        let differs = pace.abs_diff(self.pace_per_mille) >= self.pace_per_mille / 11;
        if differs && (pace > self.pace_per_mille || !strained) {
            self.pace_per_mille = pace;
            return Some(if late { Reason::Latency } else { Reason::Pace });
        }
        if !late {
            return self.rate.adopt().then_some(Reason::Arrivals);
        }
        if !self.rate.jump() && self.serves(plan) {
            let strained_pace = self.pace_per_mille.saturating_add(self.pace_per_mille / 10);
            self.pace_per_mille = strained_pace.min(STRAINED_PACE_MAX.max(self.pace_per_mille));
            self.strained_until_ns = now_ns.saturating_add(CALM_NS);
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
            power_mw: self.cap.power_mw(),
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

    /// Whether the row in use answers all requests that are assumed, by the plan, beside the share that training was
    /// promised.
    fn serves(&self, plan: &PlanTable) -> bool {
        let Some((demand, serving)) = self.demanded().zip(self.current.serving) else {
            return true;
        };
        let cell = self
            .workload()
            .and_then(|workload| infer_cell(plan, self.current.row, workload, serving.batch));
        let rest = 1_000_u64.saturating_sub(self.train_share_per_mille.into());
        let scaled = u64::from(demand.rate.0).saturating_mul(1_000);
        let rate = scaled.checked_div(rest).unwrap_or(u64::MAX);
        let rate = MilliRps(u32::try_from(rate).unwrap_or(u32::MAX));
        cell.is_some_and(|cell| {
            cell.power_mw <= demand.power_mw
                && problem::sustains(serving.batch, rate, cell.time_us)
                && problem::meets_latency(
                    serving.batch,
                    demand.rate,
                    cell.time_us,
                    demand.latency_us,
                )
        })
    }

    /// The best row for what is demanded. If none does all of it, one that answers the requests; else one that
    /// answers the most of them; and if none is within the cap, the one of the least power.
    fn choose(&self, selector: &Selector<'_>, reason: Reason) -> Option<Solution> {
        let plan = selector.plan();
        let demand = self.demanded()?;
        if let Some(solution) = selector.select(self.problem, &demand) {
            return Some(solution);
        }
        let Some(workload) = self.workload() else {
            let lowered = self.cap.is_lowered();
            let least = lowered.then(|| least_power_training(selector));
            return least.flatten();
        };
        if !reason.is_urgent() && self.serves(plan) {
            // The loop copes with pace and arrivals where it is.
            return None;
        }
        // A step beside which a batch is in time, as the schedule has it (`Schedule::can_keep_promise`).
        let spares_step = |row: &Row, batch: &Cell| {
            let step = self.step_cell(plan, row);
            step.is_some_and(|step| {
                step.time_us.0.saturating_add(batch.time_us.0) <= demand.latency_us.0
            })
        };
        let kept = (self.train_share_per_mille > 0).then_some(spares_step);
        let solution = kept
            .and_then(|spares_step| self.fastest_inference(plan, workload, spares_step))
            .or_else(|| selector.select(Problem::Inference(workload), &demand))
            .or_else(|| self.fastest_inference(plan, workload, |_, _| true))
            .or_else(|| self.least_power_inference(plan, workload))?;
        Some(self.with_gaps(plan, solution))
    }

    /// What runs in the gaps of a row goes on if it fits under the cap.
    fn with_gaps(&self, plan: &PlanTable, solution: Solution) -> Solution {
        let row = plan.rows.get(solution.row);
        let step = row.and_then(|row| self.step_cell(plan, row));
        let train = plan.train.as_ref().and_then(|train| train.batches.first());
        let Some((step, batch)) = step.zip(train) else {
            return solution;
        };
        Solution {
            power_mw: problem::interleaved_power(solution.power_mw, step.power_mw),
            background: Some(Background {
                batch: *batch,
                time_us: step.time_us,
                steps: 0,
            }),
            ..solution
        }
    }

    /// A row's training step, if something is trained and it fits under the cap.
    fn step_cell<'p>(&self, plan: &PlanTable, row: &'p Row) -> Option<&'p Cell> {
        let trains = matches!(self.problem, Problem::TrainingInference(_));
        let step = row.cell(plan.slot_train().filter(|_| trains)?)?;
        (step.power_mw <= self.cap.power_mw()).then_some(step)
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
        let row = self.current.row;
        let infer = infer_cell(plan, row, self.workload()?, serving.batch)?;
        let step = match self.problem {
            Problem::TwoInferences => infer_cell(plan, row, 1, background.batch)?,
            _ => plan.rows.get(row)?.cell(plan.slot_train()?)?,
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

    /// The cell under the cap that serves the most requests per second, where none serves as many as come, of those that
    /// suit.
    fn fastest_inference(
        &self,
        plan: &PlanTable,
        workload: usize,
        suits: impl Fn(&Row, &Cell) -> bool,
    ) -> Option<Solution> {
        let half_us = self.asked.latency_us.0 / 2;
        let fitting = infer_cells(plan, workload).filter(|(_, row, _, cell)| {
            let within = cell.power_mw <= self.cap.power_mw() && cell.time_us.0 <= half_us;
            within && cell.time_us.0 > 0 && suits(row, cell)
        });
        let fastest = fitting.max_by_key(|(index, _, batch, cell)| {
            let per_second = u64::from(*batch).saturating_mul(1_000_000_000);
            let per_second = per_second.checked_div(cell.time_us.0.into());
            (per_second, core::cmp::Reverse((*index, *batch)))
        });
        self.inference_alone(fastest?)
    }

    /// The inference cell of the least power, whatever its latency: the last resort.
    fn least_power_inference(&self, plan: &PlanTable, workload: usize) -> Option<Solution> {
        let cells = infer_cells(plan, workload);
        let least = cells.min_by_key(|(index, _, batch, cell)| (cell.power_mw, *index, *batch));
        self.inference_alone(least?)
    }

    /// Nothing but a row's inference cell.
    fn inference_alone(
        &self,
        (index, row, batch, cell): (usize, &Row, u16, &Cell),
    ) -> Option<Solution> {
        Some(Solution {
            row: index,
            mode: row.mode,
            power_mw: cell.power_mw,
            serving: Some(Serving {
                batch,
                time_us: cell.time_us,
                latency_us: problem::peak_latency_us(batch, self.rate.assumed(), cell.time_us)?,
            }),
            background: None,
        })
    }
}

/// Every inference cell of a workload, after its row's number, its row and its batch.
fn infer_cells(
    plan: &PlanTable,
    workload: usize,
) -> impl Iterator<Item = (usize, &Row, u16, &Cell)> {
    let rows = plan.rows.iter().enumerate();
    rows.flat_map(move |(index, row)| {
        plan.slots_infer(workload)
            .filter_map(move |(slot, batch)| Some((index, row, batch, row.cell(slot)?)))
    })
}

/// An inference cell of a row.
pub(crate) fn infer_cell(
    plan: &PlanTable,
    row: usize,
    workload: usize,
    batch: u16,
) -> Option<&Cell> {
    let mut slots = plan.slots_infer(workload);
    let (slot, _) = slots.find(|(_, other)| *other == batch)?;
    plan.rows.get(row)?.cell(slot)
}

/// The training cell of the least power: a board that only trains goes on as slowly as it can.
fn least_power_training(selector: &Selector<'_>) -> Option<Solution> {
    let plan = selector.plan();
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
    selector.select(Problem::Training, &demand)
}

#[cfg(test)]
mod tests;
