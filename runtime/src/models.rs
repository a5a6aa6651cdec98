//! The models of a run: what the loop's minibatches are.

use crate::arrivals::Random;
use crate::engine::{InferenceSession, Parameters, RunError, Targets, TrainingSession};
use crate::queue::Request;
use crate::serve::{Work, WorkError};
use crate::telemetry::Counter;

/// Labelled samples, all of one length.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// The samples, one after the other.
    pub x: &'a [f32],
    /// The class of each.
    pub labels: &'a [i64],
}

impl Samples<'_> {
    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.labels.len()
    }

    /// Values of one sample; 0 if there is none.
    #[must_use]
    pub fn sample_len(&self) -> usize {
        self.x.len().checked_div(self.count()).unwrap_or(0)
    }

    /// The sample of an index modulo their count, if there are any.
    fn get(&self, index: usize) -> Option<(&[f32], i64)> {
        let index = index.checked_rem(self.count())?;
        let x = self.x.chunks_exact(self.sample_len().max(1)).nth(index)?;
        Some((x, *self.labels.get(index)?))
    }
}

/// An order of the training samples: every epoch another permutation, from a seed.
#[derive(Clone, Debug)]
struct Epochs {
    order: Vec<usize>,
    next: usize,
    random: Random,
}

impl Epochs {
    fn new(count: usize, seed: u64) -> Self {
        Self {
            order: (0..count).collect(),
            next: 0,
            random: Random::new(seed),
        }
    }

    /// The next index: one step of a Fisher-Yates shuffle. 0 if there are no samples.
    fn next(&mut self) -> usize {
        if self.next >= self.order.len() {
            self.next = 0;
        }
        let left = self.order.len() - self.next;
        let chosen = self.random.below(left as u64);
        let chosen = self.next + usize::try_from(chosen).unwrap_or(0);
        if chosen >= self.order.len() {
            return 0;
        }
        self.order.swap(self.next, chosen);
        self.next += 1;
        self.order[self.next - 1]
    }
}

/// The sessions of a run with their samples: the loop's [`Work`].
pub struct Models<'a> {
    /// Inference, if there is any.
    pub inference: Option<InferenceSession>,
    /// Training, if there is any.
    pub training: Option<TrainingSession>,
    /// What both share.
    pub parameters: Option<Parameters>,
    train_set: Samples<'a>,
    held_out: Samples<'a>,
    epochs: Epochs,
    correct: &'a Counter,
}

impl<'a> Models<'a> {
    /// Sessions that train on one set of samples and serve another. A request's place is the index of its
    /// sample; `correct` counts the answers that equal the label.
    #[must_use]
    pub fn new(
        inference: Option<InferenceSession>,
        training: Option<TrainingSession>,
        parameters: Option<Parameters>,
        (train_set, held_out): (Samples<'a>, Samples<'a>),
        seed: u64,
        correct: &'a Counter,
    ) -> Self {
        Self {
            inference,
            training,
            parameters,
            train_set,
            held_out,
            epochs: Epochs::new(train_set.count(), seed),
            correct,
        }
    }

    /// Share of the held-out samples whose answer equals the label; `None` without inference or samples.
    /// Not for use while the loop runs.
    ///
    /// # Errors
    /// The engine failed.
    pub fn accuracy(&mut self) -> Result<Option<f64>, RunError> {
        let Some(inference) = &mut self.inference else {
            return Ok(None);
        };
        let batch = inference.batch() as usize;
        let mut correct = 0;
        for first in (0..self.held_out.count()).step_by(batch) {
            let indices = first..self.held_out.count().min(first + batch);
            let parameters = self.parameters.as_ref();
            correct += answer(inference, parameters, self.held_out, indices)?;
        }
        let count = self.held_out.count();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 samples")]
        Ok((count > 0).then(|| correct as f64 / count as f64))
    }
}

/// Runs one batch over samples and counts the answers that equal the label. Does not allocate.
fn answer(
    inference: &mut InferenceSession,
    parameters: Option<&Parameters>,
    samples: Samples<'_>,
    indices: impl Iterator<Item = usize> + Clone,
) -> Result<u64, RunError> {
    let rows = inference.x_mut().chunks_exact_mut(samples.sample_len().max(1));
    for (row, index) in rows.zip(indices.clone()) {
        if let Some((x, _)) = samples.get(index) {
            row.copy_from_slice(x);
        }
    }
    inference.run(parameters)?;
    let outputs = inference.logits().chunks_exact(inference.output_len().max(1));
    let answers = outputs.map(class_of).zip(indices);
    let right = answers.filter(|(class, index)| {
        let label = samples.get(*index).map(|(_, label)| label);
        label.is_some_and(|label| u64::try_from(label) == Ok(*class as u64))
    });
    Ok(right.count() as u64)
}

/// Index of the largest output, the first of equals.
fn class_of(outputs: &[f32]) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (class, &output) in outputs.iter().enumerate() {
        if output > best.1 {
            best = (class, output);
        }
    }
    best.0
}

impl From<RunError> for WorkError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Cancelled => Self::Cancelled,
            RunError::Failed { code } => Self::Failed { code },
            // No code of ONNX Runtime is negative.
            _ => Self::Failed { code: -1 },
        }
    }
}

impl Work for Models<'_> {
    fn infer(&mut self, requests: &[Request]) -> Result<(), WorkError> {
        let Some(inference) = &mut self.inference else {
            return Err(WorkError::Failed { code: -1 });
        };
        let indices = requests.iter().map(|request| request.place as usize);
        let parameters = self.parameters.as_ref();
        self.correct
            .add(answer(inference, parameters, self.held_out, indices)?);
        Ok(())
    }

    fn train(&mut self) -> Result<f32, WorkError> {
        let (Some(training), Some(parameters)) = (&mut self.training, &mut self.parameters) else {
            return Err(WorkError::Failed { code: -1 });
        };
        let (samples, epochs) = (self.train_set, &mut self.epochs);
        let (x, mut y) = training.x_and_y_mut();
        for (place, row) in x.chunks_exact_mut(samples.sample_len().max(1)).enumerate() {
            let Some((sample, label)) = samples.get(epochs.next()) else {
                break;
            };
            row.copy_from_slice(sample);
            match &mut y {
                Targets::Classes(classes) => classes[place] = label,
                #[expect(clippy::cast_precision_loss, reason = "a class below 2^24 is exact")]
                Targets::Values(values) => values[place] = label as f32,
            }
        }
        Ok(training.step(parameters)?)
    }

    fn give_up(&mut self, _: &Request) {
        // The feeder does not wait for answers; the loop's counters are all there is to tell.
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_takes_every_sample_once_and_the_next_in_another_order() {
        let mut epochs = Epochs::new(50, 3);
        let mut epoch = || -> Vec<usize> { (0..50).map(|_| epochs.next()).collect() };
        let (first, second) = (epoch(), epoch());
        assert_ne!(first, second);
        for mut order in [first, second] {
            order.sort_unstable();
            assert_eq!(order, (0..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn no_samples_are_no_panic() {
        let empty = Samples {
            x: &[],
            labels: &[],
        };
        assert_eq!((empty.sample_len(), empty.get(3)), (0, None));
        assert_eq!(Epochs::new(0, 1).next(), 0);
    }

    #[test]
    fn the_class_is_the_largest_output_and_the_first_of_equals() {
        assert_eq!(class_of(&[0.0, 3.0, -1.0, 3.0]), 1);
        assert_eq!(class_of(&[f32::NAN, 1.0]), 1);
        assert_eq!(class_of(&[]), 0);
    }
}
