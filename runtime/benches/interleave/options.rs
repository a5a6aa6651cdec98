//! What is compared, from the command line.

use crate::Result;
use fulcrum_runtime::engine::Provider;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is compared.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) models: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) provider: Provider,
    /// CPUs that every variant may use, and threads per session.
    pub(crate) cores: u16,
    /// Requests per batch.
    pub(crate) batch: u16,
    /// Runs of the model that make one inference minibatch.
    pub(crate) infer_runs: u32,
    /// Runs of the model that make one training step.
    pub(crate) steps: Vec<u32>,
    /// Parts that `pieces` cuts a step into.
    pub(crate) pieces: u32,
    /// Shares of what inference alone can serve, in per cent.
    pub(crate) loads: Vec<u64>,
    /// The latency budget, if not what each case makes of it.
    pub(crate) budget_ms: Option<u64>,
    /// Those that run; all of them if empty.
    variants: Vec<String>,
    /// Time of a variant in a repetition, in so many slices.
    pub(crate) run: Duration,
    pub(crate) slices: u32,
    pub(crate) repetitions: u64,
}

impl Options {
    /// # Errors
    /// An option is unknown, or its value is none.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
        let mut options = Self {
            models: Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/models/digits"),
            data: cache
                .unwrap_or_else(home)
                .join("fulcrum/digits-1/train.rec"),
            provider: Provider::Cpu,
            cores: 1,
            batch: 16,
            infer_runs: 40,
            // About a tenth of, as much as, and ten times the inference minibatch.
            steps: vec![1, 10, 100],
            pieces: 10,
            loads: vec![20, 50, 90],
            budget_ms: None,
            variants: Vec::new(),
            run: Duration::from_secs(5),
            slices: 5,
            repetitions: 3,
        };
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or(format!("{name} needs a value"))?;
            match name.as_str() {
                "--provider" => options.provider = provider(&value)?,
                "--cores" => options.cores = value.parse()?,
                "--batch" => options.batch = value.parse()?,
                "--infer-runs" => options.infer_runs = value.parse()?,
                "--steps" => options.steps = list(&value)?,
                "--pieces" => options.pieces = value.parse()?,
                "--loads" => options.loads = list(&value)?,
                "--budget-ms" => options.budget_ms = Some(value.parse()?),
                "--variants" => options.variants = list(&value)?,
                "--seconds" => options.run = Duration::from_secs_f64(value.parse()?),
                "--slices" => options.slices = value.parse()?,
                "--repetitions" => options.repetitions = value.parse()?,
                "--models" => options.models = value.into(),
                "--data" => options.data = value.into(),
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        Ok(options)
    }

    /// Whether a variant runs.
    pub(crate) fn has(&self, variant: &str) -> bool {
        self.variants.is_empty() || self.variants.iter().any(|name| name == variant)
    }
}

fn provider(name: &str) -> Result<Provider> {
    match Provider::list(name).as_deref() {
        Some(&[provider]) => Ok(provider),
        _ => Err(format!("--provider {name}: allowed is cpu, cuda or tensorrt").into()),
    }
}

fn list<T: std::str::FromStr<Err: Error + 'static>>(text: &str) -> Result<Vec<T>> {
    text.split(',').map(|item| Ok(item.parse()?)).collect()
}
