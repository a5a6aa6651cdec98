//! What a model's graph says about its inputs and outputs, and the errors when that is not what is needed.

use super::params::ParamsError;
use ort::session::Session;
use ort::value::{Outlet, TensorElementType, ValueType};
use std::fmt;
use std::path::{Path, PathBuf};

/// Most dimensions of a tensor; graphs in use have at most five.
const RANK_MAX: usize = 8;

/// Type of a tensor's elements. Others are refused: no model of the contract needs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// 64-bit signed integer.
    I64,
}

impl Element {
    pub(super) const fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::I64 => 8,
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "float32",
            Self::I64 => "int64",
        })
    }
}

/// Sizes of a tensor's dimensions; a scalar has none.
pub type Dims = heapless::Vec<i64, RANK_MAX>;

/// Name, type and static shape of a model's input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name in the graph.
    pub name: String,
    /// Type of its elements.
    pub element: Element,
    /// Its dimensions, none negative.
    pub dims: Dims,
}

impl TensorSpec {
    /// Number of elements; `None` when it does not fit the address space.
    #[must_use]
    pub fn count(&self) -> Option<usize> {
        self.dims.iter().try_fold(1_usize, |count, &size| {
            count.checked_mul(usize::try_from(size).ok()?)
        })
    }

    /// The shape as in error messages: `[16,1,8,8]`.
    pub(super) fn shape(&self) -> String {
        shape_text(&self.dims)
    }

    /// Fails unless the tensor is a float scalar, `[]` or `[1]`.
    pub(super) fn expect_scalar(self) -> Result<Self, ModelProblem> {
        let spec = self.expect_element(Element::F32, "float32")?;
        if spec.count() != Some(1) {
            return Err(ModelProblem::Shape {
                found: spec.shape(),
                name: spec.name,
                expected: "a scalar, []".to_owned(),
            });
        }
        Ok(spec)
    }

    /// Fails unless the elements are of this type.
    pub(super) fn expect_element(
        self,
        element: Element,
        expected: &'static str,
    ) -> Result<Self, ModelProblem> {
        if self.element == element {
            Ok(self)
        } else {
            Err(ModelProblem::Type {
                name: self.name,
                expected,
                found: self.element.to_string(),
            })
        }
    }
}

fn shape_text(dims: &[i64]) -> String {
    let sizes: Vec<String> = dims.iter().map(ToString::to_string).collect();
    format!("[{}]", sizes.join(","))
}

/// The specification of an input or output of this name, if the session has it.
pub(super) fn find(outlets: &[Outlet], name: &str) -> Result<Option<TensorSpec>, ModelProblem> {
    outlets
        .iter()
        .find(|outlet| outlet.name() == name)
        .map(spec_of)
        .transpose()
}

/// The specification of a session's input or output.
///
/// # Errors
/// When it is not a tensor, its element type is not in [`Element`], or a dimension is not static.
pub(super) fn spec_of(outlet: &Outlet) -> Result<TensorSpec, ModelProblem> {
    let name = outlet.name().to_owned();
    let ValueType::Tensor {
        ty,
        shape,
        dimension_symbols,
    } = outlet.dtype()
    else {
        return Err(ModelProblem::Type {
            name,
            expected: "a tensor of float32 or int64",
            found: outlet.dtype().to_string(),
        });
    };
    let element = match ty {
        TensorElementType::Float32 => Element::F32,
        TensorElementType::Int64 => Element::I64,
        other => {
            return Err(ModelProblem::Type {
                name,
                expected: "float32 or int64",
                found: other.to_string(),
            });
        }
    };
    let mut dims = Dims::new();
    for (axis, &size) in shape.iter().enumerate() {
        if size < 0 {
            let symbol = dimension_symbols.get(axis).cloned().unwrap_or_default();
            return Err(ModelProblem::Dynamic { name, axis, symbol });
        }
        if dims.push(size).is_err() {
            return Err(ModelProblem::Shape {
                name,
                expected: format!("at most {RANK_MAX} dimensions"),
                found: shape_text(shape),
            });
        }
    }
    Ok(TensorSpec {
        name,
        element,
        dims,
    })
}

