//! Training steps.

use super::ffi::{self, Binding, Bound, Call, In, Message, TensorSet};
use super::parameters::{Parameters, Side};
use super::session::{self, SessionOptions, X};
use super::signature::{Element, ModelError, ModelProblem, TensorSpec, find, spec_of};
use super::{Engine, NEW, RunError};
use ort::session::{RunOptions, Session};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most tensors a step may carry. ResNet-18 with Adam, every tensor on its own, has 187; a larger model joins
/// them into one vector.
const PAIRS_MAX: usize = 320;

/// Runs per binding before the first real one. The first builds ONNX Runtime's memory pattern, the second
/// takes its memory from it.
pub(super) const WARM_UP_RUNS: usize = 2;

/// Places of the session's own tensors in their set.
const AT_X: usize = 0;
const AT_Y: usize = 1;
const AT_LR: usize = 2;
const AT_LOSS: usize = 3;

/// A training step's targets, to be filled.
#[derive(Debug)]
pub enum Targets<'a> {
    /// A class per sample, or several (one for each place), row-major, batch first.
    Classes(&'a mut [i64]),
    /// Values, row-major, batch first.
    Values(&'a mut [f32]),
}

/// A training step, bound to its parameters.
pub struct TrainingSession {
    bindings: [Binding; 2],
    tensors: TensorSet,
    targets: Element,
    classes: Option<u32>,
    batch: u32,
    sha256: [u8; 32],
    control: Arc<Control>,
    last_error: Message,
}

impl TrainingSession {
    /// Loads the step `model`, warms it up, and takes the initial parameters from the file beside it
    /// (`train.onnx` → `train.params`). The learning rate is 0 until set.
    ///
    /// # Errors
    /// When the model or its parameter file is not what [the contract](super) asks for.
    pub fn load(
        engine: &Engine,
        model: &Path,
        options: SessionOptions,
    ) -> Result<(Self, Parameters), ModelError> {
        let session = session::open(engine, engine.provider().for_training(), model, options)?;
        let of_model = ModelError::of(model);
        let bytes = std::fs::read(model).map_err(|error| {
            of_model(ModelProblem::Load {
                message: error.to_string(),
            })
        })?;
        let step = Step::of(&session, options).map_err(&of_model)?;
        let mut parameters = Parameters::zeroed(step.carried.clone()).map_err(&of_model)?;
        let mut training =
            Self::bind(&session, engine.copies, &step, &parameters).map_err(&of_model)?;
        training.sha256 = Sha256::digest(&bytes).into();
        training.warm_up(&mut parameters).map_err(&of_model)?;
        // Only now: the warm-up of B → A wrote side A.
        parameters
            .restore(&model.with_extension("params"), None)
            .map_err(|error| of_model(ModelProblem::Params(error)))?;
        Ok((training, parameters))
    }

    fn bind(
        session: &Session,
        copies: bool,
        step: &Step,
        parameters: &Parameters,
    ) -> Result<Self, ModelProblem> {
        let tensors = TensorSet::zeroed([&step.x, &step.y, &step.lr, &step.loss])
            .ok_or(ModelProblem::Memory)?;
        let from = |side: Side| {
            Binding::new(
                session,
                copies,
                &tensors,
                Some(parameters.set()),
                &step.inputs(side),
                &step.outputs(side.other()),
            )
            .map_err(load_problem)
        };
        let bindings = [from(Side::A)?, from(Side::B)?];
        let control = Control::new().map_err(load_problem)?;
        Ok(Self {
            bindings,
            tensors,
            targets: step.y.element,
            classes: classes(session),
            batch: step.batch()?,
            sha256: [0; 32],
            control: Arc::new(control),
            last_error: Message::new(),
        })
    }

    fn warm_up(&mut self, parameters: &mut Parameters) -> Result<(), ModelProblem> {
        for side in Side::BOTH {
            for _ in 0..WARM_UP_RUNS {
                self.run(side, parameters)
                    .map_err(|_| ModelProblem::WarmUp {
                        message: self.last_error.as_str().to_owned(),
                    })?;
            }
        }
        Ok(())
    }

    /// What one sample's target is: classes (`int64`) or values (`float32`), and how many.
    #[must_use]
    pub fn target(&self) -> (Element, usize) {
        let all = match self.targets {
            Element::I64 => self.tensors.get::<i64>(AT_Y).len(),
            Element::F32 => self.tensors.get::<f32>(AT_Y).len(),
        };
        (self.targets, all / self.batch as usize)
    }

    /// Labels are classes below this number; `None` where the targets are values, and where the step does not say it.
    #[must_use]
    pub fn classes(&self) -> Option<u32> {
        self.classes
    }

    /// SHA-256 of the step's graph: what a checkpoint knows it by.
    #[must_use]
    pub fn sha256(&self) -> &[u8; 32] {
        &self.sha256
    }

    /// Samples per step.
    #[must_use]
    pub fn batch(&self) -> u32 {
        self.batch
    }

    /// Elements of one sample of `x`.
    #[must_use]
    pub fn sample_len(&self) -> usize {
        self.tensors.get::<f32>(AT_X).len() / self.batch as usize
    }

    /// The samples of the next step, row-major, batch first. Does not allocate.
    pub fn x_mut(&mut self) -> &mut [f32] {
        self.tensors.get_mut(AT_X)
    }

    /// The targets of the next step. Does not allocate.
    pub fn y_mut(&mut self) -> Targets<'_> {
        self.x_and_y_mut().1
    }

    /// Samples and targets of the next step, to be filled together. Does not allocate.
    pub fn x_and_y_mut(&mut self) -> (&mut [f32], Targets<'_>) {
        match self.targets {
            Element::I64 => {
                let (x, y) = self.tensors.get_two_mut(AT_X, AT_Y);
                (x, Targets::Classes(y))
            }
            Element::F32 => {
                let (x, y) = self.tensors.get_two_mut(AT_X, AT_Y);
                (x, Targets::Values(y))
            }
        }
    }

    /// Sets the learning rate of the steps to come. Does not allocate.
    pub fn set_learning_rate(&mut self, rate: f32) {
        self.tensors.get_mut(AT_LR)[0] = rate;
    }

    /// One step on the samples and targets filled in: updates `parameters` and returns the loss before the
    /// update. Does not allocate, whether it succeeds or fails.
    ///
    /// # Errors
    /// [`RunError::Cancelled`] or [`RunError::Failed`]; the parameters are then those of before.
    /// [`RunError::ForeignParameters`] when `parameters` were not loaded with this session.
    pub fn step(&mut self, parameters: &mut Parameters) -> Result<f32, RunError> {
        self.control.begin();
        let result = self.run(parameters.current(), parameters);
        let cancelled = self.control.end();
        match result {
            Ok(()) => {
                parameters.exchange_sides();
                // A loss of nothing may be −0, which people take for a mistake; this makes 0 of it.
                Ok(self.tensors.get::<f32>(AT_LOSS)[0] + 0.0)
            }
            Err(ffi::Failure::Status(_)) if cancelled => Err(RunError::Cancelled),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Text of the last failure, cut to 256 bytes; empty before the first.
    #[must_use]
    pub fn last_error(&self) -> &str {
        &self.last_error
    }

    /// A handle that cancels a running step from another thread.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        CancelHandle(Arc::clone(&self.control))
    }

    /// What a step hands to ONNX Runtime: first reading the parameters' first side and writing the other, then the
    /// other way round. None on a device that tensors are copied to.
    pub fn calls(&self) -> impl Iterator<Item = Call<'_>> {
        let bindings = self.bindings.iter();
        bindings.filter_map(|binding| binding.call(&self.control.run))
    }

    /// Runs the step that reads `side` and writes the other.
    fn run(&mut self, side: Side, parameters: &mut Parameters) -> Result<(), ffi::Failure> {
        self.bindings[side.index()].run(
            &self.control.run,
            &mut self.tensors,
            ffi::Parameters::Write(parameters.set_mut()),
            &mut self.last_error,
        )
    }
}

