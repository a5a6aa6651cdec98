//! The models of a run: what the loop's minibatches are.

use crate::checkpoint::Keeping;
use crate::data::{Batches, HeldOut};
use crate::engine::params::Progress;
use crate::engine::{InferenceSession, Parameters, RunError, TrainingSession};
use crate::exchange::{Exchange, LoopSide, Status};
use crate::queue::Request;
use crate::serve::{GivenUp, Work, WorkError};
use crate::telemetry::Counter;
use crate::validation::{Validation, class_of};

/// The sessions of a run with their samples: the loop's [`Work`].
pub struct Models<'a> {
    /// Inference sessions, by ascending batch; none if nothing is served. Requests run in the smallest
    /// that holds them.
    pub inference: Vec<InferenceSession>,
    /// Sessions of the inference that is not urgent, by ascending batch; none if there is none.
    pub bulk: Vec<InferenceSession>,
    /// Training, if there is any.
    pub training: Option<TrainingSession>,
    /// What training changes, and inference reads unless there is `served`.
    pub parameters: Option<Parameters>,
    /// What inference reads, where trained weights are checked first.
    pub served: Option<Parameters>,
    /// The check.
    pub validation: Option<Validation>,
    /// Where weights that passed it are kept, if anywhere.
    pub keeping_served: Option<Keeping>,
    /// Steps that earlier runs did, where training goes on from a checkpoint.
    pub steps: u64,
    /// Checkpoints while the loop runs, if there are any.
    pub keeping: Option<Keeping>,
    /// What training takes its samples from.
    pub batches: Batches,
    /// What is served: a request's place is an index among these.
    pub held_out: HeldOut,
    /// Answers that were equal to the label.
    pub correct: &'a Counter,
}

impl<'a> Models<'a> {
    /// Samples without a session that takes them, and nothing that is checked or kept.
    #[must_use]
    pub fn new(batches: Batches, held_out: HeldOut, correct: &'a Counter) -> Self {
        Self {
            inference: Vec::new(),
            bulk: Vec::new(),
            training: None,
            parameters: None,
            served: None,
            validation: None,
            keeping_served: None,
            steps: 0,
            keeping: None,
            batches,
            held_out,
            correct,
        }
    }

    /// Memory for the tensors of requests from other processes.
    #[must_use]
    pub fn exchange(&self) -> Exchange {
        exchange(&self.inference)
    }

    /// The same for requests that are not urgent.
    #[must_use]
    pub fn exchange_bulk(&self) -> Exchange {
        exchange(&self.bulk)
    }

    /// Where training stands; `None` without training. Does not allocate.
    #[must_use]
    pub fn progress(&self) -> Option<Progress> {
        let training = self.training.as_ref()?;
        Some(Progress {
            step: *training.sha256(),
            steps: self.steps,
            place: self.batches.place(),
            samples: self.batches.count(),
            data: self.batches.checksum(),
        })
    }

    /// Share of the held-out samples whose answer equals the label; `None` without inference or samples.
    /// Not for use while the loop runs.
    ///
    /// # Errors
    /// The engine failed.
    pub fn accuracy(&mut self) -> Result<Option<f64>, RunError> {
        let Some(inference) = self.inference.last_mut() else {
            return Ok(None);
        };
        let count = self.held_out.count();
        let (mut correct, mut first) = (0, 0);
        while first < count {
            let end = first.saturating_add(inference.batch()).min(count);
            let parameters = self.served.as_ref().or(self.parameters.as_ref());
            correct += answer(inference, parameters, &self.held_out, first..end)?;
            first = end;
        }
        #[expect(clippy::cast_precision_loss, reason = "at most 2^32 samples")]
        Ok((count > 0).then(|| correct as f64 / f64::from(count)))
    }
}

fn exchange(sessions: &[InferenceSession]) -> Exchange {
    let (sample_len, output_len, batch) = sessions.last().map_or((0, 0, 0), |session| {
        (
            session.sample_len(),
            session.output_len(),
            session.batch() as usize,
        )
    });
    // One batch under way, and another that waits.
    Exchange::new(sample_len, output_len, 2 * batch)
}

