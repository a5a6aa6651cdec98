//! Checkpoints of a training step, by the names of the model: out to other formats and back in.

use crate::files::Files;
use crate::flat::Entry;
use crate::manifest::sha256;
use crate::onnx::{Data, Model, ReadError, Tensor};
use crate::params::{self, ParamsError};
use crate::safetensors::Named;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Why a checkpoint and a step, or tensors and a step, do not go together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The manifest is not one.
    #[error("{}: is not the manifest of a training step: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The inference graph cannot be read.
    #[error("{}: {source}", path.display())]
    Inference {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ReadError,
    },
    /// The parameter file cannot be read.
    #[error("{}: {source}", path.display())]
    Params {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: ParamsError,
    },
    /// The checkpoint is of another step.
    #[error("{}: is a checkpoint of another training step than {}", path.display(), step.display())]
    OtherStep {
        /// The checkpoint.
        path: PathBuf,
        /// The step.
        step: PathBuf,
    },
    /// Tensors of other sizes than the step's.
    #[error("{}: holds tensors of {found:?} elements, the step carries {expected:?}", path.display())]
    Sizes {
        /// The checkpoint.
        path: PathBuf,
        /// In the checkpoint.
        found: Vec<usize>,
        /// In the step.
        expected: Vec<usize>,
    },
    /// A tensor that the step has is not there.
    #[error("has no tensor `{name}`; the step needs {needed}")]
    Missing {
        /// Its name.
        name: String,
        /// All names.
        needed: String,
    },
    /// A tensor has another shape.
    #[error("`{name}` has shape {found:?}, the step has {expected:?}")]
    Shape {
        /// Its name.
        name: String,
        /// There.
        found: Vec<usize>,
        /// In the step.
        expected: Vec<usize>,
    },
}

/// What of a manifest is needed here.
#[derive(Deserialize)]
struct Manifest {
    layout: String,
    parameters: Vec<Entry>,
    state: Vec<Entry>,
}

/// A training step as its files describe it.
pub struct Step {
    path: PathBuf,
    sha256: String,
    manifest: Manifest,
    inference: Model,
    initial: PathBuf,
}

/// Where a tensor is: which vector, and its place there.
type Place<'a> = (usize, usize, &'a Entry);

impl Step {
    /// Reads `STEP.onnx`'s companions.
    ///
    /// # Errors
    /// One of them is missing or not what it should be.
    pub fn read(step: &Path) -> Result<Step, CheckpointError> {
        let names = Files::beside(step);
        let read = |path: &Path| {
            fs::read(path).map_err(|source| CheckpointError::Io {
                path: path.to_owned(),
                source,
            })
        };
        let manifest = serde_json::from_slice(&read(&names.manifest)?).map_err(|error| {
            CheckpointError::Manifest {
                path: names.manifest.clone(),
                reason: error.to_string(),
            }
        })?;
        let inference =
            Model::read(&names.inference).map_err(|source| CheckpointError::Inference {
                path: names.inference.clone(),
                source,
            })?;
        Ok(Step {
            path: step.to_owned(),
            sha256: sha256(&read(step)?),
            manifest,
            inference,
            initial: names.params,
        })
    }

