//! Tensors and answers between the server's thread and the loop, in fixed memory.
//!
//! A request's input lies at its *place* until the answer is taken; a place holds one sample and one
//! output. The values are atomics, read and written without ordering of their own: what orders them is the
//! ring that hands the place over, in either direction.

use heapless::spsc::{Consumer, Producer, Queue};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};

/// Slots of the ring of answers; more than there are places, so it is never full.
const ANSWER_SLOTS: usize = 4096;
/// Most places.
pub const PLACES_MAX: usize = 2048;
/// Most memory for inputs, in bytes: a camera image takes half a megabyte.
const INPUT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// With an output.
    Answered,
    /// Not admitted: it could not be answered in time.
    Rejected,
    /// Dropped: it could not be answered in time any more.
    Dropped,
    /// Its inference failed.
    Failed,
}

/// An answer at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where the output lies.
    pub place: u32,
    /// How the request ended.
    pub status: Status,
}

/// Places of samples and outputs.
#[derive(Debug)]
struct Slab {
    sample_len: usize,
    output_len: usize,
    inputs: Box<[AtomicU32]>,
    outputs: Box<[AtomicU32]>,
}

/// The memory that both sides share.
#[derive(Debug)]
pub struct Exchange {
    slab: Slab,
    answers: Queue<Answer, ANSWER_SLOTS>,
}

impl Exchange {
    /// Places for samples of one length: as many as fit the limits, at least `least`.
    #[must_use]
    pub fn new(sample_len: usize, output_len: usize, least: usize) -> Self {
        let fitting = INPUT_BYTES_MAX / (4 * sample_len.max(1));
        let places = fitting.max(least).min(PLACES_MAX);
        let zeros = |count: usize| (0..count).map(|_| AtomicU32::new(0)).collect();
        Self {
            slab: Slab {
                sample_len,
                output_len,
                inputs: zeros(places * sample_len),
                outputs: zeros(places * output_len),
            },
            answers: Queue::new(),
        }
    }

    /// The server's side and the loop's. The loop writes a byte to `wake` when there are answers.
    pub fn split(&mut self, wake: UnixStream) -> (ServerSide<'_>, LoopSide<'_>) {
        let (producer, consumer) = self.answers.split();
        let slab = &self.slab;
        let server = ServerSide {
            slab,
            answers: consumer,
        };
        let serving = LoopSide {
            slab,
            answers: producer,
            wake,
        };
        (server, serving)
    }
}

fn range(values: &[AtomicU32], length: usize, place: u32) -> &[AtomicU32] {
    let start = (place as usize).saturating_mul(length);
    values
        .get(start..start.saturating_add(length))
        .unwrap_or_default()
}

/// The side of the thread that talks to clients.
pub struct ServerSide<'a> {
    slab: &'a Slab,
    answers: Consumer<'a, Answer>,
}

impl ServerSide<'_> {
    /// How many places there are.
    #[must_use]
    pub fn places(&self) -> usize {
        self.slab.inputs.len() / self.slab.sample_len.max(1)
    }

    /// Values of a sample.
    #[must_use]
    pub const fn sample_len(&self) -> usize {
        self.slab.sample_len
    }

    /// Values of an output.
    #[must_use]
    pub const fn output_len(&self) -> usize {
        self.slab.output_len
    }

    /// Puts a sample, the bits of its floats, at a place that is free.
    pub fn put(&self, place: u32, sample: impl Iterator<Item = u32>) {
        let values = range(&self.slab.inputs, self.slab.sample_len, place);
        for (value, bits) in values.iter().zip(sample) {
            value.store(bits, Ordering::Relaxed);
        }
    }

    /// The next answer.
    pub fn take(&mut self) -> Option<Answer> {
        self.answers.dequeue()
    }

    /// The output at a place, the bits of its floats.
    #[must_use]
    pub fn output(&self, place: u32) -> &[AtomicU32] {
        range(&self.slab.outputs, self.slab.output_len, place)
    }
}

/// The loop's side. Nothing here allocates.
pub struct LoopSide<'a> {
    slab: &'a Slab,
    answers: Producer<'a, Answer>,
    wake: UnixStream,
}

impl LoopSide<'_> {
    /// Copies the sample at a place.
    pub fn copy_sample(&self, place: u32, to: &mut [f32]) {
        let values = range(&self.slab.inputs, self.slab.sample_len, place);
        for (to, value) in to.iter_mut().zip(values) {
            *to = f32::from_bits(value.load(Ordering::Relaxed));
        }
    }

    /// Answers the request at a place; `output` is read only if it was answered.
    pub fn answer(&mut self, place: u32, status: Status, output: &[f32]) {
        let values = range(&self.slab.outputs, self.slab.output_len, place);
        for (value, output) in values.iter().zip(output) {
            value.store(output.to_bits(), Ordering::Relaxed);
        }
        // Never full: a place has at most one answer under way.
        let _ = self.answers.enqueue(Answer { place, status });
    }

    /// Wakes the server. A full pipe means that it is awake already.
    pub fn wake(&mut self) {
        let _ = self.wake.write(&[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_and_its_output_find_each_other() {
        let mut exchange = Exchange::new(2, 3, 1);
        let (wake, _awake) = UnixStream::pair().unwrap();
        let (mut server, mut serving) = exchange.split(wake);
        assert_eq!(server.places(), PLACES_MAX);
        server.put(7, [1.5_f32, -2.0].into_iter().map(f32::to_bits));
        let mut copied = [0.0; 2];
        serving.copy_sample(7, &mut copied);
        assert_eq!(copied, [1.5, -2.0]);
        serving.answer(7, Status::Answered, &[0.25, 0.5, 1.0]);
        let answer = server.take().unwrap();
        assert_eq!((answer.place, answer.status), (7, Status::Answered));
        let bits = |value: &AtomicU32| f32::from_bits(value.load(Ordering::Relaxed));
        let output: Vec<f32> = server.output(7).iter().map(bits).collect();
        assert_eq!(output, [0.25, 0.5, 1.0]);
        assert_eq!(server.take(), None);
    }

    #[test]
    fn large_samples_have_fewer_places_and_a_place_beyond_them_is_empty() {
        let mut exchange = Exchange::new(3 * 224 * 224, 10, 8);
        let (wake, _awake) = UnixStream::pair().unwrap();
        let (server, serving) = exchange.split(wake);
        assert_eq!(server.places(), 111);
        let mut copied = [9.0];
        serving.copy_sample(5_000, &mut copied);
        assert_eq!(copied, [9.0]);
    }
}
