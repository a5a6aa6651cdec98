//! The way from a reading to a set mode.

use super::*;
use crate::schedule::{Policy, Serving};
use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::select;
use fulcrum_plan::table::{Cell, Provenance, Row, Workload};
use fulcrum_plan::units::Khz;
use std::cell::RefCell;

const SECOND_NS: u64 = 1_000_000_000;

/// Rows of 10, 20 and 30 W with 2, 4 and 4 cores.
fn plan() -> PlanTable {
    let rows = [(10, 2), (20, 4), (30, 4)].map(|(watts, cores)| Row {
        mode: PowerMode {
            cores,
            cpu_khz: Khz(watts),
            gpu_khz: Khz(1),
            emc_khz: Khz(1),
        },
        cells: [Some(Cell {
            time_us: MicroSec(600_000 / watts),
            power_mw: MilliWatt(watts * 1_000),
        })]
        .into_iter()
        .collect(),
    });
    PlanTable {
        board: "orin-agx".try_into().unwrap(),
        provenance: Provenance::default(),
        train: None,
        infer: [Workload {
            name: "i".try_into().unwrap(),
            batches: [4].into_iter().collect(),
        }]
        .into_iter()
        .collect(),
        rows: rows.into_iter().collect(),
    }
}

const DEMAND: Demand = Demand {
    power_mw: MilliWatt(30_000),
    latency_us: MicroSec(500_000),
    rate: MilliRps(40_000),
};

fn arrived(arrived: u64) -> Requests {
    Requests { arrived, missed: 0 }
}

/// Remembers the modes that were set; refuses those of a clock.
struct Recorder<'a> {
    set: &'a RefCell<Vec<u32>>,
    refused_khz: u32,
}

impl SetMode for Recorder<'_> {
    fn set_mode(&mut self, mode: &PowerMode) -> bool {
        self.set.borrow_mut().push(mode.cpu_khz.0);
        mode.cpu_khz.0 != self.refused_khz
    }
}

/// Runs `check` with a control whose board refuses a clock, its schedule, readings, and the modes set.
fn with_control(
    refused_khz: u32,
    check: impl FnOnce(
        &mut Control<'_, Recorder<'_>>,
        &Schedule,
        &Readings,
        &RefCell<Vec<u32>>,
        &mut Consumer<'_, Event>,
    ),
) {
    let plan = plan();
    let solution = select(&plan, Problem::Inference(0), &DEMAND).unwrap();
    assert_eq!(solution.row, 2);
    let (readings, set, mut events) = (
        Readings::new(solution.row),
        RefCell::default(),
        Events::default(),
    );
    let (producer, mut consumer) = events.split();
    let guard = Guard::new(Problem::Inference(0), DEMAND, solution, 0);
    let board = Recorder {
        set: &set,
        refused_khz,
    };
    let duty = Duty {
        problem: Problem::Inference(0),
        bulk: false,
        budget_us: DEMAND.latency_us,
        policy: Policy::default(),
    };
    let mut control = Control::new(guard, &plan, board, &readings, producer, duty);
    let assignment = duty.assignment(&plan, &solution);
    let schedule = Schedule::new(assignment, 0);
    check(&mut control, &schedule, &readings, &set, &mut consumer);
}

#[test]
fn a_violated_budget_becomes_a_set_mode_and_one_event() {
    with_control(0, |control, schedule, readings, set, events| {
        readings.set(Some(MilliWatt(36_000)), 0, false);
        control.look(guard::LOOK_NS - 1, schedule, arrived(10));
        assert_eq!(control.wanted(), None, "it is not time to look");
        control.look(SECOND_NS, schedule, arrived(40));
        assert!(control.wanted().unwrap().urgent);
        let assignment = control.change(SECOND_NS).unwrap();
        assert_eq!(*set.borrow(), [20]);
        let expected = Serving {
            batch: 4,
            infer_ns: 30_000_000,
            budget_ns: 500_000_000,
        };
        assert_eq!(assignment.serving, Some(expected));
        assert_eq!(readings.row(), Some((1, 2)));
        assert!(matches!(
            events.dequeue(),
            Some(Event::Changed {
                reason: Reason::Power,
                ..
            })
        ));
        assert_eq!(events.dequeue(), None);
    });
}

