//! Every reason to act, every reason not to, and the way back.

use super::*;
use fulcrum_plan::table::{Cell, Provenance, Row, Workload};
use fulcrum_plan::units::Khz;
use fulcrum_plan::{PlanTable, PowerMode};

const SECOND_NS: u64 = 1_000_000_000;

/// Rows of 10, 20, 30 and 40 W, each faster than the one before: a training step, and batches of 1 and 8.
fn plan() -> PlanTable {
    let workload = |name: &str, batches: &[u16]| Workload {
        name: name.try_into().unwrap(),
        batches: batches.iter().copied().collect(),
    };
    let rows = (1..=4_u32).map(|level| {
        let cell = |time_us| {
            Some(Cell {
                time_us: MicroSec(time_us / level),
                power_mw: MilliWatt(level * 10_000),
            })
        };
        Row {
            mode: PowerMode {
                cores: 4,
                cpu_khz: Khz(level),
                gpu_khz: Khz(1),
                emc_khz: Khz(1),
            },
            cells: [cell(80_000), cell(20_000), cell(80_000)]
                .into_iter()
                .collect(),
        }
    });
    PlanTable {
        board: "orin-agx".try_into().unwrap(),
        provenance: Provenance::default(),
        train: Some(workload("t", &[16])),
        infer: [workload("i", &[1, 8])].into_iter().collect(),
        rows: rows.collect(),
    }
}

const DEMAND: Demand = Demand {
    power_mw: MilliWatt(30_000),
    latency_us: MicroSec(300_000),
    rate: MilliRps(40_000),
};

const QUIET: Reading = Reading {
    power_mw: Some(MilliWatt(29_000)),
    readings: 10,
    planned_mw: None,
    peak_mw: None,
    busy_ns: 0,
    over_current: false,
    hot: false,
    arrived: 0,
    missed: 0,
    slowdown_per_mille: None,
};

struct Bench {
    plan: PlanTable,
    guard: Guard,
    now_ns: u64,
}

impl Bench {
    fn new() -> Self {
        let plan = plan();
        let problem = Problem::TrainingInference(0);
        let current = Selector::new(&plan).select(problem, &DEMAND).unwrap();
        assert_eq!((current.row, current.serving.unwrap().batch), (2, 8));
        Self {
            guard: Guard::new(problem, DEMAND, current, 0),
            plan,
            now_ns: 0,
        }
    }

    /// One control period with 40 arrivals; carries a change out.
    fn look(&mut self, reading: Reading) -> Option<Change> {
        self.look_after(SECOND_NS, reading)
    }

    /// The same after some time.
    fn look_after(&mut self, elapsed_ns: u64, reading: Reading) -> Option<Change> {
        self.now_ns += elapsed_ns;
        let arrived = self.now_ns * 40 / SECOND_NS;
        self.step(Reading { arrived, ..reading })
    }

    fn look_with(&mut self, reading: Reading) -> Option<Change> {
        self.now_ns += SECOND_NS;
        self.step(reading)
    }

    fn step(&mut self, reading: Reading) -> Option<Change> {
        assert!(self.guard.is_due(self.now_ns));
        let change = self
            .guard
            .step(self.now_ns, &Selector::new(&self.plan), &reading)?;
        self.guard.done(self.now_ns, change.solution);
        Some(change)
    }
}

fn drawing(power_mw: u32) -> Reading {
    Reading {
        power_mw: Some(MilliWatt(power_mw)),
        ..QUIET
    }
}

#[test]
fn nothing_changes_while_everything_is_as_planned() {
    let mut bench = Bench::new();
    for _ in 0..600 {
        assert_eq!(bench.look(QUIET), None);
    }
    assert!(!bench.guard.is_due(bench.now_ns + LOOK_NS - 1));
}

#[test]
fn power_above_the_budget_leads_to_a_safer_row_within_one_period() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.look(drawing(30_300)),
        None,
        "within the sensor's accuracy"
    );
    let change = bench.look(drawing(30_301)).unwrap();
    assert_eq!((change.reason, change.solution.row), (Reason::Power, 1));
    assert!(change.reason.is_urgent());
    assert!(change.solution.background.is_some(), "training goes on");
}

