//! The workloads that a board offers, and their sessions: each is loaded when it is first asked for,
//! and stays.
//!
//! A minibatch here is what the loop runs (`crate::models`): samples copied in, then one call of the
//! engine. Samples are real ones, because power depends on them. Training runs with a learning rate of
//! 0: profiling does the work of a step and changes nothing.

use super::serve::Trouble;
use crate::data::{Batches, DataError, Records};
use crate::engine::{
    Engine, InferenceSession, ModelError, Parameters, RunError, SessionOptions, TrainingSession,
};
use fulcrum_plan::link::message::OFFERS_MAX;
use fulcrum_plan::link::{Offer, Order, Reason, Role};
use fulcrum_plan::table::{BATCHES_MAX, WORKLOAD_NAME_LEN_MAX, Workload};
use std::fmt;
use std::path::{Path, PathBuf};

/// A workload as the command line names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Training or inference.
    pub role: Role,
    /// Name in plans.
    pub name: String,
    /// The model.
    pub model: PathBuf,
    /// Batch sizes, ascending; empty for a training step takes the one of its graph.
    pub batches: Vec<u16>,
}

/// Why workloads cannot be offered.
#[derive(Debug)]
#[non_exhaustive]
pub enum OfferError {
    /// None, or more than a board can offer.
    Count(usize),
    /// A name that is empty, too long, or used twice for one role.
    Name(String),
    /// Batch sizes that are not ascending, or too many; a training step has one.
    Batches(String),
    /// A model that cannot be loaded.
    Model(ModelError),
    /// Samples that cannot be used.
    Data(DataError),
}

