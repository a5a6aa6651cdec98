//! Tensors as ONNX stores them: a shape and elements of one type.

/// Type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// 32-bit float: parameters, activations, gradients.
    F32,
    /// 64-bit float.
    F64,
    /// 64-bit integer: labels, indices, shapes.
    I64,
    /// 32-bit integer.
    I32,
    /// Unsigned byte: images.
    U8,
    /// Truth value.
    Bool,
}

impl Element {
    /// Whether gradients can flow through values of this type.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Element::F32 | Element::F64)
    }

    /// The name ONNX gives the type.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "float",
            Element::F64 => "double",
            Element::I64 => "int64",
            Element::I32 => "int32",
            Element::U8 => "uint8",
            Element::Bool => "bool",
        }
    }
}

/// Elements of a tensor, in row-major order.
#[derive(Debug, Clone, PartialEq)]
pub enum Data {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit floats.
    F64(Vec<f64>),
    /// 64-bit integers.
    I64(Vec<i64>),
    /// 32-bit integers.
    I32(Vec<i32>),
    /// Unsigned bytes.
    U8(Vec<u8>),
    /// Truth values.
    Bool(Vec<bool>),
}

/// A constant tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: Data,
}

impl Tensor {
    /// A tensor of a shape; `None` if the number of elements is not the product of the shape.
    #[must_use]
    pub fn new(shape: Vec<usize>, data: Data) -> Option<Tensor> {
        let tensor = Tensor { shape, data };
        let count = match &tensor.data {
            Data::F32(v) => v.len(),
            Data::F64(v) => v.len(),
            Data::I64(v) => v.len(),
            Data::I32(v) => v.len(),
            Data::U8(v) => v.len(),
            Data::Bool(v) => v.len(),
        };
        (count == tensor.len()).then_some(tensor)
    }

    /// A float without dimensions.
    #[must_use]
    pub fn scalar(value: f32) -> Tensor {
        Tensor {
            shape: Vec::new(),
            data: Data::F32(vec![value]),
        }
    }

    /// A vector of 64-bit integers.
    #[must_use]
    pub fn integers(values: &[i64]) -> Tensor {
        Tensor {
            shape: vec![values.len()],
            data: Data::I64(values.to_vec()),
        }
    }

    /// Its shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements.
    #[must_use]
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Type of its elements.
    #[must_use]
    pub fn element(&self) -> Element {
        match self.data {
            Data::F32(_) => Element::F32,
            Data::F64(_) => Element::F64,
            Data::I64(_) => Element::I64,
            Data::I32(_) => Element::I32,
            Data::U8(_) => Element::U8,
            Data::Bool(_) => Element::Bool,
        }
    }

    /// The elements, if they are 32-bit floats.
    #[must_use]
    pub fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::F32(values) => Some(values),
            _ => None,
        }
    }
}
