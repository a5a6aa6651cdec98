//! Requests on their way into the loop: a bounded ring with one producer and one consumer.
//!
//! The ring (`heapless::spsc`) holds [`CAPACITY`] requests in fixed memory and needs no lock; a request is
//! an id, its time of arrival and the number of the place its tensor lies in. When more wait than the loop
//! can serve in time ([`Receiver::admit`]), the newest is rejected and counted: the queue never grows
//! without bound, and nobody is admitted only to be late.

use heapless::spsc::{Consumer, Producer, Queue};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Slots of the ring; one stays empty.
const SLOTS: usize = 1024;
/// Most requests that can wait.
pub const CAPACITY: usize = SLOTS - 1;

/// A request that waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Whatever the producer wants to find the request again by.
    pub id: u64,
    /// When it arrived, on the loop's clock.
    pub arrival_ns: u64,
    /// Which place of the producer's tensor memory holds its input.
    pub place: u32,
}

/// The newest request was not admitted: too many wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected;

/// The ring's memory.
#[derive(Debug)]
pub struct Ring {
    queue: Queue<Request, SLOTS>,
    shared: Shared,
}

#[derive(Debug)]
struct Shared {
    admissible: AtomicUsize,
    arrived: AtomicU64,
    rejected: AtomicU64,
    /// Arrival of the last request that found nobody waiting.
    waiting_since: AtomicU64,
}

impl Ring {
    /// An empty ring that admits up to its capacity.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            queue: Queue::new(),
            shared: Shared {
                admissible: AtomicUsize::new(CAPACITY),
                arrived: AtomicU64::new(0),
                rejected: AtomicU64::new(0),
                waiting_since: AtomicU64::new(0),
            },
        }
    }

    /// The two ends.
    pub fn split(&mut self) -> (Sender<'_>, Receiver<'_>) {
        let (producer, consumer) = self.queue.split();
        let shared = &self.shared;
        (Sender { producer, shared }, Receiver { consumer, shared })
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self::new()
    }
}

/// The end that requests go in at.
pub struct Sender<'a> {
    producer: Producer<'a, Request>,
    shared: &'a Shared,
}

impl Sender<'_> {
    /// Hands a request to the loop. Does not allocate and does not block.
    ///
    /// # Errors
    /// [`Rejected`] if as many wait as the loop admits; the request is counted as rejected.
    pub fn send(&mut self, request: Request) -> Result<(), Rejected> {
        let waiting = self.producer.len();
        if waiting == 0 {
            let arrival_ns = request.arrival_ns;
            self.shared
                .waiting_since
                .store(arrival_ns, Ordering::Relaxed);
        }
        // After the time: who sees the count sees the time.
        self.shared.arrived.fetch_add(1, Ordering::Release);
        let room = waiting < self.shared.admissible.load(Ordering::Relaxed);
        if room && self.producer.enqueue(request).is_ok() {
            return Ok(());
        }
        self.shared.rejected.fetch_add(1, Ordering::Relaxed);
        Err(Rejected)
    }
}

impl Sender<'_> {
    /// Whether the next request would be admitted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let waiting = self.producer.len();
        waiting < self.shared.admissible.load(Ordering::Relaxed).min(CAPACITY)
    }

    /// Counts a request that came and cannot even be sent.
    pub fn reject(&mut self) {
        self.shared.arrived.fetch_add(1, Ordering::Relaxed);
        self.shared.rejected.fetch_add(1, Ordering::Relaxed);
    }
}

/// The end that the loop takes requests from.
pub struct Receiver<'a> {
    consumer: Consumer<'a, Request>,
    shared: &'a Shared,
}

impl<'a> Receiver<'a> {
    /// How many wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.consumer.len()
    }

    /// Arrival of the one that waits longest.
    #[must_use]
    pub fn oldest_ns(&self) -> Option<u64> {
        self.consumer.peek().map(|request| request.arrival_ns)
    }

    /// Takes the one that waits longest.
    pub fn take(&mut self) -> Option<Request> {
        self.consumer.dequeue()
    }

    /// From now on at most this many may wait.
    pub fn admit(&self, requests: usize) {
        self.shared.admissible.store(requests, Ordering::Relaxed);
    }

    /// What any thread may know of the queue.
    #[must_use]
    pub const fn counts(&self) -> Counts<'a> {
        Counts(self.shared)
    }
}

/// How many requests came, for any thread.
#[derive(Clone, Copy, Debug)]
pub struct Counts<'a>(&'a Shared);

impl Counts<'_> {
    /// How many were sent, admitted or not.
    #[must_use]
    pub fn arrived(self) -> u64 {
        self.0.arrived.load(Ordering::Acquire)
    }

    /// Arrival of the last request that found nobody waiting.
    #[must_use]
    pub fn waiting_since_ns(self) -> u64 {
        self.0.waiting_since.load(Ordering::Relaxed)
    }

    /// How many were not admitted.
    #[must_use]
    pub fn rejected(self) -> u64 {
        self.0.rejected.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: u64) -> Request {
        Request {
            id,
            arrival_ns: id * 10,
            place: 0,
        }
    }

    #[test]
    fn requests_leave_in_the_order_they_came() {
        let mut ring = Ring::new();
        let (mut sender, mut receiver) = ring.split();
        for id in 1..=3 {
            assert_eq!(sender.send(request(id)), Ok(()));
        }
        assert_eq!((receiver.pending(), receiver.oldest_ns()), (3, Some(10)));
        for id in 1..=3 {
            assert_eq!(receiver.take(), Some(request(id)));
        }
        assert_eq!((receiver.take(), receiver.oldest_ns()), (None, None));
    }

    #[test]
    fn a_full_ring_rejects_the_newest_and_counts_it() {
        let mut ring = Ring::new();
        let (mut sender, mut receiver) = ring.split();
        for id in 0..CAPACITY as u64 {
            assert_eq!(sender.send(request(id)), Ok(()));
        }
        assert_eq!(sender.send(request(9_999)), Err(Rejected));
        assert_eq!(receiver.take(), Some(request(0)));
        assert_eq!(receiver.counts().rejected(), 1);
        assert_eq!(receiver.counts().arrived(), CAPACITY as u64 + 1);
    }

    #[test]
    fn no_more_wait_than_are_admitted() {
        let mut ring = Ring::new();
        let (mut sender, receiver) = ring.split();
        receiver.admit(2);
        let sent = [0, 1, 2].map(|id| sender.send(request(id)));
        assert_eq!(sent, [Ok(()), Ok(()), Err(Rejected)]);
        receiver.admit(3);
        assert_eq!(sender.send(request(3)), Ok(()));
    }

    #[test]
    fn nothing_is_lost_or_doubled_between_two_threads() {
        let mut ring = Ring::new();
        let (mut sender, mut receiver) = ring.split();
        let count = 100_000;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for id in 0..count {
                    while sender.send(request(id)).is_err() {
                        std::thread::yield_now();
                    }
                }
            });
            for id in 0..count {
                let received = loop {
                    match receiver.take() {
                        Some(received) => break received,
                        None => std::thread::yield_now(),
                    }
                };
                assert_eq!(received, request(id));
            }
            assert_eq!(receiver.take(), None);
        });
    }
}