/// Cancels a training step from another thread: of use when a step would make a batch of requests late.
#[derive(Clone)]
pub struct CancelHandle(Arc<Control>);

impl CancelHandle {
    /// Tells the running step to stop before its next operator; without a running step, does nothing. Does not
    /// allocate.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

/// Run options of a training session and where its current step stands.
struct Control {
    run: RunOptions,
    stage: Mutex<Stage>,
}

/// Where a step stands. Behind a lock, so that a request reaches the step it found running or none: one that
/// came late would stop the next step, which nobody asked for. The lock is held for some nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    Running,
    Cancelled,
}

impl Control {
    fn new() -> Result<Self, ort::Error> {
        Ok(Self {
            run: RunOptions::new()?,
            stage: Mutex::new(Stage::Idle),
        })
    }

    fn begin(&self) {
        let mut stage = self.stage();
        // Clears a flag; it cannot fail.
        let _ = self.run.unterminate();
        *stage = Stage::Running;
    }

    /// Whether the step that ends here was asked to stop.
    fn end(&self) -> bool {
        std::mem::replace(&mut *self.stage(), Stage::Idle) == Stage::Cancelled
    }

    fn cancel(&self) {
        let mut stage = self.stage();
        if *stage == Stage::Running {
            *stage = Stage::Cancelled;
            // Sets a flag; it cannot fail.
            let _ = self.run.terminate();
        }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `fulcrum train-step` wrote among the model's own key-value pairs.
fn classes(session: &Session) -> Option<u32> {
    let metadata = session.metadata().ok()?;
    metadata.custom("fulcrum.classes")?.parse().ok()
}

/// The inputs and outputs of a step, checked.
struct Step {
    x: TensorSpec,
    y: TensorSpec,
    lr: TensorSpec,
    loss: TensorSpec,
    carried: Vec<TensorSpec>,
    // `N.new` for each carried tensor `N`.
    updated: Vec<String>,
}

impl Step {
    fn of(session: &Session, options: SessionOptions) -> Result<Self, ModelProblem> {
        const X_IS: &str = "float32, the batch first";
        const Y_IS: &str = "int64 or float32, the batch first";
        const LR_IS: &str = "a float32 scalar, the learning rate";
        let input = |name: &'static str, expected: &'static str| {
            find(session.inputs(), name)?.ok_or(ModelProblem::MissingInput { name, expected })
        };
        let x = input(X, X_IS)?.expect_element(Element::F32, X_IS)?;
        let y = input("y", Y_IS)?;
        let lr = input("lr", LR_IS)?.expect_scalar()?;
        let loss = find(session.outputs(), "loss")?
            .ok_or(ModelProblem::MissingOutput {
                name: "loss".to_owned(),
                expected: "a float32 scalar",
            })?
            .expect_scalar()?;
        session::check_batch(&x, options.batch)?;
        session::check_batch(
            &y,
            x.dims.first().and_then(|&batch| u32::try_from(batch).ok()),
        )?;
        let carried = carried(session)?;
        let updated = carried
            .iter()
            .map(|spec| format!("{}{NEW}", spec.name))
            .collect();
        Ok(Self {
            x,
            y,
            lr,
            loss,
            carried,
            updated,
        })
    }

    fn batch(&self) -> Result<u32, ModelProblem> {
        session::batch_of(&self.x)
    }

    fn inputs(&self, side: Side) -> Vec<Bound<'_>> {
        let own = [(&self.x, AT_X), (&self.y, AT_Y), (&self.lr, AT_LR)];
        let own = own.map(|(spec, index)| Bound {
            spec,
            name: &spec.name,
            set: In::Own,
            index,
        });
        own.into_iter()
            .chain(self.sides(side, |index| &self.carried[index].name))
            .collect()
    }

    fn outputs(&self, side: Side) -> Vec<Bound<'_>> {
        let loss = Bound {
            spec: &self.loss,
            name: &self.loss.name,
            set: In::Own,
            index: AT_LOSS,
        };
        std::iter::once(loss)
            .chain(self.sides(side, |index| &self.updated[index]))
            .collect()
    }

