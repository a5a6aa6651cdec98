//! The operators of opset 17 that a graph is made of: how each is typed, and what it computes.
//!
//! One row per kind of operator, so that what can be placed in a graph can be evaluated too. Gradients are
//! the [table of their own](crate::gradient): not every operator has one.

use crate::error::OperatorError;
use crate::evaluator::{
    Evaluated, Node, elementwise as e, indexing as ei, layout as el, matrix as em, reduction as er,
    spatial as es,
};
use crate::graph::shape::{
    Call, Inferred, elementwise as s, indexing as si, layout as sl, matrix as sm, reduction as sr,
    spatial as ss,
};

/// Operators that are typed and evaluated by the same two functions.
pub(crate) struct Operator {
    names: &'static [&'static str],
    /// Types of the outputs, from those of the inputs.
    pub(crate) infer: fn(&Call<'_>) -> Inferred,
    /// Values of the outputs, in float64.
    pub(crate) evaluate: fn(&Node<'_>) -> Evaluated,
}

macro_rules! table {
    ($($names:expr => $infer:path, $evaluate:path;)+) => {
        &[$(Operator { names: &$names, infer: $infer, evaluate: $evaluate }),+]
    };
}

#[rustfmt::skip]
const TABLE: &[Operator] = table! {
    ["Abs", "Ceil", "Clip", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
     "Log", "Neg", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Softplus", "Sqrt", "Tanh"]
                                             => s::same, e::unary;
    ["Not"]                                  => s::not, e::unary;
    ["Cast"]                                 => s::cast, e::unary;
    ["Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min"]
                                             => s::arithmetic, e::binary;
    ["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or"]
                                             => s::comparison, e::binary;
    ["Where"]                                => s::choose, e::choose;
    ["MatMul"]                               => sm::matmul, em::matmul;
    ["Gemm"]                                 => sm::gemm, em::gemm;
    ["Conv"]                                 => ss::conv, es::conv;
    ["ConvTranspose"]                        => ss::conv_transpose, es::conv_transpose;
    ["MaxPool"]                              => ss::pool, es::max_pool;
    ["AveragePool"]                          => ss::pool, es::average_pool;
    ["GlobalAveragePool"]                    => ss::global_pool, es::global_average_pool;
    ["Resize"]                               => ss::resize, es::resize_nearest;
    ["ReduceSum", "ReduceMean", "ReduceMax"] => sr::reduce, er::reduce;
    ["ArgMax"]                               => sr::arg_max, er::arg_max;
    ["Softmax", "LogSoftmax"]                => sr::softmax, er::softmax;
    ["BatchNormalization"]                   => sr::batch_normalization, er::batch_normalization;
    ["LayerNormalization"]                   => sr::layer_normalization, er::layer_normalization;
    ["Reshape"]                              => sl::reshape, el::same_order;
    ["Flatten"]                              => sl::flatten, el::same_order;
    ["Squeeze"]                              => sl::squeeze, el::same_order;
    ["Unsqueeze"]                            => sl::unsqueeze, el::same_order;
    ["Transpose"]                            => sl::transpose, el::transpose;
    ["Concat"]                               => sl::concat, el::concat;
    ["Split"]                                => sl::split, el::split;
    ["Slice"]                                => sl::slice, el::slice;
    ["Pad"]                                  => sl::pad, el::pad;
    ["Expand"]                               => sl::expand, el::expand;
    ["Shape"]                                => si::shape, ei::shape;
    ["ConstantOfShape"]                      => si::constant_of_shape, ei::constant_of_shape;
    ["Range"]                                => si::range, ei::range;
    ["Gather"]                               => si::gather, ei::gather;
    ["ScatterElements"]                      => si::scatter_elements, ei::scatter_elements;
    ["ScatterND"]                            => si::scatter_nd, ei::scatter_nd;
    ["OneHot"]                               => si::one_hot, ei::one_hot;
};

/// The row of an operator.
///
/// # Errors
/// [`OperatorError`] if there is none.
pub(crate) fn operator(name: &str) -> Result<&'static Operator, OperatorError> {
    TABLE
        .iter()
        .find(|row| row.names.contains(&name))
        .ok_or_else(|| {
            let reason =
                "this operator is not supported; export the model without it, or cut it off";
            OperatorError::new(name, reason)
        })
}

#[cfg(test)]
mod tests {
    use super::TABLE;

    /// Standard operators with a kernel of the CUDA execution provider of ONNX Runtime for opset 17, in the element
    /// types used here. Each was placed and run on that provider of 1.31.1, as a graph of its own, with the CPU's
    /// result (docs/training.md). It has none for the training form of BatchNormalization, and ConvTranspose needs
    /// the same pads on both sides.
    const CUDA: &[&str] = &[
        "Abs",
        "Add",
        "And",
        "ArgMax",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Ceil",
        "Clip",
        "Concat",
        "ConstantOfShape",
        "Conv",
        "ConvTranspose",
        "Div",
        "Elu",
        "Equal",
        "Erf",
        "Exp",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "Gemm",
        "GlobalAveragePool",
        "Greater",
        "GreaterOrEqual",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LayerNormalization",
        "LeakyRelu",
        "Less",
        "LessOrEqual",
        "Log",
        "LogSoftmax",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "OneHot",
        "Or",
        "Pad",
        "Pow",
        "Range",
        "Reciprocal",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "Round",
        "ScatterElements",
        "ScatterND",
        "Shape",
        "Sigmoid",
        "Sign",
        "Slice",
        "Softmax",
        "Softplus",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Tanh",
        "Transpose",
        "Unsqueeze",
        "Where",
    ];

    #[test]
    fn a_graph_is_made_of_operators_with_cuda_kernels() {
        let missing: Vec<&str> = TABLE
            .iter()
            .flat_map(|row| row.names.iter().copied())
            .filter(|name| !CUDA.contains(name))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
