//! Trained weights go to work only if they are no worse: a swap behind a held-out check.
//!
//! Inference reads parameters of its own ([`Parameters::twin`]), with two sides. Every so many steps the
//! trained weights are copied to the spare side, a piece at a time; the samples that training never sees are
//! run with them, one batch at a time; and if the answers are no worse than those of the weights at work, the
//! sides change roles: one pointer, between two batches. Otherwise nothing changes. Copy and batches take the
//! place of training steps, so they wait for requests as steps do.
//!
//! No worse is: as many right answers or more, and every output a finite number. For values instead of
//! classes it is a mean squared error that is no larger.
//!
//! # Invariants
//! - I5: a turn does not allocate.
//! - Weights with an output that is no number are never served
//!   (`weights_that_a_wild_learning_rate_made_are_never_served`).

use crate::data::HeldOut;
use crate::engine::{InferenceSession, PIECE, Parameters, RunError};
use crate::telemetry::Counter;
use std::sync::Arc;

/// What became of trained weights.
#[derive(Debug, Default)]
pub struct Swaps {
    /// Went to work.
    pub accepted: Counter,
    /// Did not: they were worse.
    pub refused: Counter,
}

/// How good answers are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Samples that were answered.
    pub samples: u32,
    /// Answers that equal the label's class.
    pub right: u32,
    /// Squared errors, for labels that are values; infinite if an output was no number.
    pub squared_error: f64,
}

impl Score {
    /// Share of right answers.
    #[must_use]
    pub fn accuracy(&self) -> f64 {
        f64::from(self.right) / f64::from(self.samples.max(1))
    }

    /// Mean squared error of a sample.
    #[must_use]
    pub fn mean_squared_error(&self) -> f64 {
        self.squared_error / f64::from(self.samples.max(1))
    }

    fn is_no_worse_than(&self, other: &Self, labels: Labels) -> bool {
        self.squared_error.is_finite()
            && match labels {
                Labels::Classes => self.right >= other.right,
                Labels::Values => self.squared_error <= other.squared_error,
            }
    }
}

/// What the labels of the samples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels {
    /// Classes: the largest output is the answer.
    Classes,
    /// Values: the outputs are the answer.
    Values,
}

/// Where a check stands.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Idle,
    /// Elements copied before this one.
    Copy(usize),
    /// Samples run before this one.
    Run(u32),
}

/// The check, and what it compares with.
#[derive(Debug)]
pub struct Validation {
    samples: HeldOut,
    labels: Labels,
    every_steps: u64,
    last: u64,
    stage: Stage,
    score: Score,
    served: Score,
    swaps: Arc<Swaps>,
}

impl Validation {
    /// A check every so many steps, at least 1, of a training that has done `steps`. The weights at work,
    /// the current side of `served`, are run on all samples at once: for use before the loop.
    ///
    /// # Errors
    /// The engine failed.
    pub fn new(
        samples: HeldOut,
        labels: Labels,
        (every_steps, steps): (u64, u64),
        inference: &mut InferenceSession,
        served: &Parameters,
    ) -> Result<Self, RunError> {
        let mut validation = Self {
            samples,
            labels,
            every_steps: every_steps.max(1),
            last: steps,
            stage: Stage::Idle,
            score: Score::default(),
            served: Score::default(),
            swaps: Arc::default(),
        };
        let mut first = 0;
        while first < validation.samples.count() {
            validation.fill(first, inference);
            inference.run(Some(served))?;
            first = validation.count(first, inference);
        }
        validation.served = validation.score;
        Ok(validation)
    }

    /// Counts of the checks so far.
    #[must_use]
    pub fn swaps(&self) -> Arc<Swaps> {
        Arc::clone(&self.swaps)
    }

    /// How good the weights at work are.
    #[must_use]
    pub const fn served(&self) -> &Score {
        &self.served
    }

    /// What the labels of the samples are.
    #[must_use]
    pub const fn labels(&self) -> Labels {
        self.labels
    }

