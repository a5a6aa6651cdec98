//! Typing one use of an operator.

use super::{Call, Inferred};
use crate::operator::operator;

/// Types of the outputs of a call.
///
/// # Errors
/// [`OperatorError`] if the operator has no rule, or its inputs do not fit it.
pub(crate) fn infer(call: &Call<'_>) -> Inferred {
    (operator(call.operator)?.infer)(call)
}
