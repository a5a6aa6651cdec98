//! One hour, lived.

use super::board::Board;
use super::bounds;
use super::faults::Kind;
use super::trace::Trace;
use super::{HOUR_NS, READING_NS};
use fulcrum_plan::PlanTable;
use fulcrum_plan::select::{Problem, Solution, select};
use fulcrum_runtime::arrivals::Arrivals;
use fulcrum_runtime::control::{Control, Duty, Events, Readings};
use fulcrum_runtime::guard::Guard;
use fulcrum_runtime::queue::{Request, Ring};
use fulcrum_runtime::schedule::Policy;
use fulcrum_runtime::serve::{Clock, Loop, Turn};
use fulcrum_runtime::telemetry::Telemetry;

/// Longest wait of the loop, as in `fulcrumd`.
const WAIT_MAX_NS: u64 = 50_000_000;
const PROBLEM: Problem = Problem::TrainingInference(0);
/// Power above the budget beyond this share counts: the sensor is no more accurate.
const TOLERANCE: f64 = 1.01;

/// How an hour went.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Requests that arrived while the process was up.
    pub arrived: u64,
    /// Those that a clairvoyant could have answered in time.
    pub servable: u64,
    /// Answered in time.
    pub met: u64,
    /// Training steps done.
    pub steps: u64,
    /// Training steps of the optimum of every minute.
    pub optimum: bounds::Steps,
    /// Longest time above the power budget while it can be read, by averages over a tenth of a second.
    pub excess_s: f64,
    /// Changes of mode.
    pub switches: u64,
}

impl Outcome {
    /// Share of the servable requests that was answered in time.
    #[must_use]
    pub fn met_share(&self) -> f64 {
        self.met as f64 / self.servable.max(1) as f64
    }

    /// Training against the formula's optimum; all of it where that is nothing.
    #[must_use]
    pub fn train_share(&self) -> f64 {
        match self.optimum.formula >= 1.0 {
            true => self.steps as f64 / self.optimum.formula,
            false => 1.0,
        }
    }
}

/// Lives a trace.
///
/// # Panics
/// A request is not accounted for, or the loop gave up; the message has the seed.
#[must_use]
pub fn run(trace: &Trace, plan: &PlanTable) -> Outcome {
    let seed = trace.seed;
    let arrivals = Arrivals::new(trace.process, trace.demand.rate, seed, 0);
    let arrivals: Vec<u64> = arrivals
        .into_iter()
        .flatten()
        .take_while(|at_ns| *at_ns < HOUR_NS)
        .collect();
    let board = Board::new(plan, trace);
    let telemetry = Telemetry::default();
    let solution = select(plan, PROBLEM, &trace.demand);
    let solution =
        solution.unwrap_or_else(|| panic!("seed {seed}: no row answers {:?}", trace.demand));
    let mut outcome = Outcome {
        servable: bounds::servable(plan, trace, &arrivals),
        optimum: bounds::steps(plan, trace, &arrivals),
        ..Outcome::default()
    };
    let mut rest = &arrivals[..];
    while board.now_ns() < HOUR_NS {
        let now_ns = board.now_ns();
        let kills = trace.faults.iter().filter(|fault| fault.kind == Kind::Kill);
        let next = kills
            .filter(|kill| kill.until_ns > now_ns)
            .min_by_key(|kill| kill.from_ns);
        let end_ns = next.map_or(HOUR_NS, |kill| kill.from_ns.max(now_ns));
        let came = live(
            &board,
            plan,
            trace,
            &telemetry,
            solution,
            (&mut rest, end_ns),
        );
        outcome.arrived += came;
        let Some(kill) = next else { break };
        board.down_until(kill.until_ns);
        let missed = rest.partition_point(|at_ns| *at_ns < board.now_ns());
        rest = &rest[missed..];
    }
    outcome.met = telemetry.served.get() - telemetry.late.get();
    outcome.steps = telemetry.steps.get();
    outcome.switches = telemetry.switches.get();
    outcome.excess_s = excess_s(&board, trace);
    outcome
}

/// The life of one process, until it is killed or the hour is over. Returns how many requests came.
fn live(
    board: &Board<'_>,
    plan: &PlanTable,
    trace: &Trace,
    telemetry: &Telemetry,
    solution: Solution,
    (arrivals, end_ns): (&mut &[u64], u64),
) -> u64 {
    board.start(solution.row);
    let demand = trace.demand;
    let readings = Readings::new(solution.row);
    let (mut events, mut ring) = (Events::default(), Ring::new());
    let (say, mut listen) = events.split();
    let (mut sender, receiver) = ring.split();
    let counts = receiver.counts();
    let guard = Guard::new(PROBLEM, demand, solution, board.now_ns());
    let duty = Duty {
        problem: PROBLEM,
        bulk: false,
        budget_us: demand.latency_us,
        policy: Policy::default(),
    };
    let mut control = Control::new(guard, plan, board, &readings, say, duty);
    let assignment = duty.assignment(plan, &solution);
    let answered = || telemetry.served.get() + telemetry.dropped.get() + telemetry.failed.get();
    let before = answered();
    let mut looping = Loop::new(board, board, receiver, telemetry, assignment, demand.rate)
        .with_modes(&mut control);
    while board.now_ns() < end_ns {
        board.watch(&readings);
        while let Some((&arrival_ns, later)) = arrivals.split_first()
            && arrival_ns <= board.now_ns()
        {
            *arrivals = later;
            let id = counts.arrived();
            let _ = sender.send(Request {
                id,
                arrival_ns,
                place: 0,
            });
        }
        match looping.turn() {
            Ok(Turn::Wait { until_ns }) => {
                let now_ns = board.now_ns();
                let next_ns = arrivals.first().copied().unwrap_or(u64::MAX);
                let until_ns = until_ns.unwrap_or(u64::MAX).min(next_ns);
                board.idle_until(until_ns.clamp(now_ns + 1, now_ns + WAIT_MAX_NS));
            }
            Ok(_) => {}
            Err(error) => panic!("seed {}: {error}", trace.seed),
        }
        while listen.dequeue().is_some() {}
    }
    let waiting = looping.requests().pending() as u64;
    let accounted = answered() - before + counts.rejected() + waiting;
    assert_eq!(
        accounted,
        counts.arrived(),
        "seed {}: a request is not accounted for",
        trace.seed
    );
    counts.arrived()
}

/// Longest time in a row above the power budget, while a sensor could tell.
fn excess_s(board: &Board<'_>, trace: &Trace) -> f64 {
    let budget_mw = f64::from(trace.demand.power_mw.0) * TOLERANCE;
    let (mut longest, mut present) = (0_u32, 0_u32);
    for window in 0..(HOUR_NS / READING_NS) as usize {
        let now_ns = window as u64 * READING_NS;
        let blind = trace.faults.iter().any(|fault| {
            matches!(fault.kind, Kind::SensorAbsent | Kind::SensorStuck) && fault.holds(now_ns)
        });
        present = match board.average_mw(window) > budget_mw && !blind {
            true => present + 1,
            false => 0,
        };
        longest = longest.max(present);
    }
    f64::from(longest) * READING_NS as f64 / 1e9
}