    /// Does the next piece of a check if one is due or under way; whether it did. Does not allocate.
    pub fn turn(
        &mut self,
        inference: &mut InferenceSession,
        served: &mut Parameters,
        trained: &Parameters,
        steps: u64,
    ) -> bool {
        match self.stage {
            Stage::Idle if steps.saturating_sub(self.last) < self.every_steps => return false,
            Stage::Idle => {
                self.last = steps;
                self.score = Score::default();
                self.copy(served, trained, 0);
            }
            Stage::Copy(first) => self.copy(served, trained, first),
            Stage::Run(first) => self.run(inference, served, first),
        }
        true
    }

    fn copy(&mut self, served: &mut Parameters, trained: &Parameters, first: usize) {
        self.stage = if served.copy_piece(trained, first) {
            Stage::Copy(first + PIECE)
        } else {
            Stage::Run(0)
        };
    }

    fn run(&mut self, inference: &mut InferenceSession, served: &mut Parameters, first: u32) {
        self.fill(first, inference);
        if inference.run_spare(served).is_err() {
            self.score.squared_error = f64::INFINITY;
        }
        let next = self.count(first, inference);
        if next < self.samples.count() && self.score.squared_error.is_finite() {
            self.stage = Stage::Run(next);
            return;
        }
        self.stage = Stage::Idle;
        if self.score.is_no_worse_than(&self.served, self.labels) {
            served.exchange_sides();
            self.served = self.score;
            self.swaps.accepted.add(1);
        } else {
            self.swaps.refused.add(1);
        }
    }

    fn fill(&self, first: u32, inference: &mut InferenceSession) {
        let records = self.samples.records();
        let rows = inference.x_mut().chunks_exact_mut(records.elements());
        for (row, place) in rows.zip(first..self.samples.count()) {
            records.copy_sample(self.samples.index(place), row);
        }
    }

    /// Adds the answers of one batch to the score; returns the first sample after it.
    fn count(&mut self, first: u32, inference: &InferenceSession) -> u32 {
        let records = self.samples.records();
        let outputs = inference
            .logits()
            .chunks_exact(inference.output_len().max(1));
        let mut next = first;
        for (output, place) in outputs.zip(first..self.samples.count()) {
            next = place + 1;
            self.score.samples += 1;
            let index = self.samples.index(place);
            match self.labels {
                Labels::Classes => {
                    let right = usize::try_from(records.label(index)) == Ok(class_of(output));
                    self.score.right += u32::from(right);
                }
                Labels::Values => {
                    for (value, label) in output.iter().zip(records.values(index)) {
                        let error = f64::from(value - label);
                        self.score.squared_error += error * error;
                    }
                }
            }
            if !output.iter().all(|value| value.is_finite()) {
                self.score.squared_error = f64::INFINITY;
            }
        }
        next
    }
}

/// Index of the largest output, the first of equals.
pub(crate) fn class_of(outputs: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, &output) in outputs.iter().enumerate() {
        if output > best.1 {
            best = (class, output);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_is_the_largest_output_and_the_first_of_equals() {
        assert_eq!(class_of(&[0.0, 3.0, -1.0, 3.0]), 1);
        assert_eq!(class_of(&[f32::NAN, 1.0]), 1);
        assert_eq!(class_of(&[]), 0);
    }

    #[test]
    fn no_worse_means_right_answers_or_small_errors_and_numbers() {
        let score = |right, squared_error| Score {
            samples: 10,
            right,
            squared_error,
        };
        let cases = [
            (Labels::Classes, score(7, 0.0), score(7, 0.0), true),
            (Labels::Classes, score(6, 0.0), score(7, 0.0), false),
            (
                Labels::Classes,
                score(9, f64::INFINITY),
                score(7, 0.0),
                false,
            ),
            (Labels::Values, score(0, 1.0), score(0, 1.5), true),
            (Labels::Values, score(0, 2.0), score(0, 1.5), false),
            (
                Labels::Values,
                score(0, f64::INFINITY),
                score(0, f64::INFINITY),
                false,
            ),
            (Labels::Values, score(0, f64::NAN), score(0, 1.0), false),
        ];
        for (labels, new, old, expected) in cases {
            assert_eq!(
                new.is_no_worse_than(&old, labels),
                expected,
                "{new:?} {old:?}"
            );
        }
    }
}
