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

/// A cancelled step is told again this often in its time, until it ends.
const LOOKS_PER_STEP: u64 = 8;
/// The watchdog looks so much of its time earlier than the next step could be late: what that is reckoned from changes.
const EARLIER_SHARE: u64 = 8;
/// Limits of the time between two looks. Where it has no core of its own a look interrupts the loop for some
/// microseconds.
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
    /// No step has to end sooner after the arrival of the oldest request that waits.
    least_ns: AtomicU64,
    mean_ns: AtomicU64,
    /// When the present step was cancelled first; zero if it was not.
    cancelled_ns: AtomicU64,
}

impl Watchdog {
    /// A step begins that takes `mean_ns` on average, when so many requests had arrived. No step has to end sooner than
    /// `least_ns` after the arrival of the oldest request that waits. Does not allocate and makes no system call.
    #[inline]
    pub fn begin(&self, due: Due, least_ns: u64, arrived: u64, mean_ns: u64) {
        self.least_ns.store(least_ns, Ordering::Relaxed);
        self.mean_ns.store(mean_ns, Ordering::Relaxed);
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
            let wait_ns = self.look(now_ns(), counts, &cancel);
            thread::park_timeout(Duration::from_nanos(wait_ns));
        }
    }

    /// One look: cancels if it is time. Says for how long there is nothing to do.
    fn look(&self, now_ns: u64, counts: Counts<'_>, cancel: impl Fn()) -> u64 {
        let watched = self.due_ns.load(Ordering::Acquire);
        let (least_ns, mean_ns) = (
            self.least_ns.load(Ordering::Relaxed),
            self.mean_ns.load(Ordering::Relaxed),
        );
        let arrived = self.arrived.load(Ordering::Relaxed);
        let nobody_waits = watched == NOBODY_WAITS && counts.arrived() == arrived;
        let waiting_since_ns = counts.waiting_since_ns();
        let due_ns = match watched {
            IDLE => u64::MAX,
            NOBODY_WAITS if nobody_waits => u64::MAX,
            NOBODY_WAITS => {
                waiting_since_ns.saturating_add(self.patience_ns.load(Ordering::Relaxed))
            }
            at_ns => at_ns,
        };
        if now_ns >= due_ns {
            // Until the step has ended, again at every look: between two runs of the engine there is nothing to cancel.
            let first = self.cancelled_ns.load(Ordering::Relaxed) == 0;
            if first {
                self.cancelled_ns.store(now_ns, Ordering::Release);
            }
            cancel();
            return (mean_ns / LOOKS_PER_STEP).clamp(LOOK_MIN_NS, LOOK_MAX_NS);
        }
        // Steps to come: for whoever comes they have that request's time; for whoever waits, which is nobody who arrived
        // before `waiting_since_ns`, what is left of it, and at least the time that a step takes.
        let calm_ns = if nobody_waits {
            least_ns
        } else {
            let left_ns = waiting_since_ns
                .saturating_add(least_ns)
                .saturating_sub(now_ns);
            left_ns.max(mean_ns.min(least_ns))
        };
        let calm_ns = (calm_ns - calm_ns / EARLIER_SHARE).clamp(LOOK_MIN_NS, LOOK_MAX_NS);
        calm_ns.min(due_ns - now_ns)
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
        assert_eq!(look(50), LOOK_MIN_NS, "no step runs");
        watchdog.begin(Due::At(100), 0, 7, 80);
        assert_eq!((look(60), cancelled.get()), (40, 0));
        assert_eq!((look(100), cancelled.get()), (LOOK_MIN_NS, 1));
        assert_eq!(
            (look(101), cancelled.get()),
            (LOOK_MIN_NS, 2),
            "until it ends"
        );
        assert_eq!(watchdog.cancelled_ns(), 100);
        watchdog.begin(Due::At(300), 0, 7, 80);
        watchdog.end();
        assert_eq!((look(300), cancelled.get()), (LOOK_MIN_NS, 2), "it ended");
    }

    #[test]
    fn while_nobody_waits_a_step_may_take_its_time() {
        let (watchdog, mut ring, cancelled) = (Watchdog::default(), Ring::new(), Cell::new(0));
        let (mut sender, mut receiver) = ring.split();
        let counts = receiver.counts();
        let look = |now_ns| watchdog.look(now_ns, counts, || cancelled.set(cancelled.get() + 1));
        sender.send(request(5)).unwrap();
        receiver.take();
        watchdog.begin(Due::AfterArrival(30), 0, counts.arrived(), 80);
        assert_eq!((look(1_000), cancelled.get()), (LOOK_MIN_NS, 0));
        sender.send(request(1_010)).unwrap();
        sender.send(request(1_025)).unwrap();
        assert_eq!((look(1_030), cancelled.get()), (10, 0), "the first counts");
        assert_eq!((look(1_040), cancelled.get()), (LOOK_MIN_NS, 1));
    }

    #[test]
    fn it_does_not_look_while_no_step_can_make_anybody_late() {
        const MS: u64 = 1_000_000;
        let (watchdog, mut ring) = (Watchdog::default(), Ring::new());
        let (mut sender, receiver) = ring.split();
        let counts = receiver.counts();
        let look = |now_ms: u64| watchdog.look(now_ms * MS, counts, || panic!("nobody is late"));
        // Steps of 8 ms, which have to end 40 ms after an arrival.
        watchdog.begin(Due::AfterArrival(40 * MS), 40 * MS, 0, 8 * MS);
        assert_eq!(look(1), 35 * MS, "who comes now has its time");
        sender.send(request(10 * MS)).unwrap();
        assert_eq!(look(18), 28 * MS, "who came has the rest");
        watchdog.begin(Due::At(60 * MS), 40 * MS, 1, 8 * MS);
        assert_eq!(look(49), 7 * MS, "who waits, since when is not known");
        assert_eq!(look(58), 2 * MS, "this step has to end");
        watchdog.end();
        assert_eq!(look(34), 14 * MS, "the next step");
    }
}
