//! The loop over a fake engine and a clock that moves with the work.

use super::*;
use crate::queue::Ring;
use crate::schedule::{Overload, Policy, Serving};
use std::cell::Cell;

const MS: u64 = 1_000_000;

#[derive(Default)]
struct FakeClock(Cell<u64>);

impl FakeClock {
    fn advance(&self, by_ns: u64) {
        self.0.set(self.0.get() + by_ns);
    }
}

impl Clock for FakeClock {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }
}

struct FakeWork<'a> {
    clock: &'a FakeClock,
    infer_fails: bool,
    train_fails: Option<WorkError>,
    given_up: usize,
}

impl Work for FakeWork<'_> {
    fn infer(&mut self, requests: &[Request]) -> Result<usize, WorkError> {
        assert!(!requests.is_empty());
        self.clock.advance(8 * MS);
        if self.infer_fails {
            return Err(WorkError::Failed { code: 1 });
        }
        Ok(4)
    }

    fn train(&mut self) -> Result<f32, WorkError> {
        self.clock.advance(16 * MS);
        self.train_fails.map_or(Ok(0.5), Err)
    }

    fn give_up(&mut self, _: &Request, _: GivenUp) {
        self.given_up += 1;
    }
}

fn work(clock: &FakeClock) -> FakeWork<'_> {
    FakeWork {
        clock,
        infer_fails: false,
        train_fails: None,
        given_up: 0,
    }
}

const ASSIGNMENT: Assignment = Assignment {
    serving: Some(Serving {
        batch: 4,
        infer_ns: 8 * MS,
        budget_ns: 100 * MS,
    }),
    train_ns: Some(16 * MS),
    bulk: None,
    policy: Policy {
        overload: Overload::RejectNewest,
        train_share_per_mille: 0,
    },
};

const RATE: MilliRps = MilliRps(40_000);

fn request(id: u64, arrival_ns: u64) -> Request {
    Request {
        id,
        arrival_ns,
        place: 0,
    }
}

#[test]
fn every_request_is_counted_once_with_its_latency_from_arrival() {
    let (clock, telemetry, mut ring) = (FakeClock::default(), Telemetry::default(), Ring::new());
    let (mut sender, receiver) = ring.split();
    let mut looping = Loop::new(&clock, work(&clock), receiver, &telemetry, ASSIGNMENT, RATE);
    clock.advance(200 * MS);
    for (id, waited_ms) in [(1, 93), (2, 92), (3, 10), (4, 1)] {
        let arrival_ns = clock.now_ns() - waited_ms * MS;
        sender.send(request(id, arrival_ns)).unwrap();
    }
    assert_eq!(looping.turn(), Ok(Turn::Worked));
    assert_eq!((telemetry.served.get(), telemetry.late.get()), (4, 1));
    assert_eq!(telemetry.latency.max_ns(), 101 * MS);
    assert_eq!(telemetry.batches.get(), 1);
}

#[test]
fn training_fills_the_gaps_and_nobody_is_late_at_a_constant_rate() {
    let (clock, telemetry, mut ring) = (FakeClock::default(), Telemetry::default(), Ring::new());
    let (mut sender, receiver) = ring.split();
    let mut looping = Loop::new(&clock, work(&clock), receiver, &telemetry, ASSIGNMENT, RATE);
    // 40 requests/s: a batch of 4 every 100 ms, which leaves no slack beyond the budget.
    let (gap_ns, mut next) = (25 * MS, 0);
    while clock.now_ns() < 60_000 * MS {
        while next * gap_ns <= clock.now_ns() {
            sender.send(request(next, next * gap_ns)).unwrap();
            next += 1;
        }
        if let Turn::Wait { until_ns } = looping.turn().unwrap() {
            let until_ns = until_ns.unwrap_or(u64::MAX).min(next * gap_ns);
            clock.advance(until_ns - clock.now_ns());
        }
    }
    assert_eq!(
        (telemetry.late.get(), looping.requests().counts().rejected()),
        (0, 0)
    );
    assert!(telemetry.served.get() + 8 > next);
    // The formula's k is floor((100 - 8) / 16) = 5 in each of 600 windows.
    assert!(
        telemetry.steps.get() >= 600 * 5,
        "{}",
        telemetry.steps.get()
    );
}

