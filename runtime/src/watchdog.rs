//! The watchdog: cancels a training step that would make a waiting request late.
//!
//! The loop cannot: it is inside the step. It only says when a step begins and when it has to have ended, in
//! atomics, without a system call; a thread of its own looks at them often enough and cancels. That changes
//! nothing (the step writes the other side of the parameters, and sides are exchanged after a step that ended
//! well); the work is lost, so only a request that waits and could still be in time is worth it.

use crate::queue::Counts;
use crate::schedule::Due;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Looks per step.
const LOOKS_PER_STEP: u64 = 8;
/// Limits of the time between two looks.
const LOOK_MIN_NS: u64 = 1_000_000;
const LOOK_MAX_NS: u64 = 50_000_000;
/// No step is watched.
const IDLE: u64 = 0;
/// A step is watched, and nothing waited when it began.
const NOBODY_WAITS: u64 = u64::MAX;

/// What the loop tells the watchdog.
#[derive(Debug, Default)]
pub struct Watchdog {
    /// [`IDLE`], [`NOBODY_WAITS`], or when the step has to have ended.
    due_ns: AtomicU64,
    patience_ns: AtomicU64,
    /// Requests that had arrived when the step began.
    arrived: AtomicU64,
    every_ns: AtomicU64,
    /// When the present step was cancelled first; zero if it was not.
    cancelled_ns: AtomicU64,
}

impl Watchdog {
    /// A step begins that takes `mean_ns` on average, when so many requests had arrived. Does not allocate and
    /// makes no system call.
    pub fn begin(&self, due: Due, arrived: u64, mean_ns: u64) {
        let every_ns = (mean_ns / LOOKS_PER_STEP).clamp(LOOK_MIN_NS, LOOK_MAX_NS);
        self.every_ns.store(every_ns, Ordering::Relaxed);
        self.cancelled_ns.store(0, Ordering::Relaxed);
        let due_ns = match due {
            Due::At(at_ns) => at_ns.clamp(IDLE + 1, NOBODY_WAITS - 1),
            Due::AfterArrival(patience_ns) => {
                self.patience_ns.store(patience_ns, Ordering::Relaxed);
                self.arrived.store(arrived, Ordering::Relaxed);
                NOBODY_WAITS
            }
        };
        self.due_ns.store(due_ns, Ordering::Release);
    }

    /// The step has ended.
    pub fn end(&self) {
        self.due_ns.store(IDLE, Ordering::Release);
    }

    /// When the last step was cancelled first.
    #[must_use]
    pub fn cancelled_ns(&self) -> u64 {
        self.cancelled_ns.load(Ordering::Acquire)
    }

    /// Looks until `done`, and calls `cancel` for a step that has to end now. `now_ns` is the loop's clock.
    pub fn run(
        &self,
        now_ns: impl Fn() -> u64,
        counts: Counts<'_>,
        cancel: impl Fn(),
        done: &AtomicBool,
    ) {
        while !done.load(Ordering::Relaxed) {
            let every_ns = self
                .every_ns
                .load(Ordering::Relaxed)
                .clamp(LOOK_MIN_NS, LOOK_MAX_NS);
            let wait_ns = self.look(now_ns(), counts, &cancel).min(every_ns);
            thread::park_timeout(Duration::from_nanos(wait_ns));
        }
    }

    /// One look: cancels if it is time, else says for how long there is nothing to do.
    fn look(&self, now_ns: u64, counts: Counts<'_>, cancel: impl Fn()) -> u64 {
        let watched = self.due_ns.load(Ordering::Acquire);
        let due_ns = match watched {
            IDLE => return u64::MAX,
            NOBODY_WAITS if counts.arrived() == self.arrived.load(Ordering::Relaxed) => {
                return u64::MAX;
            }
            NOBODY_WAITS => {
                let patience_ns = self.patience_ns.load(Ordering::Relaxed);
                counts.waiting_since_ns().saturating_add(patience_ns)
            }
            at_ns => at_ns,
        };
        if now_ns < due_ns {
            return due_ns - now_ns;
        }
        // Until the step has ended, again at every look: between two runs of the engine there is nothing to cancel.
        let first = self.cancelled_ns.load(Ordering::Relaxed) == 0;
        if first {
            self.cancelled_ns.store(now_ns, Ordering::Release);
        }
        cancel();
        u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{Request, Ring};
    use std::cell::Cell;

    fn request(arrival_ns: u64) -> Request {
        Request {
            id: 0,
            arrival_ns,
            place: 0,
        }
    }

    #[test]
    fn a_step_is_cancelled_from_when_it_has_to_end_for_a_request_that_waits() {
        let (watchdog, mut ring, cancelled) = (Watchdog::default(), Ring::new(), Cell::new(0));
        let (_sender, receiver) = ring.split();
        let counts = receiver.counts();
        let look = |now_ns| watchdog.look(now_ns, counts, || cancelled.set(cancelled.get() + 1));
        assert_eq!(look(50), u64::MAX, "no step runs");
        watchdog.begin(Due::At(100), 7, 80);
        assert_eq!((look(60), cancelled.get()), (40, 0));
        assert_eq!((look(100), cancelled.get()), (u64::MAX, 1));
        assert_eq!((look(101), cancelled.get()), (u64::MAX, 2), "until it ends");
        assert_eq!(watchdog.cancelled_ns(), 100);
        watchdog.begin(Due::At(300), 7, 80);
        watchdog.end();
        assert_eq!((look(300), cancelled.get()), (u64::MAX, 2), "it ended");
    }

    #[test]
    fn while_nobody_waits_a_step_may_take_its_time() {
        let (watchdog, mut ring, cancelled) = (Watchdog::default(), Ring::new(), Cell::new(0));
        let (mut sender, mut receiver) = ring.split();
        let counts = receiver.counts();
        let look = |now_ns| watchdog.look(now_ns, counts, || cancelled.set(cancelled.get() + 1));
        sender.send(request(5)).unwrap();
        receiver.take();
        watchdog.begin(Due::AfterArrival(30), counts.arrived(), 80);
        assert_eq!((look(1_000), cancelled.get()), (u64::MAX, 0));
        sender.send(request(1_010)).unwrap();
        sender.send(request(1_025)).unwrap();
        assert_eq!((look(1_030), cancelled.get()), (10, 0), "the first counts");
        assert_eq!((look(1_040), cancelled.get()), (u64::MAX, 1));
    }
}
