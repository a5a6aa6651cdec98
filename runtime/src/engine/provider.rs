//! Which part of the machine ONNX Runtime computes on: its *execution provider*.
//!
//! A library lists providers that it cannot use on this machine (`GetAvailableProviders` tells what it was
//! built with), so a choice is *probed*: a tiny model runs on that provider alone, and its result is compared.
//!
//! TensorRT builds an engine for each session at its first start, which takes minutes (9.5 for a detector on an
//! Orin), and weights that change with every step defeat it: so training runs on CUDA then, and its engines
//! are kept in a folder. Tensors stay in the CPU's memory, which on a Jetson is the GPU's as well; ONNX Runtime
//! copies them.

use super::Engine;
use ort::ep::{CPU, CUDA, ExecutionProviderDispatch, TensorRT};
use ort::session::Session;
use ort::value::Tensor;
use std::path::PathBuf;
use std::{env, fmt};

/// `y [1,2] = x [1,4] w [4,2]`; `tests/fixtures/engine/generate.py` writes it.
const PROBE: &[u8] = include_bytes!("probe.onnx");
const PROBE_X: [f32; 4] = [1.0, 2.0, 3.0, 4.0];
const PROBE_Y: [f32; 2] = [7.0, 10.0];

/// An execution provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provider {
    /// The CPU.
    #[default]
    Cpu,
    /// An NVIDIA GPU, through CUDA and cuDNN.
    Cuda,
    /// An NVIDIA GPU, through TensorRT; what that does not do, through CUDA.
    TensorRt,
}

impl Provider {
    /// Every provider with its name at the command line.
    pub const NAMES: [(&'static str, Self); 3] = [
        ("cpu", Self::Cpu),
        ("cuda", Self::Cuda),
        ("tensorrt", Self::TensorRt),
    ];

    /// Reads names separated by commas, in the order in which they are to be tried. `None` for a name that
    /// is unknown, or there twice.
    #[must_use]
    pub fn list(text: &str) -> Option<Vec<Self>> {
        let mut list = Vec::new();
        for name in text.split(',') {
            let (_, provider) = Self::NAMES.iter().find(|(known, _)| *known == name)?;
            if list.contains(provider) {
                return None;
            }
            list.push(*provider);
        }
        Some(list)
    }

    /// The one that trains where this one infers.
    pub(super) const fn for_training(self) -> Self {
        match self {
            Self::TensorRt => Self::Cuda,
            other => other,
        }
    }

    /// For a session's builder, the preferred one first. One that is refused is an error, not skipped.
    pub(super) fn dispatches(
        self,
        memory_limit_bytes: Option<usize>,
    ) -> Vec<ExecutionProviderDispatch> {
        let cpu = CPU::default().with_arena_allocator(true).build();
        let cuda = || {
            let cuda = CUDA::default();
            let cuda = match memory_limit_bytes {
                Some(limit_bytes) => cuda.with_memory_limit(limit_bytes),
                None => cuda,
            };
            cuda.build().error_on_failure()
        };
        match self {
            Self::Cpu => vec![cpu],
            Self::Cuda => vec![cuda(), cpu],
            Self::TensorRt => {
                let folder = engine_folder().display().to_string();
                let tensorrt = TensorRT::default()
                    .with_engine_cache(true)
                    .with_engine_cache_path(&folder)
                    .with_timing_cache(true)
                    .with_timing_cache_path(&folder);
                vec![tensorrt.build().error_on_failure(), cuda(), cpu]
            }
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, provider)| provider == self);
        f.write_str(name.map_or("?", |(name, _)| name))
    }
}

/// Where TensorRT's engines are kept: with the service's state, else in fulcrum's cache, else here.
fn engine_folder() -> PathBuf {
    let below = |variable: &str, path: &str| Some(PathBuf::from(env::var_os(variable)?).join(path));
    below("STATE_DIRECTORY", "tensorrt")
        .or_else(|| below("XDG_CACHE_HOME", "fulcrum/tensorrt"))
        .or_else(|| below("HOME", ".cache/fulcrum/tensorrt"))
        .unwrap_or_else(|| PathBuf::from("tensorrt"))
}

/// No provider of those asked for works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderError {
    /// Each with its reason.
    pub refused: Vec<(Provider, String)>,
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (provider, reason) in &self.refused {
            write!(f, "provider {provider} does not work here: {reason}; ")?;
        }
        f.write_str(
            "take a library that was built for it and this GPU, or name one to fall back to, such as \
             --provider cuda,cpu",
        )
    }
}

impl std::error::Error for ProviderError {}

impl Engine {
    /// This engine on the first of the providers that works, after a real run on it. What is refused before is
    /// logged, and so is the choice.
    ///
    /// # Errors
    /// None works.
    pub fn on_first(self, providers: &[Provider]) -> Result<Self, ProviderError> {
        let mut refused = Vec::new();
        for &provider in providers {
            match self.tried(provider) {
                Ok(()) => {
                    for (other, reason) in &refused {
                        log::warn!("provider {other} does not work here: {reason}");
                    }
                    log::info!("ONNX Runtime computes on: {provider}");
                    return Ok(Self {
                        provider,
                        copies: provider != Provider::Cpu,
                        ..self
                    });
                }
                Err(reason) => refused.push((provider, reason)),
            }
        }
        Err(ProviderError { refused })
    }

    /// Whether a provider works here, after a real run on it.
    ///
    /// # Errors
    /// ONNX Runtime's reason why not.
    pub fn tried(&self, provider: Provider) -> Result<(), String> {
        self.probe(provider)
            .map_err(|error| one_line(error.message()))
    }

    /// Runs a model on this provider alone.
    fn probe(&self, provider: Provider) -> Result<(), ort::Error> {
        let mut builder = Session::builder(&self.environment)?
            .with_intra_threads(1)?
            .with_execution_providers(provider.dispatches(None))?;
        if provider != Provider::Cpu {
            builder = builder.with_disable_cpu_fallback()?;
        }
        let mut session = builder.commit_from_memory(PROBE)?;
        let x = Tensor::from_array(([1_usize, PROBE_X.len()], PROBE_X.to_vec()))?;
        let outputs = session.run(ort::inputs!["x" => x])?;
        let (_, y) = outputs["y"].try_extract_tensor::<f32>()?;
        if y == PROBE_Y {
            return Ok(());
        }
        Err(ort::Error::new(format!(
            "a product is {y:?}, not {PROBE_Y:?}"
        )))
    }
}

/// ONNX Runtime's reasons have several lines; the first one says it, after the places in its sources.
fn one_line(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    let said = line.rsplit_once("[ONNXRuntimeError] : ");
    said.map_or(line, |(_, said)| said).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_are_named_in_the_order_in_which_they_are_tried() {
        assert_eq!(
            Provider::list("cuda,cpu"),
            Some(vec![Provider::Cuda, Provider::Cpu])
        );
        assert_eq!(Provider::list("tensorrt"), Some(vec![Provider::TensorRt]));
        for text in ["", "gpu", "cpu,", "cpu,cpu", "CPU"] {
            assert_eq!(Provider::list(text), None, "{text}");
        }
        assert_eq!(Provider::TensorRt.for_training(), Provider::Cuda);
        assert_eq!(Provider::Cpu.for_training(), Provider::Cpu);
    }

    #[test]
    fn a_reason_is_what_onnx_runtime_says_not_where() {
        let reason = "/src/bridge.cc:2043 onnxruntime::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load\nmore";
        assert_eq!(one_line(reason), "1 : FAIL : Failed to load");
        assert_eq!(one_line(" plain "), "plain");
    }
}