#[test]
fn an_excess_is_taken_off_whole_and_training_stops_before_serving_does() {
    let mut bench = Bench::new();
    let change = bench.look(drawing(45_000)).unwrap();
    assert_eq!(change.solution.row, 0);
    // Still too much in the row of the least power: training stops, requests are served.
    let change = bench.look(drawing(31_000)).unwrap();
    assert_eq!((change.solution.row, change.solution.background), (0, None));
    assert!(change.solution.serving.is_some());
    // And then there is nothing left to do, and nothing is asked for again and again.
    for _ in 0..10 {
        assert_eq!(bench.look(drawing(31_000)), None);
    }
}

#[test]
fn training_that_was_promised_a_share_goes_on_where_no_row_answers_all() {
    // The fastest row under the budget cannot train under it; or its step is too long for a batch after it to be in time.
    for (step_mw, step_us, share_per_mille, row, trains) in [
        (35_000, 26_666, 0, 2, false),
        (35_000, 26_666, 100, 1, true),
        (30_000, 280_000, 0, 2, true),
        (30_000, 280_000, 100, 1, true),
    ] {
        let mut bench = Bench::new();
        bench.plan.rows[2].cells[0] = Some(Cell {
            time_us: MicroSec(step_us),
            power_mw: MilliWatt(step_mw),
        });
        bench.guard = bench.guard.promising(share_per_mille);
        let flood = Reading {
            arrived: 10_000,
            missed: 9_000,
            ..QUIET
        };
        let change = bench.look_with(flood);
        let current = change.map_or(*bench.guard.current(), |change| change.solution);
        assert_eq!((current.row, current.background.is_some()), (row, trains));
    }
}

#[test]
fn over_current_and_heat_lead_to_a_safer_row() {
    for (reading, reason) in [
        (
            Reading {
                over_current: true,
                ..QUIET
            },
            Reason::OverCurrent,
        ),
        (Reading { hot: true, ..QUIET }, Reason::Heat),
    ] {
        let change = Bench::new().look(reading).unwrap();
        assert_eq!((change.reason, change.solution.row), (reason, 1));
    }
}

/// Seconds in peace until the first row of before is back.
fn peace(bench: &mut Bench, reading: Reading) -> u64 {
    let climbed = (1..).find(|waited| {
        assert!(*waited < 2_000);
        let change = bench.look(reading);
        change.is_some_and(|change| change.reason == Reason::Calm && change.solution.row == 2)
    });
    climbed.unwrap()
}

