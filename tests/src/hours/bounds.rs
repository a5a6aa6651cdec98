//! What somebody could have done who knew the hour in advance. Both bounds are on the generous side.

use super::faults::{self, Fault, Kind};
use super::trace::Trace;
use super::{HOUR_NS, SECOND_NS};
use fulcrum_plan::problem::{self, Demand};
use fulcrum_plan::select::{Problem, select};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_plan::{Cell, PlanTable, Row};

/// How long a rate holds for the optimum: it is solved anew for every minute.
pub const WINDOW_NS: u64 = 60 * SECOND_NS;

/// Whether the process is down.
#[must_use]
pub fn is_down(faults: &[Fault], now_ns: u64) -> bool {
    faults
        .iter()
        .any(|fault| fault.kind == Kind::Kill && fault.holds(now_ns))
}

/// Inference cells of a row within a power budget, with their batches.
fn affordable<'a>(
    plan: &'a PlanTable,
    row: &'a Row,
    power_mw: MilliWatt,
) -> impl Iterator<Item = (u16, &'a Cell)> {
    let cells = plan
        .slots_infer(0)
        .filter_map(|(slot, batch)| Some((batch, row.cell(slot)?)));
    cells.filter(move |(_, cell)| cell.power_mw <= power_mw)
}

/// How many requests a clairvoyant could have answered in time.
///
/// It never trains, is in the fastest affordable mode for every request without ever changing clocks, and has full
/// batches without waiting for them and no noise: every request takes the smallest time per request that any batch has.
/// It may draw the power budget, or what heat and over-current leave of it. Of equal jobs with equal time limits,
/// first come first served, without those that would be late anyway, answers as many as any schedule can.
#[must_use]
pub fn servable(plan: &PlanTable, trace: &Trace, arrivals: &[u64]) -> u64 {
    let faults = &trace.faults;
    let budget_ns = u64::from(trace.demand.latency_us.0) * 1_000;
    let (mut free_ns, mut count) = (0, 0);
    let mut least = (f64::NAN, None);
    for &arrival_ns in arrivals {
        let start_ns = arrival_ns.max(free_ns);
        let allowed = faults::allowed(faults, start_ns);
        if least.0 != allowed {
            let power_mw = f64::from(trace.demand.power_mw.0) * allowed;
            least = (allowed, least_us(plan, MilliWatt(power_mw as u32)));
        }
        let Some(least_us) = least.1 else { continue };
        let took_ns = least_us * 1e3 * faults::pace(faults, start_ns);
        let end_ns = start_ns + took_ns as u64;
        let lost = is_down(faults, arrival_ns) || is_down(faults, end_ns);
        if end_ns <= arrival_ns + budget_ns && !lost {
            free_ns = end_ns;
            count += 1;
        }
    }
    count
}

/// Smallest time per request within a power budget, in microseconds.
fn least_us(plan: &PlanTable, power_mw: MilliWatt) -> Option<f64> {
    let cells = plan
        .rows
        .iter()
        .flat_map(|row| affordable(plan, row, power_mw));
    let per_request = cells.map(|(batch, cell)| f64::from(cell.time_us.0) / f64::from(batch));
    per_request.min_by(f64::total_cmp)
}

/// Training steps of an hour, two ways.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Steps {
    /// By the plan's formula: whole steps in every window of a batch.
    pub formula: f64,
    /// All time that full batches leave.
    pub fluid: f64,
}

/// Training steps of the best row for every minute's own arrivals, with the pace, the appetite, the heat
/// and the downtime of that minute known.
#[must_use]
pub fn steps(plan: &PlanTable, trace: &Trace, arrivals: &[u64]) -> Steps {
    let mut steps = Steps::default();
    let mut rest = arrivals;
    for window in 0..HOUR_NS / WINDOW_NS {
        let end_ns = (window + 1) * WINDOW_NS;
        let count = rest.partition_point(|at_ns| *at_ns < end_ns);
        let window_steps = in_window(plan, trace, end_ns - WINDOW_NS, count);
        rest = &rest[count..];
        steps.formula += window_steps.formula;
        steps.fluid += window_steps.fluid;
    }
    steps
}

fn in_window(plan: &PlanTable, trace: &Trace, from_ns: u64, count: usize) -> Steps {
    // A fault lasts for a part of the minute: the means over its seconds.
    let seconds = WINDOW_NS / SECOND_NS;
    let mean = |of: &dyn Fn(u64) -> f64| {
        let sum: f64 = (0..seconds)
            .map(|second| of(from_ns + second * SECOND_NS))
            .sum();
        sum / seconds as f64
    };
    let (trace_faults, demand) = (&trace.faults, &trace.demand);
    let pace = mean(&|at_ns| faults::pace(trace_faults, at_ns));
    let appetite = mean(&|at_ns| faults::appetite(trace_faults, at_ns));
    let allowed = mean(&|at_ns| faults::allowed(trace_faults, at_ns));
    let up_s = mean(&|at_ns| f64::from(u8::from(!is_down(trace_faults, at_ns)))) * seconds as f64;
    let rate = count as f64 / seconds as f64;
    let asked = Demand {
        power_mw: MilliWatt((f64::from(demand.power_mw.0) * allowed / appetite) as u32),
        latency_us: MicroSec((f64::from(demand.latency_us.0) / pace) as u32),
        rate: MilliRps((rate * pace * 1e3) as u32),
    };
    let fluid = fluid(plan, &asked) / pace * up_s;
    let formula = select(plan, Problem::TrainingInference(0), &asked)
        .and_then(|solution| solution.background_per_second(asked.rate));
    Steps {
        // Below one request in a latency budget the formula, which fills every batch, has no answer.
        formula: formula.map_or(fluid, |per_s| per_s / pace * up_s),
        fluid,
    }
}

/// Steps per second if no time is lost between full batches: the best row and batch.
fn fluid(plan: &PlanTable, asked: &Demand) -> f64 {
    let rate = f64::from(asked.rate.0) / 1e3;
    let Some(train) = plan.slot_train() else {
        return 0.0;
    };
    let of_row = |row: &Row| -> Option<f64> {
        let step = row
            .cell(train)
            .filter(|cell| cell.power_mw <= asked.power_mw)?;
        let shares = affordable(plan, row, asked.power_mw).filter_map(|(batch, cell)| {
            // A batch of one waits for nobody.
            let meets = match batch {
                1 => cell.time_us <= asked.latency_us,
                _ => problem::meets_latency(batch, asked.rate, cell.time_us, asked.latency_us),
            };
            let left = 1.0 - rate * f64::from(cell.time_us.0) / 1e6 / f64::from(batch);
            (meets && left > 0.0).then_some(left)
        });
        let left = shares.max_by(f64::total_cmp)?;
        Some(left * 1e6 / f64::from(step.time_us.0))
    };
    let rows = plan.rows.iter().filter_map(of_row);
    rows.max_by(f64::total_cmp).unwrap_or(0.0)
}
