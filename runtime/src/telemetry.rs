//! What the loop tells the rest of the process: counters and histograms that any thread may read.
//!
//! There is one writer, the loop; it never waits for a reader and never makes a system call.

use crate::histogram::Histogram;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A number that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds. One thread only: without a read-modify-write.
    #[inline]
    pub fn add(&self, amount: u64) {
        let sum = self.0.load(Ordering::Relaxed).wrapping_add(amount);
        self.0.store(sum, Ordering::Relaxed);
    }

    /// The present value.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A loss, as the bits of a float; NaN until there is one.
#[derive(Debug)]
pub struct Loss(AtomicU32);

impl Loss {
    /// Replaces the value.
    pub fn set(&self, loss: f32) {
        self.0.store(loss.to_bits(), Ordering::Relaxed);
    }

    /// The value, if there is one and it is a number.
    #[must_use]
    pub fn get(&self) -> Option<f32> {
        Some(f32::from_bits(self.0.load(Ordering::Relaxed))).filter(|loss| !loss.is_nan())
    }
}

impl Default for Loss {
    fn default() -> Self {
        Self(AtomicU32::new(f32::NAN.to_bits()))
    }
}

/// Everything the loop counts.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Requests answered, late ones included.
    pub served: Counter,
    /// Requests answered later than their budget.
    pub late: Counter,
    /// Requests dropped because they could not be answered in time any more.
    pub dropped: Counter,
    /// Requests whose inference failed.
    pub failed: Counter,
    /// Inference batches, full or not.
    pub batches: Counter,
    /// Training steps that were done.
    pub steps: Counter,
    /// Training steps that were cancelled or failed; they changed nothing.
    pub steps_lost: Counter,
    /// Non-urgent requests answered.
    pub bulk_served: Counter,
    /// Non-urgent requests whose inference failed.
    pub bulk_failed: Counter,
    /// Non-urgent batches, full or not.
    pub bulk_batches: Counter,
    /// How often non-urgent inference was given up because it kept failing.
    pub bulk_stopped: Counter,
    /// Changes of mode or batch while the loop ran.
    pub switches: Counter,
    /// How often training was given up because it kept failing.
    pub training_stopped: Counter,
    /// How often the loop's thread could not be put on a core after a change of mode.
    pub unpinned: Counter,
    /// Time from a request's arrival to its answer.
    pub latency: Histogram,
    /// Time of an inference batch.
    pub infer: Histogram,
    /// Time of a training step.
    pub train: Histogram,
    /// Loss of the first step.
    pub loss_first: Loss,
    /// Loss of the last step.
    pub loss_last: Loss,
}

impl Telemetry {
    /// Training steps per inference batch, in thousandths; `None` before the first batch.
    #[must_use]
    pub fn steps_per_window_milli(&self) -> Option<u64> {
        (self.steps.get() * 1000).checked_div(self.batches.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_is_absent_until_there_is_a_number() {
        let loss = Loss::default();
        assert_eq!(loss.get(), None);
        loss.set(0.25);
        assert_eq!(loss.get(), Some(0.25));
        loss.set(f32::NAN);
        assert_eq!(loss.get(), None);
    }

    #[test]
    fn steps_per_window_need_a_window() {
        let telemetry = Telemetry::default();
        telemetry.steps.add(7);
        assert_eq!(telemetry.steps_per_window_milli(), None);
        telemetry.batches.add(2);
        assert_eq!(telemetry.steps_per_window_milli(), Some(3_500));
    }
}
