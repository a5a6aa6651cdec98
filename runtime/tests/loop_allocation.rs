//! Invariant I5: a turn of the loop does not allocate in Rust, on success and on every error path.
//!
//! Method: the counting allocator is the process's; a fake engine fails in every way it can; everything
//! that a run needs is made first, and from then on neither an allocation nor a free may happen.

use fulcrum_plan::units::MilliRps;
use fulcrum_runtime::allocation::{self, CountingAllocator};
use fulcrum_runtime::queue::{Request, Ring};
use fulcrum_runtime::schedule::{Assignment, Bulk, Overload, Policy, Serving};
use fulcrum_runtime::serve::{Clock, FAILURES_MAX, GivenUp, Loop, Turn, Work, WorkError};
use fulcrum_runtime::telemetry::Telemetry;
use fulcrum_runtime::watchdog::Watchdog;
use std::cell::Cell;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

const MS: u64 = 1_000_000;

#[derive(Default)]
struct FakeClock(Cell<u64>);

impl Clock for FakeClock {
    fn now_ns(&self) -> u64 {
        self.0.get()
    }
}

/// Fails every third inference, every eleventh that is not urgent, and every fifth step, in both ways; later,
/// everything.
struct FakeWork<'a> {
    clock: &'a FakeClock,
    calls: Cell<u64>,
    broken: &'a Cell<bool>,
}

impl FakeWork<'_> {
    fn call(&self, took_ns: u64) -> u64 {
        self.clock.0.set(self.clock.0.get() + took_ns);
        self.calls.set(self.calls.get() + 1);
        self.calls.get()
    }
}

impl Work for FakeWork<'_> {
    fn infer(&mut self, _: &[Request]) -> Result<usize, WorkError> {
        let call = self.call(8 * MS);
        if self.broken.get() || call.is_multiple_of(3) {
            return Err(WorkError::Failed { code: 1 });
        }
        Ok(4)
    }

    fn train(&mut self) -> Result<f32, WorkError> {
        let call = self.call(16 * MS);
        match call % 10 {
            _ if self.broken.get() => Err(WorkError::Failed { code: 2 }),
            0 => Err(WorkError::Cancelled),
            5 => Err(WorkError::Failed { code: 2 }),
            _ => Ok(0.5),
        }
    }

    fn infer_bulk(&mut self, _: &[Request]) -> Result<usize, WorkError> {
        let call = self.call(12 * MS);
        match self.broken.get() || call.is_multiple_of(11) {
            true => Err(WorkError::Failed { code: 3 }),
            false => Ok(4),
        }
    }

    fn give_up(&mut self, _: &Request, _: GivenUp) {}
}

fn turns_without_allocation(overload: Overload) {
    // Beside a share nobody is admitted who would be dropped.
    let train_share_per_mille = match overload {
        Overload::DropLate => 0,
        _ => 100,
    };
    let assignment = Assignment {
        serving: Some(Serving {
            batch: 4,
            infer_ns: 8 * MS,
            budget_ns: 100 * MS,
        }),
        train_ns: Some(16 * MS),
        bulk: Some(Bulk {
            batch: 4,
            infer_ns: 12 * MS,
        }),
        policy: Policy {
            overload,
            train_share_per_mille,
        },
    };
    let (clock, broken) = (FakeClock::default(), Cell::new(false));
    let (telemetry, mut ring) = (Telemetry::default(), Ring::new());
    let (mut sender, receiver) = ring.split();
    let counts = receiver.counts();
    let mut bulk_ring = Ring::new();
    let (mut bulk_sender, bulk_receiver) = bulk_ring.split();
    let watchdog = Watchdog::default();
    let work = FakeWork {
        clock: &clock,
        calls: Cell::new(0),
        broken: &broken,
    };
    let mut looping = Loop::new(
        &clock,
        work,
        receiver,
        &telemetry,
        assignment,
        MilliRps(40_000),
    )
    .with_bulk(bulk_receiver)
    .with_watchdog(&watchdog);
    let before = allocation::count();
    let mut sent = 0_u64;
    let mut training_stopped = false;
    let mut bulk_stopped = false;
    let mut gave_up = false;
    for turn in 0..20_000_u64 {
        // Quiet for a while, then far too many requests, then an engine that is broken for good.
        let burst = if turn % 400 < 300 { 0 } else { 9 };
        for _ in 0..burst {
            // One in seven was late before it got here.
            let delay_ns = if sent.is_multiple_of(7) { 99 * MS } else { 0 };
            let request = Request {
                id: sent,
                arrival_ns: clock.now_ns().saturating_sub(delay_ns),
                place: 0,
            };
            sent += 1;
            let _ = sender.send(request);
        }
        if bulk_sender.has_room(clock.now_ns()) {
            let _ = bulk_sender.send(Request::default());
        }
        broken.set(turn > 19_000);
        match looping.turn() {
            Ok(Turn::Worked) => {}
            Ok(Turn::TrainingStopped(_)) => training_stopped = true,
            Ok(Turn::BulkStopped(_)) => bulk_stopped = true,
            Ok(Turn::Wait { until_ns }) => {
                let soon_ns = clock.now_ns() + MS;
                clock.0.set(until_ns.unwrap_or(soon_ns).max(soon_ns));
            }
            Err(_) => {
                gave_up = true;
                break;
            }
        }
    }
    let count = allocation::count().since(before);
    assert!(count.is_zero(), "{overload:?}: {count:?}");
    // Every path was taken.
    assert!(gave_up && training_stopped && bulk_stopped, "{overload:?}");
    assert!(telemetry.failed.get() >= u64::from(FAILURES_MAX));
    assert!(telemetry.served.get() > 0 && telemetry.steps.get() > 0);
    assert!(telemetry.bulk_served.get() > 0 && telemetry.bulk_failed.get() > 0);
    assert!(telemetry.steps_lost.get() > 0);
    assert_eq!(telemetry.dropped.get() > 0, overload == Overload::DropLate);
    // The queue holds all of a burst: where late answers are asked for, nobody is rejected.
    assert_eq!(counts.rejected() == 0, overload == Overload::AnswerLate);
    assert!(telemetry.late.get() > 0 || overload != Overload::AnswerLate);
    // No request is lost unaccounted; the queue still holds the others.
    let answered = telemetry.served.get() + telemetry.failed.get() + telemetry.dropped.get();
    let waiting = looping.requests().pending() as u64;
    assert_eq!(answered + counts.rejected() + waiting, sent);
}

#[test]
fn i5_a_turn_does_not_allocate_on_success_or_error() {
    // The counter counts at all.
    let before = allocation::count();
    drop(std::hint::black_box(Box::new(1_u8)));
    assert_eq!(allocation::count().since(before).allocations, 1);
    for overload in [
        Overload::RejectNewest,
        Overload::DropLate,
        Overload::AnswerLate,
    ] {
        turns_without_allocation(overload);
    }
}