#[test]
fn cores_go_offline_in_a_gap_unless_the_violation_lasts_until_the_next_look() {
    with_control(0, |control, schedule, readings, _, _| {
        readings.set(Some(MilliWatt(49_000)), 0, false);
        control.look(SECOND_NS, schedule, arrived(40));
        let switch = control.wanted().unwrap();
        assert_eq!((switch.urgent, switch.cost_ns), (false, 80_000_000));
        control.look(SECOND_NS + guard::LOOK_NS, schedule, arrived(50));
        assert!(control.wanted().unwrap().urgent);
    });
}

#[test]
fn a_failed_change_leaves_everything_and_is_said() {
    with_control(20, |control, schedule, readings, _, events| {
        readings.set(Some(MilliWatt(36_000)), 0, false);
        control.look(SECOND_NS, schedule, arrived(40));
        assert_eq!(control.change(SECOND_NS), None);
        assert_eq!(
            (control.guard().current().row, readings.row()),
            (2, Some((2, 2)))
        );
        let reason = Reason::Power;
        assert_eq!(events.dequeue(), Some(Event::Failed { reason }));
    });
}

#[test]
fn drift_is_mended_by_setting_the_same_mode_again() {
    with_control(0, |control, schedule, readings, set, events| {
        readings.set(Some(MilliWatt(20_000)), 0, false);
        readings.drifted();
        control.look(SECOND_NS, schedule, arrived(40));
        assert!(control.wanted().unwrap().urgent, "who knows what they draw");
        assert_eq!(
            control.change(SECOND_NS),
            None,
            "the schedule stays as it is"
        );
        assert_eq!(*set.borrow(), [30]);
        assert_eq!(events.dequeue(), Some(Event::Mended));
        control.look(2 * SECOND_NS, schedule, arrived(80));
        assert_eq!(control.wanted(), None, "once");
    });
}

#[test]
fn a_share_that_cannot_be_had_is_said_once() {
    with_control(0, |control, _, _, _, events| {
        let training = |train_ms: u64| {
            let assignment = Assignment {
                serving: Some(Serving {
                    batch: 4,
                    infer_ns: 20_000_000,
                    budget_ns: 500_000_000,
                }),
                train_ns: Some(train_ms * 1_000_000),
                bulk: None,
                policy: Policy {
                    train_share_per_mille: 200,
                    ..Policy::default()
                },
            };
            Schedule::new(assignment, 0)
        };
        let mut told = Vec::new();
        for (look, train_ms) in [400, 490, 400, 490, 490, 490, 400, 490, 490]
            .iter()
            .enumerate()
        {
            let now_ns = (look as u64 + 1) * guard::LOOK_NS;
            control.look(now_ns, &training(*train_ms), arrived(10 * look as u64));
            told.extend(events.dequeue().map(|event| (look, event)));
        }
        assert_eq!(told, [(4, Event::PromiseBroken)]);
    });
}

#[test]
fn over_current_counts_from_the_start_and_each_event_once() {
    with_control(0, |control, schedule, readings, _, _| {
        readings.set(None, 0, false);
        control.look(guard::LOOK_NS, schedule, arrived(10));
        assert_eq!(control.wanted(), None);
    });
    with_control(0, |control, schedule, readings, _, _| {
        // Before the first look already: the mode itself may be what brought it about.
        readings.set(None, 1, false);
        control.look(guard::LOOK_NS, schedule, arrived(10));
        assert!(control.wanted().is_some());
        control.change(guard::LOOK_NS);
        control.look(2 * SECOND_NS, schedule, arrived(80));
        assert_eq!(control.wanted(), None);
    });
}
