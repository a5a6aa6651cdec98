//! The engine: ONNX Runtime sessions for inference and training that the loop runs without allocating.
//!
//! # Contract of the models
//! - **Training step** ([`TrainingSession`]): an ordinary ONNX graph. Inputs `x` (float32, first dimension the
//!   batch), `y` (int64 or float32), `lr` (float32 scalar) and any number of float32 tensors `N` for each of
//!   which there is an output `N.new` of the same shape: parameters and optimizer state. Output `loss`, a
//!   float32 scalar. `STEP.params` beside it holds the initial tensors ([`params`]).
//! - **Inference** ([`InferenceSession`]): input `x`, output `logits`; any other input names one of the
//!   training step's tensors and is bound to it, so that inference sees the parameters of the last step.
//!
//! # How it runs
//! Everything is made at start: sessions (one intra-op thread unless asked otherwise, no spinning, sequential
//! execution, arena and memory patterns on, all graph optimizations), tensor memory with fixed addresses, and
//! for each session a binding per side of the parameters. Training *ping-pongs*: a step reads the tensors of
//! one side and writes the other, then the sides change roles. Writing in place instead is accepted by ONNX
//! Runtime and silently wrong, because an update may run before the last read of the old value. It also makes
//! a failed or cancelled step harmless: the side it read is untouched and stays the current one.
//!
//! A run is one call of `RunWithBinding`: no Rust allocation on success or failure. ONNX Runtime itself makes
//! a few dozen small allocations per run, which the C allocator serves without system calls. On a GPU it is one call of
//! `Run`, because a binding copies inputs there when they are bound and never again.
//!
//! # Invariants
//! - I5, the engine's part: a run does not allocate in Rust (`tests/engine_allocation.rs`,
//!   `i5_runs_do_not_allocate_on_success_or_error`).
//! - A step that fails or is cancelled changes no parameter (`a_cancelled_step_changes_nothing`,
//!   `a_failed_step_changes_nothing`).

mod ffi;
mod inference;
pub mod library;
mod parameters;
pub mod params;
mod piece;
mod provider;
pub mod residency;
mod session;
mod signature;
mod training;

pub use ffi::Call;
pub use inference::InferenceSession;
pub use library::Library;
pub use parameters::Parameters;
pub use piece::PIECE;
pub(crate) use piece::Piece;
pub use provider::{Provider, ProviderError};
pub use session::SessionOptions;
pub use signature::{Dims, Element, ModelError, ModelProblem, TensorSpec};
pub use training::{CancelHandle, Targets, TrainingSession};

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// What the name of an output adds to that of the input it goes to in the next step.
pub(crate) const NEW: &str = ".new";

/// ONNX Runtime, loaded and initialized. Cheap to clone; there is one per process.
#[derive(Clone, Debug)]
pub struct Engine {
    environment: ort::environment::Environment,
    library: PathBuf,
    provider: Provider,
    copies: bool,
    memory_limit_bytes: Option<usize>,
}

/// The process's engine. ONNX Runtime allows one environment, and tearing it down while the process ends has
/// crashed on boards (onnxruntime issue 28301), so it stays.
static ENGINE: Mutex<Option<Engine>> = Mutex::new(None);

impl Engine {
    /// Loads the library and creates the process's environment; a second call with the same library returns
    /// the same engine. ONNX Runtime's telemetry is off; it logs nothing of its own unless `ORT_LOG` is set
    /// (`verbose`, `info`, `warning`, `error`).
    ///
    /// # Errors
    /// When the library cannot be loaded, or another one was loaded before.
    pub fn start(library: &Library) -> Result<Self, StartError> {
        let mut engine = ENGINE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = engine.as_ref() {
            if engine.library == library.path {
                return Ok(engine.clone());
            }
            return Err(StartError::OtherLibrary {
                loaded: engine.library.clone(),
                asked: library.path.clone(),
            });
        }
        let failed = |message: String| StartError::Refused {
            library: library.path.clone(),
            message,
        };
        let environment = ort::init_from(&library.path)
            .map_err(|error| failed(error.to_string()))?
            .with_name("fulcrum")
            .with_telemetry(false)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        if std::env::var_os("ORT_LOG").is_none() {
            // ONNX Runtime would print every failure on standard error besides returning it: a system call
            // in the loop, and the same thing said twice.
            environment.set_log_level(ort::logging::LogLevel::Fatal);
        }
        log::info!("{library}");
        Ok(engine
            .insert(Self {
                environment,
                library: library.path.clone(),
                provider: Provider::Cpu,
                copies: false,
                memory_limit_bytes: None,
            })
            .clone())
    }

    /// What its sessions compute on: the CPU, unless [`Engine::on_first`] chose.
    #[must_use]
    pub const fn provider(&self) -> Provider {
        self.provider
    }

    /// With sessions that take the memory of their weights, and of what their operators hand to each other, from one
    /// arena of so many MiB, which the first of them takes from the system as a whole. A GPU's arena may grow as large,
    /// too. Tensors that the loop reads and writes are not in it.
    ///
    /// To be called once in a process: a second time is refused by older libraries, and by newer ones (1.23) an arena
    /// more.
    ///
    /// # Errors
    /// [`StartError::Refused`] by the library.
    pub fn within(self, limit_mib: u16) -> Result<Self, StartError> {
        let limit_bytes = usize::from(limit_mib) << 20;
        ffi::limit_memory(&self.environment, limit_bytes).map_err(|error| StartError::Refused {
            library: self.library.clone(),
            message: error.to_string(),
        })?;
        Ok(Self {
            memory_limit_bytes: Some(limit_bytes),
            ..self
        })
    }

    /// With sessions that copy their tensors with every run: so it is where the device has memory of its own, and here
    /// it can be tried on the CPU.
    #[must_use]
    pub fn copying(self) -> Self {
        Self {
            copies: true,
            ..self
        }
    }
}

/// Why the engine does not start.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartError {
    /// The library refuses to load or to initialize.
    Refused {
        /// The library.
        library: PathBuf,
        /// The reason given.
        message: String,
    },
    /// The process already runs with another library.
    OtherLibrary {
        /// The one that is loaded.
        loaded: PathBuf,
        /// The one asked for now.
        asked: PathBuf,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { library, message } => {
                write!(
                    f,
                    "ONNX Runtime {} does not start: {message}",
                    library.display()
                )
            }
            Self::OtherLibrary { loaded, asked } => write!(
                f,
                "ONNX Runtime {} is loaded already; {} needs a process of its own",
                loaded.display(),
                asked.display()
            ),
        }
    }
}

impl std::error::Error for StartError {}

/// Why a run did not happen; the session's `last_error` has ONNX Runtime's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunError {
    /// A training step was cancelled through its [`CancelHandle`].
    Cancelled,
    /// ONNX Runtime reported an error.
    Failed {
        /// Its code (`OrtErrorCode` of ONNX Runtime's C interface).
        code: i32,
    },
    /// The parameters are not those the session was loaded with.
    ForeignParameters,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("the training step was cancelled"),
            Self::Failed { code } => write!(f, "ONNX Runtime failed with code {code}"),
            Self::ForeignParameters => {
                f.write_str("the parameters are not those the session was loaded with")
            }
        }
    }
}

impl std::error::Error for RunError {}

impl From<ffi::Failure> for RunError {
    fn from(failure: ffi::Failure) -> Self {
        match failure {
            ffi::Failure::ForeignTensors => Self::ForeignParameters,
            ffi::Failure::Status(code) => Self::Failed { code },
        }
    }
}
