//! The feeder: a thread that sends requests to the loop as they would arrive from outside.
//!
//! Open loop: a request's time of arrival is the time it was due, whether or not the loop was ready, and
//! whether or not the feeder itself was woken late. Latency is measured from there, so no delay is hidden.

use crate::arrivals::Arrivals;
use crate::queue::{Request, Sender};
use crate::random::Random;
use crate::serve::Clock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// Longest sleep: how long the feeder may take to notice that it is done.
const SLEEP_MAX_NS: u64 = 20_000_000;
/// Time between two looks at a backlog: a queue lasts longer even at 100,000 requests per second.
const REFILL_EVERY: Duration = Duration::from_millis(5);

/// Sends requests for samples `0..places` in random order until `done`; wakes `to` after each.
pub fn feed(
    clock: &impl Clock,
    mut sender: Sender<'_>,
    arrivals: Arrivals,
    places: u32,
    seed: u64,
    to: &Thread,
    done: &AtomicBool,
) {
    let mut random = Random::new(seed);
    for (id, arrival_ns) in (0..).zip(arrivals) {
        loop {
            if done.load(Ordering::Relaxed) {
                return;
            }
            let wait_ns = arrival_ns.saturating_sub(clock.now_ns());
            if wait_ns == 0 {
                break;
            }
            thread::sleep(Duration::from_nanos(wait_ns.min(SLEEP_MAX_NS)));
        }
        let place = u32::try_from(random.below(u64::from(places))).unwrap_or(0);
        // A rejected request is counted by the queue; an open loop does not send it again.
        let _ = sender.send(Request {
            id,
            arrival_ns,
            place,
        });
        to.unpark();
    }
}

/// Keeps a queue full with samples `0..places` in turn until `done`: a backlog that never ends.
pub fn refill(clock: &impl Clock, mut sender: Sender<'_>, places: u32, done: &AtomicBool) {
    let mut requests = (0_u64..).map(|id| Request {
        id,
        arrival_ns: clock.now_ns(),
        place: u32::try_from(id % u64::from(places.max(1))).unwrap_or(0),
    });
    while !done.load(Ordering::Relaxed) {
        while sender.has_room(clock.now_ns()) {
            if let Some(request) = requests.next() {
                let _ = sender.send(request);
            }
        }
        thread::sleep(REFILL_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arrivals::Process;
    use crate::queue::Ring;
    use fulcrum_plan::units::MilliRps;
    use std::cell::Cell;

    /// A clock that moves by 1 ms whenever it is read.
    struct Ticking<'a> {
        now_ms: Cell<u64>,
        done: &'a AtomicBool,
    }

    impl Clock for Ticking<'_> {
        fn now_ns(&self) -> u64 {
            self.now_ms.set(self.now_ms.get() + 1);
            self.done.store(self.now_ms.get() > 500, Ordering::Relaxed);
            self.now_ms.get() * 1_000_000
        }
    }

    #[test]
    fn requests_carry_the_time_they_were_due_and_stop_when_told() {
        let done = AtomicBool::new(false);
        let clock = Ticking {
            now_ms: Cell::new(0),
            done: &done,
        };
        let mut ring = Ring::new();
        let (sender, mut receiver) = ring.split();
        let arrivals = Arrivals::new(Process::Constant, MilliRps(100_000), 1, 0).unwrap();
        feed(&clock, sender, arrivals, 3, 1, &thread::current(), &done);
        let sent: Vec<Request> = std::iter::from_fn(|| receiver.take()).collect();
        // 500 ms at 100/s; a request every 10 ms, sent within the clock's next reading.
        assert!((40..=50).contains(&sent.len()), "{}", sent.len());
        for (request, id) in sent.iter().zip(0..) {
            assert_eq!(
                (request.id, request.arrival_ns),
                (id, (id + 1) * 10_000_000)
            );
            assert!(request.place < 3);
        }
    }
}
