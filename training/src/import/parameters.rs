//! Which initializers of a model are trained, which are running statistics, and which stay constant.

use crate::error::BuildError;
use crate::onnx::{Element, Model, Tensor};
use crate::options::Options;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};

/// Inputs that hold settings rather than parameters: operator and position.
const SETTINGS: &[(&str, usize)] = &[
    ("BatchNormalization", 3),
    ("BatchNormalization", 4),
    ("Clip", 1),
    ("Clip", 2),
    ("Dropout", 1),
    ("OneHot", 2),
    ("Pad", 2),
    ("Resize", 1),
    ("Resize", 2),
];

/// Running mean and variance of one batch normalization.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunningStatistics {
    /// Index of its node.
    pub(crate) node: usize,
    /// Names and values of mean and variance.
    pub(crate) mean: (String, Tensor),
    pub(crate) variance: (String, Tensor),
}

/// The initializers of a model, sorted by what training does with them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Census {
    /// Trained, in the model's order.
    pub(crate) trainable: Vec<(String, Tensor)>,
    /// Names of those that could be trained, but are frozen.
    pub(crate) frozen: Vec<String>,
    /// Running statistics of the batch normalizations that are trained.
    pub(crate) statistics: Vec<RunningStatistics>,
}

impl Census {
    /// Something is left to train, and no expression misses what it was written for.
    ///
    /// # Errors
    /// [`BuildError::NothingToTrain`], or [`BuildError::NoMatch`] with the option.
    pub(crate) fn check(&self, options: &Options) -> Result<(), BuildError> {
        if self.trainable.is_empty() {
            return Err(BuildError::NothingToTrain {
                trainable_before_freezing: self.frozen.len(),
            });
        }
        let spares_none = !self.trainable.iter().any(|(name, _)| options.spares(name));
        match (&options.freeze, &options.no_decay) {
            (Some(freeze), _) if self.frozen.is_empty() => Err(self.no_match("--freeze", freeze)),
            (_, Some(spared)) if spares_none => Err(self.no_match("--no-decay", spared)),
            _ => Ok(()),
        }
    }

    fn no_match(&self, option: &'static str, expression: &Regex) -> BuildError {
        const NAMED_MAX: usize = 8;
        let names: Vec<&str> = self
            .trainable
            .iter()
            .map(|(name, _)| name.as_str())
            .collect();
        let mut shown = names[..names.len().min(NAMED_MAX)].join(", ");
        if names.len() > NAMED_MAX {
            shown += &format!(" and {} more", names.len() - NAMED_MAX);
        }
        BuildError::NoMatch {
            option,
            expression: expression.to_string(),
            names: shown,
        }
    }
}

/// Sorts the initializers of a model.
///
/// Trainable is a 32-bit float initializer with at least one axis that some node uses as more than a
/// setting. Scalars and `Constant` nodes are never trained: exporters write factors that way. A batch
/// normalization has running statistics if its scale or its bias is trained.
pub(crate) fn census(model: &Model, freeze: Option<&Regex>) -> Census {
    let aliases = aliases(model);
    let origin = |name: &str| {
        aliases
            .get(name)
            .map_or_else(|| name.to_owned(), |o| (*o).to_owned())
    };
    let mut used: BTreeSet<String> = BTreeSet::new();
    for node in &model.nodes {
        for (position, input) in node.inputs.iter().enumerate() {
            if node.operator != "Identity" && !SETTINGS.contains(&(&node.operator, position)) {
                used.insert(origin(input));
            }
        }
    }
    let mut census = Census::default();
    for (name, tensor) in &model.initializers {
        let could = tensor.element() == Element::F32 && !tensor.shape().is_empty();
        if !could || tensor.is_empty() || !used.contains(name) {
            continue;
        }
        if freeze.is_some_and(|freeze| freeze.is_match(name)) {
            census.frozen.push(name.clone());
        } else {
            census.trainable.push((name.clone(), tensor.clone()));
        }
    }

    let trained: BTreeSet<&str> = census
        .trainable
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let mut taken = BTreeSet::new();
    for (index, node) in model.nodes.iter().enumerate() {
        let [_, scale, bias, mean, variance, ..] = node.inputs.as_slice() else {
            continue;
        };
        if node.operator != "BatchNormalization"
            || !(trained.contains(origin(scale).as_str())
                || trained.contains(origin(bias).as_str()))
        {
            continue;
        }
        let (mean, variance) = (origin(mean), origin(variance));
        if let (Some(mean_now), Some(variance_now)) =
            (model.initializer(&mean), model.initializer(&variance))
        {
            // Exporters may share equal initializers; two layers' statistics part as soon as they train.
            let mut own = |name: String| {
                let unique = if taken.contains(&name) {
                    format!("{name}.{}", node.name)
                } else {
                    name
                };
                taken.insert(unique.clone());
                unique
            };
            census.statistics.push(RunningStatistics {
                node: index,
                mean: (own(mean), mean_now.clone()),
                variance: (own(variance), variance_now.clone()),
            });
        }
    }
    census
}

/// Values that are an initializer under another name, through `Identity`.
fn aliases(model: &Model) -> BTreeMap<&str, &str> {
    let mut aliases: BTreeMap<&str, &str> = BTreeMap::new();
    for node in model
        .nodes
        .iter()
        .filter(|node| node.operator == "Identity")
    {
        if let ([input], [output]) = (node.inputs.as_slice(), node.outputs.as_slice()) {
            let origin = aliases.get(input.as_str()).copied().unwrap_or(input);
            if model.initializer(origin).is_some() {
                aliases.insert(output, origin);
            }
        }
    }
    aliases
}
