//! Inference minibatches.

use super::ffi::{self, Binding, Bound, Call, In, Message, TensorSet};
use super::parameters::{Parameters, Side};
use super::session::{self, SessionOptions, X};
use super::signature::{Element, ModelError, ModelProblem, TensorSpec, find, spec_of};
use super::training::{WARM_UP_RUNS, load_problem};
use super::{Engine, RunError};
use ort::session::{RunOptions, Session};
use std::path::Path;

/// Places of the session's own tensors in their set.
const AT_X: usize = 0;
const AT_LOGITS: usize = 1;

/// Name of the output, where a model has several.
const LOGITS: &str = "logits";

/// An inference model with a fixed batch, bound to the parameters it reads.
///
/// A batch that is not full is run all the same: the samples beyond it are whatever they were, and their
/// outputs are not to be read.
pub struct InferenceSession {
    // One per side; one in all for a model that holds its own weights.
    bindings: heapless::Vec<Binding, 2>,
    tensors: TensorSet,
    batch: u32,
    options: RunOptions,
    last_error: Message,
}

impl InferenceSession {
    /// Loads `model` for minibatches of a fixed size and warms it up. Inputs other than `x` are bound to the
    /// tensors of the same name in `parameters`, on both sides.
    ///
    /// # Errors
    /// When the model is not what [the contract](super) asks for, or has an input that neither is `x` nor
    /// names a tensor of `parameters`.
    pub fn load(
        engine: &Engine,
        model: &Path,
        options: SessionOptions,
        parameters: Option<&Parameters>,
    ) -> Result<Self, ModelError> {
        let of_model = ModelError::of(model);
        let session = session::open(engine, engine.provider(), model, options)?;
        let graph = Graph::of(&session, options, parameters).map_err(&of_model)?;
        let mut inference =
            Self::bind(&session, engine.copies, &graph, parameters).map_err(&of_model)?;
        inference.warm_up(parameters).map_err(&of_model)?;
        Ok(inference)
    }

    /// Names of what `model` takes besides `x`.
    ///
    /// # Errors
    /// The model does not load.
    pub fn parameter_names(
        engine: &Engine,
        model: &Path,
        options: SessionOptions,
    ) -> Result<Vec<String>, ModelError> {
        let session = session::open(engine, engine.provider(), model, options)?;
        let names = session.inputs().iter().map(|input| input.name());
        Ok(names.filter(|name| *name != X).map(str::to_owned).collect())
    }

    /// Loads `model` together with parameters of its own that no step changes: the first tensors of a
    /// parameter file, as many as the model has inputs besides `x`, in the order of these inputs.
    ///
    /// # Errors
    /// As [`InferenceSession::load`], or when the parameter file does not fit the model.
    pub fn load_with_file(
        engine: &Engine,
        model: &Path,
        options: SessionOptions,
        file: &Path,
    ) -> Result<(Self, Parameters), ModelError> {
        let of_model = ModelError::of(model);
        let session = session::open(engine, engine.provider(), model, options)?;
        let others = session.inputs().iter().filter(|input| input.name() != X);
        let specs = others
            .map(spec_of)
            .collect::<Result<Vec<_>, _>>()
            .map_err(&of_model)?;
        let mut parameters = Parameters::zeroed(specs).map_err(&of_model)?;
        parameters
            .restore_first(file)
            .map_err(|error| of_model(ModelProblem::Params(error)))?;
        let graph = Graph::of(&session, options, Some(&parameters)).map_err(&of_model)?;
        let mut inference =
            Self::bind(&session, engine.copies, &graph, Some(&parameters)).map_err(&of_model)?;
        inference.warm_up(Some(&parameters)).map_err(&of_model)?;
        Ok((inference, parameters))
    }

    fn bind(
        session: &Session,
        copies: bool,
        graph: &Graph,
        parameters: Option<&Parameters>,
    ) -> Result<Self, ModelProblem> {
        let tensors = TensorSet::zeroed([&graph.x, &graph.logits]).ok_or(ModelProblem::Memory)?;
        let sides = if graph.parameters.is_empty() {
            &Side::BOTH[..1]
        } else {
            &Side::BOTH[..]
        };
        let mut bindings = heapless::Vec::new();
        for &side in sides {
            let binding = Binding::new(
                session,
                copies,
                &tensors,
                (!graph.parameters.is_empty())
                    .then(|| parameters.map(Parameters::set))
                    .flatten(),
                &graph.inputs(side),
                &graph.outputs(),
            )
            .map_err(load_problem)?;
            // There are two sides, and room for two.
            let _ = bindings.push(binding);
        }
        Ok(Self {
            bindings,
            tensors,
            batch: session::batch_of(&graph.x)?,
            options: RunOptions::new().map_err(load_problem)?,
            last_error: Message::new(),
        })
    }

    fn warm_up(&mut self, parameters: Option<&Parameters>) -> Result<(), ModelProblem> {
        for binding in 0..self.bindings.len() {
            for _ in 0..WARM_UP_RUNS {
                self.run_binding(binding, parameters)
                    .map_err(|_| ModelProblem::WarmUp {
                        message: self.last_error.as_str().to_owned(),
                    })?;
            }
        }
        Ok(())
    }

    /// Samples per run.
    #[must_use]
    pub fn batch(&self) -> u32 {
        self.batch
    }

    /// Elements of one sample of `x`.
    #[must_use]
    pub fn sample_len(&self) -> usize {
        self.tensors.get::<f32>(AT_X).len() / self.batch as usize
    }

