//! An open-loop load on a request socket, and what became of each request.
//!
//! Requests are sent when they are due, whether or not earlier ones were answered, and latency counts from
//! the time a request was *due*, not from when it was sent: neither a slow server nor a late generator can
//! hide a delay (no coordinated omission). How late the generator was is told, too.

pub mod trace;

use crate::client::{Client, Replies, Requests};
use crate::data::Records;
use crate::exchange::Status;
use crate::histogram::Histogram;
use crate::random::Random;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// A request without an answer for so long is lost, and so are those after it.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Longest sleep: how long a request to stop may go unnoticed.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// Random samples that are sent in turn.
const SAMPLES: usize = 8;

/// What is sent, and when.
#[derive(Debug)]
pub struct Load<I> {
    /// When requests are due, in ns from the start, in ascending order.
    pub times: I,
    /// Nothing that is due later is sent.
    pub duration: Duration,
    /// A later answer counts as late.
    pub budget: Option<Duration>,
    /// Seed of the samples that are sent.
    pub seed: u64,
    /// Samples to choose from; without, random numbers from 0 to 1.
    pub records: Option<Records>,
}

/// What became of the requests: `sent` is the sum of `answered`, `rejected`, `dropped`, `failed` and `lost`.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Requests sent, or begun to be sent.
    pub sent: u64,
    /// Answered, late ones included.
    pub answered: u64,
    /// Answered later than the budget.
    pub late: u64,
    /// Not admitted: it could not have been answered in time.
    pub rejected: u64,
    /// Dropped: too late to be answered in time.
    pub dropped: u64,
    /// Their inference failed.
    pub failed: u64,
    /// Never heard of again.
    pub lost: u64,
    /// From when a request was due to its answer; only of those answered.
    pub latency: Histogram,
    /// From when a request was due to when it was sent.
    pub lag: Histogram,
    /// From the first to the last moment.
    pub elapsed: Duration,
    /// Why it ended early.
    pub broken: Option<String>,
}

/// A request that is due: its id, and when, in ns from the start.
type Due = (u64, u64);

/// What the sender leaves.
struct Sent {
    count: u64,
    lag: Histogram,
    broken: Option<io::Error>,
}

impl<I: Iterator<Item = u64> + Send> Load<I> {
    /// Sends everything over one connection and waits for the answers; `stop` ends the sending early.
    ///
    /// # Errors
    /// The samples are not of the model's size. A connection that breaks is told in [`Outcome::broken`].
    ///
    /// # Panics
    /// Never: the thread that sends does not.
    pub fn run(self, client: Client, stop: &AtomicBool) -> io::Result<Outcome> {
        let samples = self.samples(client.sample_len())?;
        let (requests, mut replies) = client.split();
        replies.set_timeout(Some(ANSWER_MAX))?;
        let (tell, due) = channel();
        let (start, budget) = (Instant::now(), self.budget);
        let mut outcome = Outcome::default();
        let (sent, received) = thread::scope(|scope| {
            let sending = scope.spawn(move || self.send(requests, &samples, start, &tell, stop));
            let received = receive(&mut outcome, &mut replies, due, start, budget);
            if received.is_err() {
                // Or the sender waits for a server that does not read.
                replies.close();
            }
            (sending.join().expect("the sender does not panic"), received)
        });
        outcome.elapsed = start.elapsed();
        (outcome.sent, outcome.lag) = (sent.count, sent.lag);
        let told = outcome.answered + outcome.rejected + outcome.dropped + outcome.failed;
        outcome.lost = outcome.sent.saturating_sub(told);
        let broken = received.err().or(sent.broken);
        outcome.broken = broken.map(|error| error.to_string());
        Ok(outcome)
    }

    fn samples(&self, length: usize) -> io::Result<Vec<Vec<f32>>> {
        let mut random = Random::new(self.seed);
        let Some(records) = &self.records else {
            #[expect(clippy::cast_possible_truncation, reason = "any value will do")]
            let mut sample = |_| (0..length).map(|_| random.unit() as f32).collect();
            return Ok((0..SAMPLES).map(&mut sample).collect());
        };
        if records.elements() != length {
            let reason = format!(
                "the samples have {} values, the model takes {length}",
                records.elements()
            );
            return Err(io::Error::new(ErrorKind::InvalidInput, reason));
        }
        let sample = |index| {
            let mut values = vec![0.0; length];
            records.copy_sample(index, &mut values);
            values
        };
        Ok((0..records.count()).map(sample).collect())
    }

    fn send(
        self,
        mut requests: Requests,
        samples: &[Vec<f32>],
        start: Instant,
        tell: &Sender<Due>,
        stop: &AtomicBool,
    ) -> Sent {
        let mut sent = Sent {
            count: 0,
            lag: Histogram::new(),
            broken: None,
        };
        let samples = samples.iter().cycle();
        for (due_ns, sample) in self.times.zip(samples) {
            let due = Duration::from_nanos(due_ns);
            while start.elapsed() < due.min(self.duration) && !stop.load(Ordering::Relaxed) {
                thread::sleep(due.saturating_sub(start.elapsed()).min(SLEEP_MAX));
            }
            if due > self.duration || stop.load(Ordering::Relaxed) {
                break;
            }
            // Told before it is sent: the answer must not come first. Nobody listens: the connection broke.
            if tell.send((sent.count, due_ns)).is_err() {
                break;
            }
            let id = sent.count;
            sent.count += 1;
            sent.lag.record(since(start, due_ns));
            if let Err(error) = requests.send(id, sample) {
                sent.broken = Some(error);
                break;
            }
        }
        sent
    }
}

/// Receives one answer for every request that was told of.
fn receive(
    outcome: &mut Outcome,
    replies: &mut Replies,
    due: Receiver<Due>,
    start: Instant,
    budget: Option<Duration>,
) -> io::Result<()> {
    let mut waiting: BTreeMap<u64, u64> = BTreeMap::new();
    loop {
        if waiting.is_empty() {
            // The sender is done, and every answer is there.
            let Ok(first) = due.recv() else { return Ok(()) };
            waiting.extend([first]);
        }
        let reply = replies.receive().map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => io::Error::new(
                ErrorKind::TimedOut,
                format!("no answer for {} s", ANSWER_MAX.as_secs()),
            ),
            ErrorKind::UnexpectedEof => {
                io::Error::new(ErrorKind::UnexpectedEof, "fulcrumd closed the connection")
            }
            _ => error,
        })?;
        waiting.extend(due.try_iter());
        let Some(due_ns) = waiting.remove(&reply.id) else {
            let reason = format!("an answer to request {} that nobody waits for", reply.id);
            return Err(io::Error::new(ErrorKind::InvalidData, reason));
        };
        match reply.status {
            Status::Answered => {
                let latency_ns = since(start, due_ns);
                outcome.answered += 1;
                outcome.latency.record(latency_ns);
                let in_time =
                    budget.is_none_or(|budget| Duration::from_nanos(latency_ns) <= budget);
                outcome.late += u64::from(!in_time);
            }
            Status::Rejected => outcome.rejected += 1,
            Status::Dropped => outcome.dropped += 1,
            Status::Failed => outcome.failed += 1,
        }
    }
}

/// Time from a moment counted from the start until now.
fn since(start: Instant, moment_ns: u64) -> u64 {
    let now_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
    now_ns.saturating_sub(moment_ns)
}

#[cfg(test)]
mod tests;