impl fmt::Display for OfferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(
                f,
                "{count} workloads; 1 to {OFFERS_MAX} can be offered: name them with --train and --infer"
            ),
            Self::Name(name) => write!(
                f,
                "workload `{name}`: a name has 1 to {WORKLOAD_NAME_LEN_MAX} bytes and stands once \
                 for training and once for inference"
            ),
            Self::Batches(name) => write!(
                f,
                "workload `{name}`: batch sizes are 1 to 65535, ascending, at most {BATCHES_MAX} of \
                 them for inference and one for training"
            ),
            Self::Model(error) => error.fmt(f),
            Self::Data(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OfferError {}

/// What the sessions are made with.
#[derive(Clone, Debug)]
pub struct Making {
    /// The engine.
    pub engine: Engine,
    /// Labelled samples.
    pub data: PathBuf,
    /// Threads of one operator.
    pub intra_op_threads: u16,
}

enum Session {
    Train {
        // Large, and there are few of them.
        session: Box<TrainingSession>,
        parameters: Parameters,
        batches: Batches,
    },
    Infer {
        session: Box<InferenceSession>,
        parameters: Option<Parameters>,
        /// Sample that the next minibatch begins with.
        next: u32,
    },
}

impl Session {
    fn minibatch(&mut self, records: &Records) -> Result<(), RunError> {
        match self {
            Self::Train {
                session,
                parameters,
                batches,
            } => {
                let (x, y) = session.x_and_y_mut();
                batches.fill(x, y);
                session.step(parameters).map(drop)
            }
            Self::Infer {
                session,
                parameters,
                next,
            } => {
                for sample in session.x_mut().chunks_exact_mut(records.elements()) {
                    records.copy_sample(*next, sample);
                    *next = (*next + 1) % records.count();
                }
                session.run(parameters.as_ref())
            }
        }
    }

    fn last_error(&self) -> &str {
        match self {
            Self::Train { session, .. } => session.last_error(),
            Self::Infer { session, .. } => session.last_error(),
        }
    }
}

/// What identifies a session: place of its workload, batch size.
type Key = (usize, u16);

/// The workloads of a board.
pub struct Models {
    making: Making,
    records: Records,
    sources: Vec<Source>,
    sessions: Vec<(Key, Session)>,
}

impl Models {
    /// Checks what is to be offered; loads training steps whose batch size is that of their graph.
    ///
    /// # Errors
    /// [`OfferError`].
    pub fn open(mut sources: Vec<Source>, making: Making) -> Result<Self, OfferError> {
        if sources.is_empty() || sources.len() > OFFERS_MAX {
            return Err(OfferError::Count(sources.len()));
        }
        sources.sort_by(|a, b| (a.role, &a.name).cmp(&(b.role, &b.name)));
        for pair in sources.windows(2) {
            if let [a, b] = pair
                && (a.role, &a.name) == (b.role, &b.name)
            {
                return Err(OfferError::Name(a.name.clone()));
            }
        }
        let records = Records::open(&making.data).map_err(OfferError::Data)?;
        let mut models = Self {
            making,
            records,
            sources,
            sessions: Vec::new(),
        };
        for index in 0..models.sources.len() {
            models.check(index)?;
        }
        Ok(models)
    }

    fn check(&mut self, index: usize) -> Result<(), OfferError> {
        let Some(source) = self.sources.get(index).cloned() else {
            return Ok(());
        };
        let name = || source.name.clone();
        if source.name.is_empty() || source.name.len() > WORKLOAD_NAME_LEN_MAX {
            return Err(OfferError::Name(name()));
        }
        let ascends = source.batches.is_sorted_by(|a, b| a < b);
        let most = match source.role {
            Role::Train => 1,
            Role::Infer => BATCHES_MAX,
        };
        let is_positive = source.batches.first().is_none_or(|batch| *batch > 0);
        if !ascends || !is_positive || source.batches.len() > most {
            return Err(OfferError::Batches(name()));
        }
        match (source.role, source.batches.is_empty()) {
            (Role::Infer, true) => Err(OfferError::Batches(name())),
            (Role::Train, true) => {
                let session = self.train(&source, None)?;
                let batch = match &session {
                    Session::Train { session, .. } => u16::try_from(session.batch()),
                    Session::Infer { .. } => Ok(0),
                };
                let batch = batch.map_err(|_| OfferError::Batches(name()))?;
                self.sessions.push(((index, batch), session));
                if let Some(source) = self.sources.get_mut(index) {
                    source.batches.push(batch);
                }
                Ok(())
            }
            _ => std::fs::metadata(&source.model).map(drop).map_err(|error| {
                OfferError::Model(ModelError {
                    model: source.model.clone(),
                    problem: crate::engine::ModelProblem::Load {
                        message: error.to_string(),
                    },
                })
            }),
        }
    }

    /// What is offered, in the order of the link.
    pub fn offers(&self) -> impl Iterator<Item = Offer> + '_ {
        self.sources.iter().filter_map(|source| {
            Some(Offer {
                role: source.role,
                workload: Workload {
                    name: source.name.as_str().try_into().ok()?,
                    batches: source.batches.iter().copied().collect(),
                },
            })
        })
    }

    fn key(&self, order: &Order) -> Option<Key> {
        let index = self.sources.iter().position(|source| {
            source.role == order.role
                && source.name == order.workload.as_str()
                && source.batches.contains(&order.batch)
        })?;
        Some((index, order.batch))
    }

    /// Makes a workload ready.
    ///
    /// # Errors
    /// It is not offered, or its model does not load.
    pub fn load(&mut self, order: &Order) -> Result<(), Trouble> {
        let Some((index, batch)) = self.key(order) else {
            let words = format_args!("`{}` at batch size {}", order.workload, order.batch);
            let words = format!("{words} is not offered; restart the planner");
            return Err(Trouble::refused(Reason::Workload, words));
        };
        if self.sessions.iter().any(|(key, _)| *key == (index, batch)) {
            return Ok(());
        }
        let Some(source) = self.sources.get(index) else {
            return Ok(());
        };
        let session = match source.role {
            Role::Train => self.train(source, Some(batch)),
            Role::Infer => self.infer(source, batch),
        };
        let session = session.map_err(|error| Trouble::refused(Reason::Engine, error))?;
        self.sessions.push(((index, batch), session));
        Ok(())
    }

    fn options(&self, batch: Option<u16>) -> SessionOptions {
        SessionOptions {
            batch: batch.map(u32::from),
            intra_op_threads: self.making.intra_op_threads,
        }
    }

    fn expect_elements(&self, expected: usize) -> Result<(), OfferError> {
        self.records
            .expect_elements(expected, &self.making.data)
            .map_err(OfferError::Data)
    }

    fn train(&self, source: &Source, batch: Option<u16>) -> Result<Session, OfferError> {
        let options = self.options(batch);
        let loaded = TrainingSession::load(&self.making.engine, &source.model, options);
        let (session, parameters) = loaded.map_err(OfferError::Model)?;
        self.expect_elements(session.sample_len())?;
        let records = Records::open(&self.making.data).map_err(OfferError::Data)?;
        Ok(Session::Train {
            session: Box::new(session),
            parameters,
            batches: Batches::new(records, 1),
        })
    }

    /// A model with inputs besides its samples takes them from the `.params` file beside it, or else
    /// from that of a training step.
    fn infer(&self, source: &Source, batch: u16) -> Result<Session, OfferError> {
        let options = self.options(Some(batch));
        let engine = &self.making.engine;
        let plain = InferenceSession::load(engine, &source.model, options, None);
        let (session, parameters) = match (plain, self.parameters_for(source)) {
            (Ok(session), _) => (session, None),
            (Err(_), Some(file)) => {
                InferenceSession::load_with_file(engine, &source.model, options, &file)
                    .map(|(session, parameters)| (session, Some(parameters)))
                    .map_err(OfferError::Model)?
            }
            (Err(error), None) => return Err(OfferError::Model(error)),
        };
        self.expect_elements(session.sample_len())?;
        Ok(Session::Infer {
            session: Box::new(session),
            parameters,
            next: 0,
        })
    }

    fn parameters_for(&self, source: &Source) -> Option<PathBuf> {
        let params = |model: &Path| model.with_extension("params");
        let steps = self.sources.iter().filter(|step| step.role == Role::Train);
        std::iter::once(source)
            .chain(steps)
            .map(|source| params(&source.model))
            .find(|path| path.exists())
    }

    /// Runs one minibatch of a workload that is ready.
    ///
    /// # Errors
    /// The engine failed.
    pub fn minibatch(&mut self, order: &Order) -> Result<(), Trouble> {
        let key = self.key(order);
        let found = self
            .sessions
            .iter_mut()
            .find(|(found, _)| Some(*found) == key);
        let Some((_, session)) = found else {
            return Err(Trouble::failed(Reason::Engine, "the model is not loaded"));
        };
        session.minibatch(&self.records).map_err(|error| {
            let words = format!("{error}: {}", session.last_error());
            Trouble::failed(Reason::Engine, words)
        })
    }
}

impl fmt::Debug for Models {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Models")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}
