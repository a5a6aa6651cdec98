//! Training steps from forward ONNX models.
//!
//! ONNX Runtime has no training interface of its own any more. This crate makes a training step an ordinary
//! ONNX graph: forward pass, loss, gradients and update of parameters, in standard operators that every
//! execution provider has. Parameters, state, `x`, `y` and `lr` go in; `.new` tensors and the loss come out.
//!
//! - [`onnx`]: files, read and written without a protobuf compiler;
//! - [`graph`]: a graph under construction, typed and of static shape; `operator`: what it can be made of;
//! - `import`: forward models, opset 13 to 22, into a graph of opset 17;
//! - [`gradient`]: the walk back, and the table of rules;
//! - `loss`, `optimizer`, [`flat`]: what makes a gradient a step;
//! - [`inference`](train_step): the forward model taking the same flat parameters;
//! - [`train_step`], [`files`](train_step::TrainStep::encode), [`params`], [`manifest`]: the result;
//! - [`checkpoint`], [`safetensors`]: trained parameters by the model's names, out and in;
//! - [`evaluator`]: what a graph means, in float64.
//!
//! # Example
//! ```no_run
//! use fulcrum_training::{Files, Loss, Model, Optimizer, Options, train_step};
//! use std::path::Path;
//!
//! let model = Model::read(Path::new("model.onnx"))?;
//! let options = Options::new(Loss::CrossEntropy, Optimizer::Momentum, 16);
//! let step = train_step::build(&model, &options)?;
//! for (path, bytes) in step.encode(&Files::beside(Path::new("step.onnx")))? {
//!     std::fs::write(path, bytes)?;
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Invariants
//! - The same model and options give the same bytes (`the_same_model_gives_the_same_files`).
//! - Every gradient rule agrees with central finite differences (`every_rule_has_a_case`, and one test per
//!   operator).

pub mod checkpoint;
pub mod error;
pub mod evaluator;
mod files;
pub mod flat;
pub mod gradient;
pub mod graph;
mod import;
mod inference;
mod interface;
mod loss;
pub mod manifest;
pub mod onnx;
mod operator;
mod optimizer;
pub mod options;
pub mod params;
pub mod safetensors;
pub mod train_step;

pub use error::{BuildError, OperatorError};
pub use files::Files;
pub use onnx::{Model, ReadError};
pub use options::{Layout, Loss, Optimizer, Options};
pub use train_step::{TrainStep, build};
