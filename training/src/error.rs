//! Errors of building a training step.

use crate::onnx::ReadError;

/// Why one operator cannot be placed in a graph or differentiated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{operator}: {reason}")]
pub struct OperatorError {
    /// The operator, for example `Conv`.
    pub operator: String,
    /// What is wrong, in words.
    pub reason: String,
}

impl OperatorError {
    pub(crate) fn new(operator: &str, reason: impl Into<String>) -> OperatorError {
        OperatorError {
            operator: operator.to_owned(),
            reason: reason.into(),
        }
    }
}

/// Why no training step can be made of a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The model cannot be read.
    #[error("reading the model failed")]
    Read(#[from] ReadError),
    /// A node that cannot be placed in the graph.
    #[error("node '{node}': {problem}")]
    Node {
        /// Its name in the model.
        node: String,
        /// The reason.
        problem: OperatorError,
    },
    /// An operator without a gradient rule above a trainable parameter.
    #[error(
        "node '{node}': operator {operator} has no gradient rule, and trainable parameters lie below \
         it ({below}); freeze them (--freeze), or replace the operator in the model"
    )]
    NoGradientRule {
        /// Its name in the model.
        node: String,
        /// The operator.
        operator: String,
        /// Some of the parameters below it.
        below: String,
    },
    /// Nothing to train.
    #[error("the model has no trainable parameter: {}", nothing_to_train(*trainable_before_freezing))]
    NothingToTrain {
        /// Parameters before freezing.
        trainable_before_freezing: usize,
    },
    /// The loss does not depend on a parameter.
    #[error("parameter '{parameter}' does not reach the loss; freeze it (--freeze)")]
    NoGradient {
        /// Its name.
        parameter: String,
    },
    /// The model's inputs or outputs are not what the step needs.
    #[error("{what}: {reason}")]
    Interface {
        /// Which input or output.
        what: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// An expression that fits no parameter: a slip, most likely.
    #[error("{option} '{expression}' matches none of the parameters {names}")]
    NoMatch {
        /// The option as on the command line.
        option: &'static str,
        /// Its regular expression.
        expression: String,
        /// Some of the parameters' names.
        names: String,
    },
    /// An option outside of its range.
    #[error("{option} is {value}; {allowed}")]
    Option {
        /// The option as on the command line.
        option: &'static str,
        /// The value given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Loss, optimizer or the layout of flat vectors could not be written in operators: a defect of
    /// this crate.
    #[error("the training step could not be completed")]
    Assembly(#[from] OperatorError),
}

fn nothing_to_train(before_freezing: usize) -> String {
    match before_freezing {
        0 => "no operator on the way to the output uses an initializer of 32-bit floats with an axis; \
              parameters within a node's attributes (scikit-learn's LinearClassifier) are not trained"
            .to_owned(),
        count => format!(
            "{count} of its initializers could be trained, and --freeze takes all of them; give an \
             expression that leaves some"
        ),
    }
}