    /// The tensors of the model with the values of a checkpoint, or of a parameter file: parameters and
    /// running statistics, not the optimizer's state.
    ///
    /// # Errors
    /// The file cannot be read, or is of another step.
    pub fn named(&self, checkpoint: &Path) -> Result<Vec<Named>, CheckpointError> {
        let vectors = self.vectors(checkpoint)?;
        let named = |(vector, offset, entry): Place<'_>| Named {
            name: entry.name.clone(),
            shape: entry.shape.clone(),
            values: vectors[vector][offset..offset + entry.count()].to_vec(),
        };
        Ok(self.places().into_iter().map(named).collect())
    }

    /// The forward model with these values as its initializers: input `x`, output `logits`.
    #[must_use]
    pub fn forward(&self, tensors: Vec<Named>) -> Model {
        let mut model = self.inference.clone();
        for tensor in tensors {
            let gives = |outputs: &[String]| outputs.contains(&tensor.name);
            model.nodes.retain(|node| !gives(&node.outputs));
            model.inputs.retain(|input| input.name != tensor.name);
            if let Some(value) = Tensor::new(tensor.shape, Data::F32(tensor.values)) {
                model.initializers.push((tensor.name, value));
            }
        }
        let vectors = ["theta", "state"];
        model
            .inputs
            .retain(|input| !vectors.contains(&input.name.as_str()));
        let fed = |input: &String| vectors.contains(&input.as_str());
        model.nodes.retain(|node| !node.inputs.iter().any(fed));
        model.drop_unused();
        model
    }

    /// The step's first parameters and state with these values in the place of its own: the bytes of a
    /// parameter file. Tensors that the step does not have are left out.
    ///
    /// # Errors
    /// A tensor is missing or has another shape, or the step's parameter file cannot be read.
    pub fn params(&self, tensors: Vec<Named>) -> Result<Vec<u8>, CheckpointError> {
        let mut vectors = self.vectors(&self.initial)?;
        let places = self.places();
        let mut given: BTreeMap<String, Named> = tensors
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor))
            .collect();
        for &(vector, offset, entry) in &places {
            let Some(tensor) = given.remove(&entry.name) else {
                let needed: Vec<&str> = places
                    .iter()
                    .map(|(_, _, entry)| entry.name.as_str())
                    .collect();
                return Err(CheckpointError::Missing {
                    name: entry.name.clone(),
                    needed: needed.join(", "),
                });
            };
            if tensor.shape != entry.shape {
                return Err(CheckpointError::Shape {
                    name: tensor.name,
                    found: tensor.shape,
                    expected: entry.shape.clone(),
                });
            }
            vectors[vector][offset..offset + entry.count()].copy_from_slice(&tensor.values);
        }
        let slices: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
        params::encode(&slices).map_err(|source| CheckpointError::Params {
            path: self.initial.clone(),
            source,
        })
    }

    /// The float initializers of a model, by name: what [`Step::params`] takes.
    #[must_use]
    pub fn of_model(model: &Model) -> Vec<Named> {
        let floats = model.initializers.iter().filter_map(|(name, tensor)| {
            let Data::F32(values) = tensor.data() else {
                return None;
            };
            Some(Named {
                name: name.clone(),
                shape: tensor.shape().to_vec(),
                values: values.clone(),
            })
        });
        floats.collect()
    }

    fn is_flat(&self) -> bool {
        self.manifest.layout == "flat"
    }

    /// Where the model's tensors are: every parameter, and of the state what inference reads.
    fn places(&self) -> Vec<Place<'_>> {
        let is_read = |name: &str| {
            self.inference.inputs.iter().any(|input| input.name == name)
                || self
                    .inference
                    .nodes
                    .iter()
                    .any(|node| node.outputs.iter().any(|output| output == name))
        };
        let parameters = self.manifest.parameters.iter();
        let state = self.manifest.state.iter();
        let all = parameters
            .map(|entry| (0, entry))
            .chain(state.map(|entry| (1, entry)));
        all.enumerate()
            .filter(|(_, (vector, entry))| *vector == 0 || is_read(&entry.name))
            .map(|(index, (vector, entry))| {
                if self.is_flat() {
                    (vector, entry.offset, entry)
                } else {
                    (index, 0, entry)
                }
            })
            .collect()
    }

    fn vectors(&self, path: &Path) -> Result<Vec<Vec<f32>>, CheckpointError> {
        let bytes = fs::read(path).map_err(|source| CheckpointError::Io {
            path: path.to_owned(),
            source,
        })?;
        let content = params::decode(&bytes).map_err(|source| CheckpointError::Params {
            path: path.to_owned(),
            source,
        })?;
        if content.step.is_some_and(|step| step != self.sha256) {
            return Err(CheckpointError::OtherStep {
                path: path.to_owned(),
                step: self.path.clone(),
            });
        }
        let lengths = |entries: &[Entry]| entries.iter().map(Entry::count).collect::<Vec<_>>();
        let (parameters, state) = (
            lengths(&self.manifest.parameters),
            lengths(&self.manifest.state),
        );
        let expected = if self.is_flat() {
            vec![parameters.iter().sum(), state.iter().sum()]
        } else {
            [parameters, state].concat()
        };
        let found: Vec<usize> = content.tensors.iter().map(Vec::len).collect();
        if found != expected {
            return Err(CheckpointError::Sizes {
                path: path.to_owned(),
                found,
                expected,
            });
        }
        Ok(content.tensors)
    }
}