#[test]
fn failed_inference_gives_every_request_up_and_ends_the_loop_if_it_lasts() {
    let (clock, telemetry, mut ring) = (FakeClock::default(), Telemetry::default(), Ring::new());
    let (mut sender, receiver) = ring.split();
    let mut failing = work(&clock);
    failing.infer_fails = true;
    let mut looping = Loop::new(&clock, failing, receiver, &telemetry, ASSIGNMENT, RATE);
    for failure in 1..=FAILURES_MAX {
        for id in 0..4 {
            sender.send(request(id, clock.now_ns())).unwrap();
        }
        let turn = looping.turn();
        if failure < FAILURES_MAX {
            assert_eq!(turn, Ok(Turn::Worked));
        } else {
            assert_eq!(turn, Err(WorkError::Failed { code: 1 }));
        }
    }
    let lost = u64::from(4 * FAILURES_MAX);
    assert_eq!((telemetry.failed.get(), telemetry.served.get()), (lost, 0));
    assert_eq!(looping.work().given_up as u64, lost);
    let schedule = looping.schedule();
    assert_eq!(schedule.busy().partial_ns, u64::from(FAILURES_MAX) * 8 * MS);
    assert_eq!(schedule.infer().mean_ns(), 8 * MS);
    assert!(!schedule.infer().is_measured());
}

#[test]
fn failed_training_stops_but_inference_goes_on() {
    let (clock, telemetry, mut ring) = (FakeClock::default(), Telemetry::default(), Ring::new());
    let (mut sender, receiver) = ring.split();
    let mut failing = work(&clock);
    let error = WorkError::Failed { code: 2 };
    failing.train_fails = Some(error);
    let mut looping = Loop::new(&clock, failing, receiver, &telemetry, ASSIGNMENT, RATE);
    for _ in 1..FAILURES_MAX {
        assert_eq!(looping.turn(), Ok(Turn::Worked));
    }
    assert_eq!(looping.turn(), Ok(Turn::TrainingStopped(error)));
    assert_eq!(looping.turn(), Ok(Turn::Wait { until_ns: None }));
    for id in 0..4 {
        sender.send(request(id, clock.now_ns())).unwrap();
    }
    assert_eq!(looping.turn(), Ok(Turn::Worked));
    assert_eq!(telemetry.served.get(), 4);
}

#[test]
fn cancelled_steps_are_counted_and_never_stop_training() {
    let (clock, telemetry, mut ring) = (FakeClock::default(), Telemetry::default(), Ring::new());
    let (_sender, receiver) = ring.split();
    let mut cancelled = work(&clock);
    cancelled.train_fails = Some(WorkError::Cancelled);
    let mut looping = Loop::new(&clock, cancelled, receiver, &telemetry, ASSIGNMENT, RATE);
    for _ in 0..3 * FAILURES_MAX {
        assert_eq!(looping.turn(), Ok(Turn::Worked));
    }
    assert_eq!(telemetry.steps_lost.get(), u64::from(3 * FAILURES_MAX));
    assert_eq!(telemetry.steps.get(), 0);
}

#[test]
fn a_cancellation_that_hits_the_step_after_its_own_is_no_longer_than_that_step() {
    let (clock, telemetry, mut ring) = (FakeClock::default(), Telemetry::default(), Ring::new());
    let (_sender, receiver) = ring.split();
    let watchdog = Watchdog::default();
    let mut cancelled = work(&clock);
    cancelled.train_fails = Some(WorkError::Cancelled);
    // The watchdog was told of this step and has not cancelled it; and the clock began long ago.
    clock.advance(3_600_000 * MS);
    let mut looping = Loop::new(&clock, cancelled, receiver, &telemetry, ASSIGNMENT, RATE)
        .with_watchdog(&watchdog);
    assert_eq!(looping.turn(), Ok(Turn::Worked));
    assert_eq!(telemetry.steps_lost.get(), 1);
    // The budget without a batch, the margin, and the 16 ms of the step.
    let patience_ns = 100 * MS - 8 * MS - 100 * MS / 64 - 16 * MS;
    let due = looping.schedule().due(clock.now_ns(), &Inputs::default());
    assert_eq!(due.map(|(_, patience_ns)| patience_ns), Some(patience_ns));
}
