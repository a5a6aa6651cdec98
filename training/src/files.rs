//! The files of a training step. Writing them, each whole or not at all, is for the caller.

use crate::manifest::FileEntry;
use crate::options::Layout;
use crate::params;
use crate::train_step::TrainStep;
use std::io;
use std::path::{Path, PathBuf};

/// The files of a training step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The step's graph, `STEP.onnx`.
    pub step: PathBuf,
    /// The inference graph, `STEP.infer.onnx`.
    pub inference: PathBuf,
    /// Initial parameters and state, `STEP.params`.
    pub params: PathBuf,
    /// The manifest, `STEP.json`.
    pub manifest: PathBuf,
}

impl Files {
    /// Names beside `STEP.onnx`.
    #[must_use]
    pub fn beside(step: &Path) -> Files {
        Files {
            step: step.to_owned(),
            inference: step.with_extension("infer.onnx"),
            params: step.with_extension("params"),
            manifest: step.with_extension("json"),
        }
    }
}

impl TrainStep {
    /// The files' bytes, in the order to write them in: the manifest is the last, and its hashes tell whether all are
    /// of one build. The same model and options give the same bytes.
    ///
    /// # Errors
    /// [`io::Error`] if there are more parameters than the format of parameter files can count, or an
    /// option in the manifest is not a number.
    pub fn encode(&self, names: &Files) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
        let layout = ("fulcrum.layout", self.layout.to_string());
        let inference = self.inference.encode(std::slice::from_ref(&layout));
        let classes = self.manifest.classes.map(|count| count.to_string());
        let classes = classes.map(|count| ("fulcrum.classes", count));
        let metadata: Vec<_> = [layout].into_iter().chain(classes).collect();
        let step = self.step.encode(&metadata);
        let (theta, state) = (self.parameters.initial(), self.state.initial());
        let tensors: Vec<&[f32]> = match self.layout {
            Layout::Flat => vec![theta, state],
            Layout::Named => [(&self.parameters, theta), (&self.state, state)]
                .iter()
                .flat_map(|(layout, values)| {
                    layout
                        .entries()
                        .iter()
                        .map(|e| &values[e.offset..e.offset + e.count()])
                })
                .collect(),
        };
        let params = params::encode(&tensors).map_err(io::Error::other)?;
        let mut files = vec![
            (names.params.clone(), params),
            (names.inference.clone(), inference),
            (names.step.clone(), step),
        ];
        let mut manifest = self.manifest.clone();
        manifest.files = files
            .iter()
            .map(|(path, bytes)| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                FileEntry::of(&name, bytes)
            })
            .collect();
        let json = manifest.to_json().map_err(io::Error::other)?;
        files.push((names.manifest.clone(), json.into_bytes()));
        Ok(files)
    }
}