/// The symbol of the first dimension of the session's input `name`, when it is not static.
pub(super) fn symbol_of_batch<'a>(session: &'a Session, name: &str) -> Option<&'a str> {
    let outlet = session.inputs().iter().find(|input| input.name() == name)?;
    let ValueType::Tensor {
        shape,
        dimension_symbols,
        ..
    } = outlet.dtype()
    else {
        return None;
    };
    let dynamic = shape.first().is_some_and(|&size| size < 0);
    let symbol = dimension_symbols.first()?;
    (dynamic && !symbol.is_empty()).then_some(symbol.as_str())
}

/// A model that cannot be used: which, and why.
#[derive(Debug)]
pub struct ModelError {
    /// The model's file.
    pub model: PathBuf,
    /// What is wrong with it.
    pub problem: ModelProblem,
}

impl ModelError {
    pub(super) fn of(model: &Path) -> impl Fn(ModelProblem) -> Self {
        let model = model.to_owned();
        move |problem| Self {
            model: model.clone(),
            problem,
        }
    }
}

/// What is wrong with a model.
#[derive(Debug)]
#[non_exhaustive]
pub enum ModelProblem {
    /// ONNX Runtime cannot load it.
    Load {
        /// ONNX Runtime's reason.
        message: String,
    },
    /// It lacks an input of the contract.
    MissingInput {
        /// The input's name.
        name: &'static str,
        /// What it has to be.
        expected: &'static str,
    },
    /// It lacks an output of the contract.
    MissingOutput {
        /// The output's name.
        name: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// An input that nothing would fill.
    UnknownInput {
        /// The input's name.
        name: String,
        /// What the inputs may be.
        expected: String,
    },
    /// An output `N.new` without an input `N`.
    UnpairedOutput {
        /// The output's name.
        name: String,
    },
    /// A tensor of another type.
    Type {
        /// The input's or output's name.
        name: String,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A dimension without a fixed size.
    Dynamic {
        /// The input's or output's name.
        name: String,
        /// Which dimension, counted from 0.
        axis: usize,
        /// Its symbol in the graph, empty when it has none.
        symbol: String,
    },
    /// A tensor of another shape.
    Shape {
        /// The input's or output's name.
        name: String,
        /// What it has to be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// More tensors carried from step to step than there is room for.
    TooManyPairs {
        /// The limit.
        limit: usize,
    },
    /// The file of initial parameters is missing or wrong.
    Params(ParamsError),
    /// Not enough memory for the tensors.
    Memory,
    /// The first run failed.
    WarmUp {
        /// ONNX Runtime's reason.
        message: String,
    },
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model {}: {}", self.model.display(), self.problem)
    }
}

impl std::error::Error for ModelError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            ModelProblem::Params(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}

impl fmt::Display for ModelProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load { message } => write!(f, "ONNX Runtime cannot load it: {message}"),
            Self::MissingInput { name, expected } => {
                write!(f, "input `{name}` is missing; it has to be {expected}")
            }
            Self::MissingOutput { name, expected } => {
                write!(f, "output `{name}` is missing; it has to be {expected}")
            }
            Self::UnknownInput { name, expected } => {
                write!(
                    f,
                    "input `{name}` is not one this runtime fills; expected {expected}"
                )
            }
            Self::UnpairedOutput { name } => {
                let input = name.strip_suffix(super::NEW).unwrap_or(name);
                write!(
                    f,
                    "output `{name}` has no input `{input}` to go to in the next step"
                )
            }
            Self::Type {
                name,
                expected,
                found,
            } => write!(f, "`{name}` holds {found}, expected {expected}"),
            Self::Dynamic { name, axis, symbol } => {
                write!(f, "dimension {axis} of `{name}` has no fixed size")?;
                if !symbol.is_empty() {
                    write!(f, " (symbol `{symbol}`)")?;
                }
                f.write_str(
                    "; only the batch, the first dimension of `x`, is set at start: export the model \
                     with every other dimension fixed, and the batch either fixed or named",
                )
            }
            Self::Shape {
                name,
                expected,
                found,
            } => write!(f, "`{name}` has shape {found}, expected {expected}"),
            Self::TooManyPairs { limit } => write!(
                f,
                "more than {limit} tensors are carried from step to step; join them into one vector"
            ),
            Self::Params(error) => error.fmt(f),
            Self::Memory => f.write_str("not enough memory for its tensors"),
            Self::WarmUp { message } => write!(f, "its first run failed: {message}"),
        }
    }
}