    /// Elements of one sample's output.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.logits().len() / self.batch as usize
    }

    /// The samples of the next run, row-major, batch first. Does not allocate.
    pub fn x_mut(&mut self) -> &mut [f32] {
        self.tensors.get_mut(AT_X)
    }

    /// The outputs of the last run, row-major, batch first. Does not allocate.
    #[must_use]
    pub fn logits(&self) -> &[f32] {
        self.tensors.get(AT_LOGITS)
    }

    /// Runs the samples filled in with the current parameters; [`InferenceSession::logits`] has the outputs.
    /// Does not allocate, whether it succeeds or fails.
    ///
    /// `parameters` are those the session was loaded with; a model that holds its own weights takes any.
    ///
    /// # Errors
    /// [`RunError::Failed`], or [`RunError::ForeignParameters`] when `parameters` are others or missing.
    pub fn run(&mut self, parameters: Option<&Parameters>) -> Result<(), RunError> {
        let side = parameters.map_or(Side::A, Parameters::current);
        let binding = side.index().min(self.bindings.len() - 1);
        Ok(self.run_binding(binding, parameters)?)
    }

    /// As [`InferenceSession::run`], with the values of the spare side: what [`Parameters::copy_piece`] left
    /// there. Does not allocate.
    ///
    /// # Errors
    /// As [`InferenceSession::run`].
    pub fn run_spare(&mut self, parameters: &Parameters) -> Result<(), RunError> {
        let side = parameters.current().other();
        let binding = side.index().min(self.bindings.len() - 1);
        Ok(self.run_binding(binding, Some(parameters))?)
    }

    /// Text of the last failure, cut to 256 bytes; empty before the first.
    #[must_use]
    pub fn last_error(&self) -> &str {
        &self.last_error
    }

    /// What a run hands to ONNX Runtime: with the parameters' first side, and with the other; one for a model that
    /// holds its own weights. None on a device that tensors are copied to.
    pub fn calls(&self) -> impl Iterator<Item = Call<'_>> {
        let bindings = self.bindings.iter();
        bindings.filter_map(|binding| binding.call(&self.options))
    }

    fn run_binding(
        &mut self,
        binding: usize,
        parameters: Option<&Parameters>,
    ) -> Result<(), ffi::Failure> {
        let parameters = match parameters {
            Some(parameters) => ffi::Parameters::Read(parameters.set()),
            None => ffi::Parameters::None,
        };
        self.bindings[binding].run(
            &self.options,
            &mut self.tensors,
            parameters,
            &mut self.last_error,
        )
    }
}

/// The inputs and outputs of an inference model, checked.
struct Graph {
    x: TensorSpec,
    logits: TensorSpec,
    // Each with its place among the carried tensors.
    parameters: Vec<(TensorSpec, usize)>,
}

impl Graph {
    fn of(
        session: &Session,
        options: SessionOptions,
        parameters: Option<&Parameters>,
    ) -> Result<Self, ModelProblem> {
        const X_IS: &str = "float32, the batch first";
        let x = find(session.inputs(), X)?
            .ok_or(ModelProblem::MissingInput {
                name: X,
                expected: X_IS,
            })?
            .expect_element(Element::F32, X_IS)?;
        session::check_batch(&x, options.batch)?;
        let logits = Self::output(session)?.expect_element(Element::F32, "float32")?;
        session::check_batch(&logits, Some(session::batch_of(&x)?))?;
        let known = parameters.map_or(&[][..], Parameters::specs);
        let mut bound = Vec::new();
        for outlet in session.inputs().iter().filter(|input| input.name() != X) {
            bound.push(Self::parameter(spec_of(outlet)?, known)?);
        }
        Ok(Self {
            x,
            logits,
            parameters: bound,
        })
    }

    fn output(session: &Session) -> Result<TensorSpec, ModelProblem> {
        match session.outputs() {
            [only] => spec_of(only),
            several => find(several, LOGITS)?.ok_or_else(|| ModelProblem::MissingOutput {
                name: LOGITS.to_owned(),
                expected: "float32, the batch first (a model with one output may call it anything)",
            }),
        }
    }

    fn parameter(
        spec: TensorSpec,
        known: &[TensorSpec],
    ) -> Result<(TensorSpec, usize), ModelProblem> {
        let Some(index) = known.iter().position(|other| other.name == spec.name) else {
            let names: Vec<String> = known
                .iter()
                .map(|other| format!("`{}`", other.name))
                .collect();
            return Err(ModelProblem::UnknownInput {
                name: spec.name,
                expected: if names.is_empty() {
                    "`x` alone, because no training step gives parameters".to_owned()
                } else {
                    format!("`x` or a tensor of the training step: {}", names.join(", "))
                },
            });
        };
        if known[index].dims != spec.dims || known[index].element != spec.element {
            return Err(ModelProblem::Shape {
                expected: format!("{}, that of the training step", known[index].shape()),
                found: spec.shape(),
                name: spec.name,
            });
        }
        Ok((spec, index))
    }

    fn inputs(&self, side: Side) -> Vec<Bound<'_>> {
        let x = Bound {
            spec: &self.x,
            name: &self.x.name,
            set: In::Own,
            index: AT_X,
        };
        let parameters = self.parameters.iter().map(|(spec, index)| Bound {
            spec,
            name: &spec.name,
            set: In::Parameters,
            index: Parameters::place(*index, side),
        });
        std::iter::once(x).chain(parameters).collect()
    }

    fn outputs(&self) -> [Bound<'_>; 1] {
        [Bound {
            spec: &self.logits,
            name: &self.logits.name,
            set: In::Own,
            index: AT_LOGITS,
        }]
    }
}