    fn sides<'a>(
        &'a self,
        side: Side,
        name: impl Fn(usize) -> &'a str,
    ) -> impl Iterator<Item = Bound<'a>> {
        self.carried
            .iter()
            .enumerate()
            .map(move |(index, spec)| Bound {
                spec,
                name: name(index),
                set: In::Parameters,
                index: Parameters::place(index, side),
            })
    }
}

/// The tensors a step carries: every input besides `x`, `y` and `lr`, each with its output `N.new`.
fn carried(session: &Session) -> Result<Vec<TensorSpec>, ModelProblem> {
    const CARRIED_IS: &str = "float32: parameters and state are carried as float32";
    let mut carried = Vec::new();
    for outlet in session.inputs() {
        if [X, "y", "lr"].contains(&outlet.name()) {
            continue;
        }
        let spec = spec_of(outlet)?.expect_element(Element::F32, CARRIED_IS)?;
        let name = format!("{}{NEW}", spec.name);
        let Some(new) = find(session.outputs(), &name)? else {
            return Err(ModelProblem::UnknownInput {
                expected: format!("`x`, `y`, `lr`, or an input with an output `{name}`"),
                name: spec.name,
            });
        };
        let new = new.expect_element(Element::F32, CARRIED_IS)?;
        if new.dims != spec.dims {
            return Err(ModelProblem::Shape {
                name,
                expected: format!("{}, that of `{}`", spec.shape(), spec.name),
                found: new.shape(),
            });
        }
        carried.push(spec);
    }
    if carried.len() > PAIRS_MAX {
        return Err(ModelProblem::TooManyPairs { limit: PAIRS_MAX });
    }
    for output in session.outputs() {
        let input = output.name().strip_suffix(NEW);
        if input.is_some_and(|input| carried.iter().all(|spec| spec.name != input)) {
            return Err(ModelProblem::UnpairedOutput {
                name: output.name().to_owned(),
            });
        }
    }
    Ok(carried)
}

pub(super) fn load_problem(error: ort::Error) -> ModelProblem {
    ModelProblem::Load {
        message: error.message().to_owned(),
    }
}
