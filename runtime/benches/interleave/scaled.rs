//! Models whose minibatches are runs of the same model one after the other, as of a deeper one.

use crate::Result;
use crate::options::Options;
use fulcrum_runtime::data::{Batches, HeldOut, Records};
use fulcrum_runtime::engine::{Engine, InferenceSession, SessionOptions, TrainingSession, library};
use fulcrum_runtime::models::Models;
use fulcrum_runtime::queue::Request;
use fulcrum_runtime::serve::{GivenUp, Work, WorkError};
use fulcrum_runtime::telemetry::Counter;
use std::time::{Duration, Instant};

/// How long the times of minibatches are measured for, and how often at least.
const PACE: Duration = Duration::from_millis(300);
const ROUNDS_LEAST: u32 = 3;

/// Models that are several times as deep as the files'.
pub(crate) struct Scaled<'a> {
    pub(crate) models: Models<'a>,
    pub(crate) infer_runs: u32,
    pub(crate) train_runs: u32,
}

impl<'a> Scaled<'a> {
    /// Models that serve, train, or both; every call makes sessions of its own.
    ///
    /// # Errors
    /// A file is missing or refused, or the provider does not work.
    pub(crate) fn load(options: &Options, train_runs: u32, correct: &'a Counter) -> Result<Self> {
        let engine = Engine::start(&library::find(None)?)?.on_first(&[options.provider])?;
        let session = |batch| SessionOptions {
            batch,
            intra_op_threads: options.cores,
        };
        let step = options.models.join("train.onnx");
        let (mut training, parameters) = TrainingSession::load(&engine, &step, session(None))?;
        training.set_learning_rate(0.01);
        let inference = InferenceSession::load(
            &engine,
            &options.models.join("infer.onnx"),
            session(Some(options.batch.into())),
            Some(&parameters),
        )?;
        let records = || Records::open(&options.data);
        let models = Models {
            inference: vec![inference],
            training: Some(training),
            parameters: Some(parameters),
            ..Models::new(
                Batches::new(records()?, 1),
                HeldOut::all(records()?),
                correct,
            )
        };
        Ok(Self {
            models,
            infer_runs: options.infer_runs,
            train_runs,
        })
    }
}

impl Work for Scaled<'_> {
    fn infer(&mut self, requests: &[Request]) -> std::result::Result<usize, WorkError> {
        for _ in 1..self.infer_runs {
            self.models.infer(requests)?;
        }
        self.models.infer(requests)
    }

    fn train(&mut self) -> std::result::Result<f32, WorkError> {
        for _ in 1..self.train_runs {
            self.models.train()?;
        }
        self.models.train()
    }

    fn give_up(&mut self, request: &Request, why: GivenUp) {
        self.models.give_up(request, why);
    }
}

/// Mean times of an inference minibatch and of a training step, in turn for a while.
///
/// # Errors
/// That of a minibatch.
pub(crate) fn mean_ns(models: &mut Scaled<'_>, requests: &[Request]) -> Result<(u64, u64)> {
    let (mut infer, mut train, mut rounds) = (Duration::ZERO, Duration::ZERO, 0);
    while rounds < ROUNDS_LEAST || infer + train < PACE {
        let start = Instant::now();
        models.infer(requests)?;
        let half = Instant::now();
        models.train()?;
        infer += half - start;
        train += half.elapsed();
        rounds += 1;
    }
    let mean_ns = |sum: Duration| u64::try_from((sum / rounds).as_nanos());
    Ok((mean_ns(infer)?, mean_ns(train)?))
}
