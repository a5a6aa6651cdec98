//! How every session is set up.

use super::signature::{ModelError, ModelProblem, TensorSpec, symbol_of_batch};
use super::{Engine, Provider};
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use std::path::Path;

/// Symbol of the batch dimension in models of ours.
const BATCH: &str = "batch";

/// Name of the input that the batch is the first dimension of.
pub(super) const X: &str = "x";

/// What can be chosen about a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionOptions {
    /// Samples per run. `None` takes the graph's own batch and fails where that is symbolic.
    pub batch: Option<u32>,
    /// Threads that share the work of one operator, at least 1. With 1 the calling thread does it all.
    pub intra_op_threads: u16,
}

impl Default for SessionOptions {
    /// The graph's own batch, one thread.
    fn default() -> Self {
        Self {
            batch: None,
            intra_op_threads: 1,
        }
    }
}

impl SessionOptions {
    /// A fixed batch, one thread.
    #[must_use]
    pub fn with_batch(batch: u32) -> Self {
        Self {
            batch: Some(batch),
            ..Self::default()
        }
    }
}

/// Loads a model with the batch fixed.
///
/// The batch is the dimension called `batch`, or else the first dimension of `x`, whatever it is called:
/// that name is known only once the model is loaded, so such a model is loaded twice.
pub(super) fn open(
    engine: &Engine,
    provider: Provider,
    model: &Path,
    options: SessionOptions,
) -> Result<Session, ModelError> {
    let load = |symbol: &str| {
        build(engine, provider, options, symbol)
            .and_then(|mut builder| builder.commit_from_file(model))
            .map_err(|error| ModelError {
                model: model.to_owned(),
                problem: ModelProblem::Load {
                    message: error.message().to_owned(),
                },
            })
    };
    let session = load(BATCH)?;
    if options.batch.is_some()
        && let Some(symbol) = symbol_of_batch(&session, X)
    {
        return load(symbol);
    }
    Ok(session)
}

fn build(
    engine: &Engine,
    provider: Provider,
    options: SessionOptions,
    batch_symbol: &str,
) -> Result<SessionBuilder, ort::Error> {
    let mut builder = Session::builder(&engine.environment)?
        .with_intra_threads(usize::from(options.intra_op_threads.max(1)))?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        // A pool that spins between runs steals the other session's core.
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        // Arena and memory patterns together: after warm-up a run asks the system for nothing.
        .with_memory_pattern(true)?
        .with_execution_providers(provider.dispatches(engine.memory_limit_bytes))?;
    if engine.memory_limit_bytes.is_some() {
        builder = builder.with_env_allocators()?;
    }
    if let Some(batch) = options.batch {
        builder = builder.with_dimension_override(batch_symbol, i64::from(batch))?;
    }
    Ok(builder)
}

/// Fails unless the first dimension of a tensor is `batch`; any batch will do for `None`.
pub(super) fn check_batch(spec: &TensorSpec, batch: Option<u32>) -> Result<(), ModelProblem> {
    match batch {
        Some(batch) if spec.dims.first() != Some(&i64::from(batch)) => Err(ModelProblem::Shape {
            name: spec.name.clone(),
            expected: format!("[{batch},...]: the batch first"),
            found: spec.shape(),
        }),
        _ => batch_of(spec).map(drop),
    }
}

/// The batch of a tensor: its first dimension, at least 1.
pub(super) fn batch_of(spec: &TensorSpec) -> Result<u32, ModelProblem> {
    let first = spec.dims.first().and_then(|&size| u32::try_from(size).ok());
    first
        .filter(|&batch| batch > 0)
        .ok_or_else(|| ModelProblem::Shape {
            name: spec.name.clone(),
            expected: "[batch,...], the batch at least 1".to_owned(),
            found: spec.shape(),
        })
}
