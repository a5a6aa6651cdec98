//! Cancelling training steps under load. Goal: a cancel stops the step it found running and touches no other.
//! Method: one thread cancels as fast as it can while another trains, and every outcome is looked at.

use fulcrum_plan::units::MilliRps;
use fulcrum_runtime::engine::{Parameters, RunError, TrainingSession};
use fulcrum_runtime::queue::{Request, Ring};
use fulcrum_runtime::schedule::{Assignment, Policy, Serving};
use fulcrum_runtime::serve::{Clock, GivenUp, Loop, Turn, Work, WorkError};
use fulcrum_runtime::telemetry::Telemetry;
use fulcrum_runtime::watchdog::Watchdog;
use fulcrum_tests::models::{digits, load};
use fulcrum_tests::running::PATIENCE;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn a_cancel_at_any_moment_stops_one_step_and_nothing_else() {
    let (mut training, mut parameters) = load(&digits("train.onnx"));
    let handle = training.cancel_handle();
    let done = AtomicBool::new(false);
    let (mut finished, mut cancelled) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                handle.cancel();
                thread::yield_now();
            }
        });
        let begun = Instant::now();
        // On a busy machine until the other thread had its turn.
        while begun.elapsed() < Duration::from_secs(2)
            || cancelled == 0 && begun.elapsed() < PATIENCE
        {
            match training.step(&mut parameters) {
                Ok(_) => finished += 1,
                Err(RunError::Cancelled) => cancelled += 1,
                Err(error) => panic!("{error}: {}", training.last_error()),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(
        cancelled > 0,
        "{finished} steps finished, none was cancelled"
    );
    assert!(
        training.step(&mut parameters).is_ok(),
        "the last cancel does not stay"
    );
}

struct Monotonic(Instant);

impl Clock for Monotonic {
    fn now_ns(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Steps of so many runs; inference costs nothing. Whatever the machine does, a step of the real engine is
/// running when its time is over.
struct LongSteps {
    training: TrainingSession,
    parameters: Parameters,
    runs: usize,
}

impl Work for LongSteps {
    fn infer(&mut self, _: &[Request]) -> Result<usize, WorkError> {
        Ok(1)
    }

    fn train(&mut self) -> Result<f32, WorkError> {
        let mut loss = 0.0;
        for _ in 0..self.runs {
            loss = self.training.step(&mut self.parameters)?;
        }
        Ok(loss)
    }

    fn give_up(&mut self, _: &Request, _: GivenUp) {}
}

#[test]
fn a_step_that_would_make_a_request_late_is_cancelled_and_the_request_is_answered() {
    const MS: u64 = 1_000_000;
    let (training, parameters) = load(&digits("train.onnx"));
    let cancel = training.cancel_handle();
    let (clock, telemetry, watchdog) = (
        Monotonic(Instant::now()),
        Telemetry::default(),
        Watchdog::default(),
    );
    let mut ring = Ring::new();
    let (mut sender, receiver) = ring.split();
    let counts = receiver.counts();
    let assignment = Assignment {
        serving: Some(Serving {
            batch: 1,
            infer_ns: MS,
            budget_ns: 200 * MS,
        }),
        // Longer than the budget, so it is only tried while nobody waits; it never ends by itself.
        train_ns: Some(300 * MS),
        bulk: None,
        policy: Policy::default(),
    };
    let work = LongSteps {
        training,
        parameters,
        runs: usize::MAX,
    };
    let mut looping = Loop::new(
        &clock,
        work,
        receiver,
        &telemetry,
        assignment,
        MilliRps(1_000),
    )
    .with_watchdog(&watchdog);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| watchdog.run(|| clock.now_ns(), counts, || cancel.cancel(), &done));
        scope.spawn(|| {
            while telemetry.served.get() == 0 {
                // Nobody waits when the step begins; then one does.
                thread::sleep(Duration::from_millis(50));
                let arrival_ns = clock.now_ns();
                let request = Request {
                    id: 0,
                    arrival_ns,
                    place: 0,
                };
                let _ = sender.send(request);
            }
        });
        while telemetry.served.get() == 0 || telemetry.steps_lost.get() == 0 {
            if let Turn::Wait { .. } = looping.turn().unwrap() {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(telemetry.steps.get(), 0);
    let (mut work, _) = looping.into_parts();
    work.runs = 1;
    assert!(
        work.train().is_ok(),
        "the session is usable, and the parameters are whole"
    );
}
