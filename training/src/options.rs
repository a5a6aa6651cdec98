//! What a training step is to do.

use regex::Regex;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A name that is not one of an option's values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{found}' is not one of {allowed}")]
pub struct UnknownName {
    found: String,
    allowed: &'static str,
}

macro_rules! named {
    ($(#[$doc:meta])* $kind:ident, $allowed:literal,
     $($(#[$variant_doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $kind { $($(#[$variant_doc])* $variant),+ }

        impl FromStr for $kind {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<$kind, UnknownName> {
                match text {
                    $($name => Ok($kind::$variant),)+
                    _ => Err(UnknownName { found: text.to_owned(), allowed: $allowed }),
                }
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($kind::$variant => $name),+ })
            }
        }
    };
}

named!(
    /// What is minimized; always a mean, so that the learning rate does not depend on the batch.
    Loss, "cross-entropy, mse, bce",
    /// Softmax cross-entropy with int64 class labels, mean over all labels.
    CrossEntropy = "cross-entropy",
    /// Squared difference, mean over all elements.
    MeanSquaredError = "mse",
    /// Binary cross-entropy of logits with targets in 0…1, mean over all elements.
    BinaryCrossEntropy = "bce",
);

named!(
    /// How parameters follow their gradient; definitions as in PyTorch.
    Optimizer, "sgd, momentum, adam, adamw",
    /// `θ ← θ − lr·g`
    Sgd = "sgd",
    /// `v ← μ·v + (1 − τ)·g`, `θ ← θ − lr·v`, with dampening τ = 0 unless given
    Momentum = "momentum",
    /// Adam (Kingma and Ba 2015, algorithm 1); weight decay is added to the gradient.
    Adam = "adam",
    /// Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).
    AdamW = "adamw",
);

named!(
    /// How parameters and state are passed to the step.
    Layout, "flat, named",
    /// One vector each: inputs `theta` and `state`, outputs `theta.new` and `state.new`.
    Flat = "flat",
    /// Every tensor by itself: inputs `N`, outputs `N.new`.
    Named = "named",
);

/// Largest batch, and size of another dimension: what is larger fits no memory, and products of sizes have to fit 64 bits.
const SIZE_MAX: usize = 1 << 20;

/// Options of [`build`](crate::train_step::build).
#[derive(Debug, Clone)]
pub struct Options {
    /// What is minimized.
    pub loss: Loss,
    /// How parameters follow their gradient.
    pub optimizer: Optimizer,
    /// Samples per step, 1 to 2²⁰.
    pub batch: usize,
    /// Initializers whose name matches stay as they are.
    pub freeze: Option<Regex>,
    /// Flat vectors or named tensors.
    pub layout: Layout,
    /// μ of [`Optimizer::Momentum`], at least 0 and below 1.
    pub momentum: f32,
    /// Dampening τ of [`Optimizer::Momentum`], at least 0 and below 1. With τ = μ the velocity is a running mean
    /// of the gradients, and a learning rate means the same with and without momentum. Other than in
    /// PyTorch, the first gradient is dampened too.
    pub dampening: f32,
    /// β₁ and β₂ of Adam, at least 0 and below 1. In float64, because 1 − β is what counts.
    pub betas: (f64, f64),
    /// ε of Adam, positive.
    pub epsilon: f32,
    /// Weight decay λ, at least 0; `None` is PyTorch's default: 0.01 for AdamW, 0 otherwise.
    pub weight_decay: Option<f32>,
    /// Trained parameters whose name matches are not decayed: biases and normalizations, by custom.
    pub no_decay: Option<Regex>,
    /// Gradients are scaled down to this global L2 norm, positive.
    pub clip_norm: Option<f32>,
    /// Runs of the step per update of the parameters, at least 1. The gradients are averaged.
    pub accumulate: u32,
    /// Axis of the logits that counts the classes; negative from the end.
    pub class_axis: i64,
    /// The model's output the loss takes, or a value within it; `None` is the first output of floats.
    pub output: Option<String>,
    /// Sizes of symbolic dimensions other than the batch.
    pub dimensions: BTreeMap<String, usize>,
    /// Seed of dropout's masks; `None` turns dropout off.
    pub dropout_seed: Option<u64>,
    /// Samples per run of the inference graph; `None` leaves the model's own, symbolic or not.
    pub inference_batch: Option<usize>,
}

impl Options {
    /// Defaults for a loss, an optimizer and a batch.
    #[must_use]
    pub fn new(loss: Loss, optimizer: Optimizer, batch: usize) -> Options {
        Options {
            loss,
            optimizer,
            batch,
            freeze: None,
            layout: Layout::Flat,
            momentum: 0.9,
            dampening: 0.0,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            weight_decay: None,
            no_decay: None,
            clip_norm: None,
            accumulate: 1,
            class_axis: 1,
            output: None,
            dimensions: BTreeMap::new(),
            dropout_seed: Some(0),
            inference_batch: None,
        }
    }

    /// Weight decay in force.
    #[must_use]
    pub fn decay(&self) -> f32 {
        self.weight_decay
            .unwrap_or(if self.optimizer == Optimizer::AdamW {
                0.01
            } else {
                0.0
            })
    }

    /// Whether a parameter is spared from weight decay.
    #[must_use]
    pub fn spares(&self, parameter: &str) -> bool {
        self.no_decay
            .as_ref()
            .is_some_and(|names| names.is_match(parameter))
    }

    /// Checks every option against its range.
    ///
    /// # Errors
    /// [`BuildError::Option`](crate::BuildError::Option) with the first option outside of its range.
    pub fn check(&self) -> Result<(), crate::BuildError> {
        let fraction = |value: f64| (0.0..1.0).contains(&value);
        let checks = [
            (
                (1..=SIZE_MAX).contains(&self.batch),
                "--batch",
                self.batch.to_string(),
                "1 to 1048576 is allowed",
            ),
            (
                (1..=SIZE_MAX).contains(&self.inference_batch.unwrap_or(1)),
                "--inference-batch",
                self.inference_batch.unwrap_or_default().to_string(),
                "1 to 1048576 is allowed",
            ),
            (
                self.dimensions
                    .values()
                    .all(|size| (1..=SIZE_MAX).contains(size)),
                "--dimension",
                format!("{:?}", self.dimensions),
                "sizes from 1 to 1048576 are allowed",
            ),
            (
                self.accumulate >= 1 && self.accumulate <= 1 << 20,
                "--accumulate",
                self.accumulate.to_string(),
                "1 to 1048576 is allowed",
            ),
            (
                fraction(f64::from(self.momentum)),
                "--momentum",
                self.momentum.to_string(),
                "at least 0 and below 1 is allowed",
            ),
            (
                fraction(f64::from(self.dampening)),
                "--dampening",
                self.dampening.to_string(),
                "at least 0 and below 1 is allowed",
            ),
            (
                fraction(self.betas.0) && fraction(self.betas.1),
                "--betas",
                format!("{}, {}", self.betas.0, self.betas.1),
                "at least 0 and below 1 is allowed",
            ),
            (
                self.epsilon > 0.0 && self.epsilon.is_finite(),
                "--epsilon",
                self.epsilon.to_string(),
                "a positive number is needed",
            ),
            (
                self.decay() >= 0.0 && self.decay().is_finite(),
                "--weight-decay",
                self.decay().to_string(),
                "0 or more is needed",
            ),
            (
                self.clip_norm
                    .is_none_or(|norm| norm > 0.0 && norm.is_finite()),
                "--clip-norm",
                self.clip_norm.unwrap_or_default().to_string(),
                "a positive number is needed",
            ),
        ];
        match checks.into_iter().find(|(good, ..)| !good) {
            None => Ok(()),
            Some((_, option, value, allowed)) => Err(crate::BuildError::Option {
                option,
                value,
                allowed,
            }),
        }
    }
}