/// Runs one batch over held-out samples and counts the answers that equal the label. Does not allocate.
fn answer(
    inference: &mut InferenceSession,
    parameters: Option<&Parameters>,
    held_out: &HeldOut,
    places: impl Iterator<Item = u32> + Clone,
) -> Result<u64, RunError> {
    let records = held_out.records();
    let indices = places.map(|place| held_out.index(place));
    records.touch(indices.clone());
    let rows = inference.x_mut().chunks_exact_mut(records.elements());
    for (row, index) in rows.zip(indices.clone()) {
        records.copy_sample(index, row);
    }
    inference.run(parameters)?;
    let outputs = inference
        .logits()
        .chunks_exact(inference.output_len().max(1));
    let right = outputs
        .map(class_of)
        .zip(indices)
        .filter(|(class, index)| u64::try_from(records.label(*index)) == Ok(*class as u64));
    Ok(right.count() as u64)
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

/// The smallest session that holds so many requests.
fn smallest(
    sessions: &mut [InferenceSession],
    requests: usize,
) -> Result<&mut InferenceSession, WorkError> {
    let mut sessions = sessions.iter_mut();
    sessions
        .find(|session| session.batch() as usize >= requests)
        .ok_or(NO_SESSION)
}

/// Models whose requests come from other processes, and whose answers go back there.
pub struct ServedModels<'a, 'b> {
    /// The models.
    pub models: &'a mut Models<'b>,
    /// The way to the clients; `None` if held-out samples are played.
    pub clients: Option<LoopSide<'a>>,
    /// The same for requests that are not urgent.
    pub clients_bulk: Option<LoopSide<'a>>,
}

/// Runs a batch of samples of clients, and answers them. Does not allocate.
fn serve(
    sessions: &mut [InferenceSession],
    parameters: Option<&Parameters>,
    clients: &mut LoopSide<'_>,
    requests: &[Request],
) -> Result<usize, WorkError> {
    let inference = smallest(sessions, requests.len())?;
    let sample_len = inference.sample_len().max(1);
    let rows = inference.x_mut().chunks_exact_mut(sample_len);
    for (row, request) in rows.zip(requests) {
        clients.copy_sample(request.place, row);
    }
    if let Err(error) = inference.run(parameters) {
        // A sample that makes the engine fail must not stay in a row that the next batch leaves free.
        inference.x_mut().fill(0.0);
        return Err(error.into());
    }
    let outputs = inference
        .logits()
        .chunks_exact(inference.output_len().max(1));
    for (request, output) in requests.iter().zip(outputs) {
        clients.answer(request.place, Status::Answered, output);
    }
    clients.wake();
    Ok(inference.batch() as usize)
}

fn refuse(clients: &mut Option<LoopSide<'_>>, request: &Request, why: GivenUp) {
    let status = match why {
        GivenUp::Dropped => Status::Dropped,
        GivenUp::Failed => Status::Failed,
    };
    if let Some(clients) = clients {
        clients.answer(request.place, status, &[]);
        clients.wake();
    }
}

impl Work for ServedModels<'_, '_> {
    fn infer(&mut self, requests: &[Request]) -> Result<usize, WorkError> {
        let Some(clients) = &mut self.clients else {
            return self.models.infer(requests);
        };
        let models = &mut *self.models;
        let parameters = models.served.as_ref().or(models.parameters.as_ref());
        serve(&mut models.inference, parameters, clients, requests)
    }

    fn train(&mut self) -> Result<f32, WorkError> {
        self.models.train()
    }

    fn upkeep(&mut self) -> bool {
        self.models.upkeep()
    }

    fn infer_bulk(&mut self, requests: &[Request]) -> Result<usize, WorkError> {
        let Some(clients) = &mut self.clients_bulk else {
            return self.models.infer_bulk(requests);
        };
        let models = &mut *self.models;
        let parameters = models.parameters.as_ref();
        serve(&mut models.bulk, parameters, clients, requests)
    }

    fn give_up(&mut self, request: &Request, why: GivenUp) {
        refuse(&mut self.clients, request, why);
    }

    fn give_up_bulk(&mut self, request: &Request, why: GivenUp) {
        refuse(&mut self.clients_bulk, request, why);
    }
}

/// The loop asked for work that the run does not have: a mistake of the shell, not of its input.
const NO_SESSION: WorkError = WorkError::Failed { code: -1 };

impl Work for Models<'_> {
    fn infer(&mut self, requests: &[Request]) -> Result<usize, WorkError> {
        let inference = smallest(&mut self.inference, requests.len())?;
        let places = requests.iter().map(|request| request.place);
        let parameters = self.served.as_ref().or(self.parameters.as_ref());
        let correct = answer(inference, parameters, &self.held_out, places)?;
        self.correct.add(correct);
        Ok(inference.batch() as usize)
    }

    fn train(&mut self) -> Result<f32, WorkError> {
        let training = self.training.as_mut().ok_or(NO_SESSION)?;
        let parameters = self.parameters.as_mut().ok_or(NO_SESSION)?;
        let (x, y) = training.x_and_y_mut();
        let place = self.batches.place();
        self.batches.fill(x, y);
        let stepped = training.step(parameters);
        // A step that was cancelled learned nothing: its samples are the next one's, so that the run stays
        // the one that a checkpoint tells of. Samples that the step fails on would make every next one fail.
        let loss = stepped.inspect_err(|error| {
            if matches!(error, RunError::Cancelled) {
                self.batches.resume(place);
            }
        })?;
        self.steps += 1;
        Ok(loss)
    }

    fn upkeep(&mut self) -> bool {
        let (Some(progress), Some(trained)) = (self.progress(), &self.parameters) else {
            return false;
        };
        let steps = progress.steps;
        if let Some(keeping) = &mut self.keeping
            && keeping.copy(trained, steps, Some(&progress))
        {
            return true;
        }
        let (Some(validation), Some(served)) = (&mut self.validation, &mut self.served) else {
            return false;
        };
        if let Some(keeping) = &mut self.keeping_served
            && keeping.copy(served, validation.swaps().accepted.get(), None)
        {
            return true;
        }
        // The smallest batch, so that it takes the least time.
        self.inference
            .first_mut()
            .is_some_and(|inference| validation.turn(inference, served, trained, steps))
    }

    fn infer_bulk(&mut self, requests: &[Request]) -> Result<usize, WorkError> {
        let inference = smallest(&mut self.bulk, requests.len())?;
        let places = requests.iter().map(|request| request.place);
        // Its own model: how often it is right is not what `correct` counts.
        let _ = answer(inference, self.parameters.as_ref(), &self.held_out, places)?;
        Ok(inference.batch() as usize)
    }

    fn give_up(&mut self, _: &Request, _: GivenUp) {
        // The feeder does not wait for answers; the loop's counters are all there is to tell.
    }
}
