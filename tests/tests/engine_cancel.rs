//! Cancelling training steps under load. Goal: a cancel stops the step it found running and touches no other.
//! Method: one thread cancels as fast as it can while another trains, and every outcome is looked at.

use fulcrum_runtime::engine::RunError;
use fulcrum_tests::models::{digits, load};
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
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end {
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
