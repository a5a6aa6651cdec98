//! Requests on their way into the loop: a bounded ring with one producer and one consumer.
//!
//! The ring (`heapless::spsc`) holds [`CAPACITY`] requests in fixed memory and needs no lock; a request is
//! an id, its time of arrival and the number of the place its tensor lies in. When more wait than the loop
//! can serve in time ([`Admission`]), the newest is rejected and counted: the queue never grows
//! without bound, and nobody is admitted only to be late.

use heapless::spsc::{Consumer, Producer, Queue};
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

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

/// How many requests may wait so that the last of them is answered in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    /// When what runs now will have ended.
    pub free_ns: u64,
    /// A request has to be answered so long after its arrival.
    pub time_ns: u64,
    /// Requests per batch.
    pub batch: u16,
    /// Time of a batch.
    pub batch_ns: u64,
    /// Batches that may wait in any case.
    pub least: u16,
}

impl Admission {
    /// A number of requests, whatever the time.
    #[must_use]
    pub const fn at_most(requests: u16) -> Self {
        Self {
            free_ns: 0,
            time_ns: 0,
            batch: requests,
            batch_ns: u64::MAX,
            least: 1,
        }
    }

    /// How many may wait, with the one that arrives at this time.
    #[must_use]
    pub fn most(&self, arrival_ns: u64) -> usize {
        let left_ns = self
            .time_ns
            .saturating_sub(self.free_ns.saturating_sub(arrival_ns));
        let batches = left_ns.checked_div(self.batch_ns).unwrap_or(u64::MAX);
        let requests = batches
            .max(self.least.into())
            .saturating_mul(self.batch.into());
        usize::try_from(requests).unwrap_or(usize::MAX)
    }
}

/// An [`Admission`] that one thread writes and another reads. What is read may be half of an old one and half of a new
/// one, for one request: each number alone is right to within a minibatch.
#[derive(Debug)]
struct Admitting {
    free_ns: AtomicU64,
    time_ns: AtomicU64,
    batch: AtomicU16,
    batch_ns: AtomicU64,
    least: AtomicU16,
}

impl Admitting {
    const fn new(admission: Admission) -> Self {
        Self {
            free_ns: AtomicU64::new(admission.free_ns),
            time_ns: AtomicU64::new(admission.time_ns),
            batch: AtomicU16::new(admission.batch),
            batch_ns: AtomicU64::new(admission.batch_ns),
            least: AtomicU16::new(admission.least),
        }
    }

    fn set(&self, admission: Admission) {
        self.free_ns.store(admission.free_ns, Ordering::Relaxed);
        self.time_ns.store(admission.time_ns, Ordering::Relaxed);
        self.batch.store(admission.batch, Ordering::Relaxed);
        self.batch_ns.store(admission.batch_ns, Ordering::Relaxed);
        self.least.store(admission.least, Ordering::Relaxed);
    }

    fn get(&self) -> Admission {
        Admission {
            free_ns: self.free_ns.load(Ordering::Relaxed),
            time_ns: self.time_ns.load(Ordering::Relaxed),
            batch: self.batch.load(Ordering::Relaxed),
            batch_ns: self.batch_ns.load(Ordering::Relaxed),
            least: self.least.load(Ordering::Relaxed),
        }
    }
}

/// The newest request was not admitted: it could not be answered in time, or the ring is full.
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
    admitting: Admitting,
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
                admitting: Admitting::new(Admission::at_most(u16::MAX)),
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
        let room = waiting < self.shared.admitting.get().most(request.arrival_ns);
        if room && self.producer.enqueue(request).is_ok() {
            return Ok(());
        }
        self.shared.rejected.fetch_add(1, Ordering::Relaxed);
        Err(Rejected)
    }

    /// Whether a request that arrives at this time would be admitted.
    #[must_use]
    pub fn has_room(&self, arrival_ns: u64) -> bool {
        let most = self.shared.admitting.get().most(arrival_ns);
        self.producer.len() < most.min(CAPACITY)
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
    #[inline]
    #[must_use]
    pub fn pending(&self) -> usize {
        self.consumer.len()
    }

    /// Arrival of the one that waits longest.
    #[inline]
    #[must_use]
    pub fn oldest_ns(&self) -> Option<u64> {
        self.consumer.peek().map(|request| request.arrival_ns)
    }

    /// Takes the one that waits longest.
    #[inline]
    pub fn take(&mut self) -> Option<Request> {
        self.consumer.dequeue()
    }

    /// From now on requests are admitted by this.
    #[inline]
    pub fn admit(&self, admission: Admission) {
        self.shared.admitting.set(admission);
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
    #[inline]
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
    #[inline]
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
        receiver.admit(Admission::at_most(2));
        let sent = [0, 1, 2].map(|id| sender.send(request(id)));
        assert_eq!(sent, [Ok(()), Ok(()), Err(Rejected)]);
        receiver.admit(Admission::at_most(3));
        assert_eq!(sender.send(request(3)), Ok(()));
    }

    #[test]
    fn as_many_are_admitted_as_are_answered_in_time() {
        // Batches of 4 in 8 ms, 50 ms of time; what runs now ends at 100 ms.
        let admission = Admission {
            free_ns: 100,
            time_ns: 50,
            batch: 4,
            batch_ns: 8,
            least: 1,
        };
        // With all of its time before it: six batches. If it waits for 26 ms first, three; and one in any case.
        for (arrival_ns, most) in [(100, 24), (200, 24), (74, 12), (73, 8), (0, 4)] {
            assert_eq!(admission.most(arrival_ns), most, "{arrival_ns}");
        }
        let strict = Admission {
            least: 0,
            ..admission
        };
        assert_eq!([58, 57].map(|arrival_ns| strict.most(arrival_ns)), [4, 0]);
        assert_eq!(Admission::at_most(0).most(0), 0);
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
