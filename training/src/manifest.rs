//! The manifest of a training step: what its vectors hold, how it was made, and the hashes of its files.

use crate::flat::Entry;
use crate::options::Options;
use serde::Serialize;
use sha2::{Digest, Sha256};

/// Version of the manifest's format.
pub const VERSION: u32 = 1;

/// A file of a training step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileEntry {
    /// Its name, without folder.
    pub name: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
}

impl FileEntry {
    /// The entry of a file with these bytes.
    #[must_use]
    pub fn of(name: &str, bytes: &[u8]) -> FileEntry {
        FileEntry {
            name: name.to_owned(),
            sha256: sha256(bytes),
        }
    }
}

/// An input or output of the step's graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Type of its elements, as ONNX names it.
    pub element: &'static str,
    /// Its shape.
    pub shape: Vec<usize>,
}

/// What a training step is; written beside it as JSON.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub version: u32,
    /// Version of the crate that made it.
    pub producer: String,
    /// Name of the forward model's graph.
    pub model: String,
    /// SHA-256 of the forward model as it was read: its graph and initializers, written anew.
    pub model_sha256: String,
    /// Loss.
    pub loss: String,
    /// Under cross-entropy, number of classes: labels are 0 to this, exclusive.
    pub classes: Option<usize>,
    /// Optimizer.
    pub optimizer: String,
    /// `flat` or `named`.
    pub layout: String,
    /// Samples per run.
    pub batch: usize,
    /// Runs per update of the parameters.
    pub accumulate: u32,
    /// Weight decay.
    pub weight_decay: f32,
    /// Parameters without weight decay (`--no-decay`).
    pub not_decayed: Vec<String>,
    /// Global norm gradients are clipped to.
    pub clip_norm: Option<f32>,
    /// Seed of dropout's masks; absent if the model has no dropout or it is off.
    pub dropout_seed: Option<u64>,
    /// Inputs of the step, in order.
    pub inputs: Vec<Port>,
    /// Outputs of the step, in order.
    pub outputs: Vec<Port>,
    /// Trained parameters in `theta`, in order.
    pub parameters: Vec<Entry>,
    /// Optimizer state, step counter and running statistics in `state`, in order.
    pub state: Vec<Entry>,
    /// Parameters that stay as they are.
    pub frozen: Vec<String>,
    /// The step, the inference graph, and the initial parameters.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// The manifest as JSON, with a line break at the end.
    ///
    /// # Errors
    /// If a number has no JSON (not a number, infinite).
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }
}

/// Options as the manifest names them: loss, optimizer, layout.
pub(crate) fn names(options: &Options) -> [String; 3] {
    [
        options.loss.to_string(),
        options.optimizer.to_string(),
        options.layout.to_string(),
    ]
}

/// SHA-256 in hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