#[test]
fn the_way_back_is_slow_and_slower_after_every_relapse() {
    let mut bench = Bench::new();
    let waits = [(); 3].map(|()| {
        bench.look(drawing(36_000)).unwrap();
        peace(&mut bench, drawing(15_000))
    });
    let calm = CALM_NS / SECOND_NS;
    assert_eq!(waits[0], calm);
    assert!(waits[1] > calm && waits[2] > calm, "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= 6 * calm), "{waits:?}");
}

#[test]
fn a_relapse_goes_back_to_where_there_was_peace() {
    let hot = Reading { hot: true, ..QUIET };
    let mut bench = Bench::new();
    while bench.look(hot).is_some() {}
    let peaceful = bench.guard.cap.power_mw();
    let _ = peace(&mut bench, drawing(9_000));
    assert_eq!(bench.look(hot).unwrap().reason, Reason::Heat);
    assert!(bench.guard.cap.power_mw() <= peaceful);
}

#[test]
fn the_way_back_is_three_times_as_fast_while_requests_are_missed() {
    let mut bench = Bench::new();
    bench.look(drawing(36_000)).unwrap();
    let climbs = (1..).find(|second| {
        let missing = Reading {
            missed: second * 10,
            ..drawing(15_000)
        };
        let _ = bench.look(missing);
        !bench.guard.cap.is_lowered()
    });
    assert_eq!(climbs, Some(CALM_NS / SECOND_NS / 3));
}

#[test]
fn the_steps_down_of_one_violation_are_no_relapses() {
    let hot = Reading { hot: true, ..QUIET };
    let mut bench = Bench::new();
    for _ in 0..3 {
        let _ = bench.look(hot);
    }
    assert_eq!(peace(&mut bench, drawing(9_000)), CALM_NS / SECOND_NS);
}

/// A look with so many readings of power, of work that draws so much by the plan and takes all the time.
fn working(power_mw: u32, planned_mw: u32, readings: u64) -> Reading {
    Reading {
        power_mw: Some(MilliWatt(power_mw)),
        readings,
        planned_mw: Some(MilliWatt(planned_mw)),
        peak_mw: Some(MilliWatt(planned_mw)),
        busy_ns: SECOND_NS,
        ..QUIET
    }
}

#[test]
fn what_noise_explains_counts_when_it_lasts() {
    let mut bench = Bench::new();
    // 2.7 % above the budget, in two readings of 2 % noise each: no row of 30 W would be safe from that.
    for _ in 0..16 {
        assert_eq!(bench.look(working(30_800, 30_000, 2)), None);
        assert_eq!(bench.look(working(29_200, 30_000, 2)), None);
    }
    let found = (1..).find(|_| bench.look(working(30_800, 30_000, 2)).is_some());
    assert!(found.unwrap() <= 32, "{found:?}");
    // Ten readings are off by 0.6 %, and one look is enough.
    let change = Bench::new().look(working(31_000, 30_000, 10)).unwrap();
    assert_eq!(change.reason, Reason::Power);
}

#[test]
fn the_cap_follows_what_a_busy_board_shows_of_its_appetite() {
    let mut bench = Bench::new();
    assert!(bench.look(working(33_000, 30_000, 10)).is_some());
    let look = |bench: &mut Bench, power_mw| {
        let busy_ns = LOOK_NS;
        let reading = working(power_mw, 20_000, 3);
        bench.look_after(LOOK_NS, Reading { busy_ns, ..reading })
    };
    // A tenth hungrier than the plan in the row of 20 W, too: no climb, however long.
    for _ in 0..10 * CALM_NS / LOOK_NS {
        assert_eq!(look(&mut bench, 22_000), None);
    }
    // As planned again: back as soon as the average shows it.
    let back = (1..).find(|_| look(&mut bench, 20_000).is_some());
    assert!(back.unwrap() * LOOK_NS < CALM_NS, "{back:?}");
    assert_eq!(bench.guard.current().row, 2);
}

#[test]
fn a_sensor_that_hangs_leads_no_further_down() {
    let mut bench = Bench::new();
    assert!(bench.look(working(33_000, 30_000, 10)).is_some());
    for _ in 0..10 {
        assert_eq!(bench.look(working(33_000, 20_000, 10)), None);
    }
}

#[test]
fn a_board_that_draws_more_than_the_plan_says_gets_a_row_that_fits_at_once() {
    // Rows of 30 W that draw 39 W: row 1 would draw 26 W, and fits; 9 W less than 30 would allow it too.
    // Half of the time was inference: what was drawn on average was 32 W where the plan says 24 W.
    let mut bench = Bench::new();
    let reading = working(32_000, 24_000, 10);
    let change = bench.look(reading).unwrap();
    assert_eq!((change.reason, change.solution.row), (Reason::Power, 1));
    assert!(bench.guard.cap.power_mw() <= MilliWatt(22_500));
}

#[test]
fn a_reading_that_no_row_can_draw_is_believed_when_it_lasts() {
    let mut bench = Bench::new();
    for reading in [drawing(300_000), drawing(300_000), QUIET] {
        assert_eq!(bench.look(reading), None);
    }
    for _ in 0..3 {
        assert_eq!(bench.look(drawing(300_000)), None);
    }
    assert_eq!(bench.look(drawing(300_000)).unwrap().reason, Reason::Power);
}

#[test]
fn missed_requests_lead_to_a_row_for_what_comes_within_one_period() {
    let mut bench = Bench::new();
    // Right after a start, five times as many: batches of 8 in 27 ms serve 300 per second.
    let change = bench.look_with(Reading {
        arrived: 200,
        missed: 3,
        ..QUIET
    });
    assert_eq!(bench.guard.assumed_rate(), MilliRps(220_000));
    if let Some(change) = change {
        assert_eq!(change.reason, Reason::Latency);
    }
    // One request is chance.
    let mut bench = Bench::new();
    let _ = bench.look_with(Reading {
        arrived: 200,
        missed: 1,
        ..QUIET
    });
    assert_eq!(bench.guard.assumed_rate(), DEMAND.rate);
}

#[test]
fn requests_that_the_row_cannot_serve_are_no_sign_of_a_slow_board() {
    let mut bench = Bench::new();
    // Far more than any row serves.
    for second in 1..=20 {
        let _ = bench.look_with(Reading {
            arrived: second * 2_000,
            missed: second * 1_000,
            ..QUIET
        });
    }
    assert_eq!(bench.guard.pace_per_mille, 1_000);
    // Missed though the row serves so many: it must be slower than it seems.
    let mut bench = Bench::new();
    for second in 1..=3 {
        let _ = bench.look(Reading {
            missed: second * 10,
            ..QUIET
        });
    }
    assert!(bench.guard.pace_per_mille > 1_000);
}

#[test]
fn a_change_that_no_budget_demands_has_to_be_worth_its_cost() {
    let bench = Bench::new();
    let solution = |steps| {
        let mut other = *bench.guard.current();
        let background = other.background.as_mut().unwrap();
        background.steps = steps;
        other.mode.cores = 8;
        other
    };
    let steps = bench.guard.current().background.unwrap().steps;
    assert!(!bench.guard.is_worth(&bench.plan, &solution(steps)));
    assert!(bench.guard.is_worth(&bench.plan, &solution(steps + 1)));
}

#[test]
fn a_sensor_that_is_absent_is_no_reason_to_act_and_none_to_climb() {
    let absent = Reading {
        power_mw: None,
        ..QUIET
    };
    let mut bench = Bench::new();
    assert_eq!(bench.look(absent), None);
    bench.look(drawing(36_000)).unwrap();
    for _ in 0..10 * CALM_NS / SECOND_NS {
        assert_eq!(bench.look(absent), None);
    }
}

#[test]
fn a_slower_board_is_asked_for_as_the_plan_at_a_faster_pace() {
    let mut bench = Bench::new();
    let slower = Reading {
        slowdown_per_mille: Some(3_500),
        ..QUIET
    };
    for _ in 0..9 {
        assert_eq!(
            bench.look(slower),
            None,
            "not before the dwell time is over"
        );
    }
    // Three and a half times slower, batches of 8 take 93 ms and those of 1 take 23 ms: with a window of
    // 200 ms, the peak latency is 293 ms, and nothing fits in the budget better.
    assert_eq!(
        bench.look(slower),
        None,
        "the row in use is the only one that still fits"
    );
    let mut far = Bench::new();
    far.now_ns = 20 * SECOND_NS;
    let much_slower = Reading {
        slowdown_per_mille: Some(20_000),
        ..QUIET
    };
    // No row fits: the loop copes where it is.
    assert_eq!(far.look(much_slower), None);
}

#[test]
fn arrivals_are_followed_after_the_dwell_time() {
    let mut bench = Bench::new();
    // A tenth of the requests: the window of 8 is too long now, so batches of 1 are served.
    let mut changes = Vec::new();
    // What was there before is reckoned with for five to ten minutes.
    for second in 1..=900 {
        let reading = Reading {
            arrived: second * 4,
            ..QUIET
        };
        changes.extend(bench.look_with(reading).map(|change| (second, change)));
    }
    let (first, change) = changes.first().copied().unwrap();
    assert!(first >= DWELL_NS / SECOND_NS);
    assert_eq!(change.reason, Reason::Arrivals);
    let last = bench.guard.current().serving.unwrap();
    assert_eq!(last.batch, 1);
    assert!(changes.len() <= 4, "{changes:?}");
}

#[test]
fn training_goes_on_when_nobody_asks_any_more() {
    let mut bench = Bench::new();
    // The row that answers the fastest is none to train in.
    bench.plan.rows[2].cells[0] = None;
    let problem = Problem::TrainingInference(0);
    let current = Selector::new(&bench.plan).select(problem, &DEMAND).unwrap();
    bench.guard = Guard::new(problem, DEMAND, current, 0);
    for _ in 0..1_200 {
        let _ = bench.look_with(QUIET);
    }
    assert!(bench.guard.assumed_rate() < DEMAND.rate, "nobody asks");
    assert!(bench.guard.current().background.is_some());
}

#[test]
fn a_board_that_only_trains_ends_in_its_row_of_the_least_power() {
    let plan = plan();
    let selector = Selector::new(&plan);
    let current = selector.select(Problem::Training, &DEMAND).unwrap();
    let mut guard = Guard::new(Problem::Training, DEMAND, current, 0);
    let change = guard.step(SECOND_NS, &selector, &drawing(79_000)).unwrap();
    assert_eq!(change.solution.row, 0);
    assert!(change.solution.background.is_some());
}
