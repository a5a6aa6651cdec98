//! A dense tensor of float64.

use crate::onnx::{Data, Element, Tensor};

/// A tensor whose elements are held as `f64`, whatever their type.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// The type the elements stand for.
    pub element: Element,
    /// Size of every dimension.
    pub shape: Vec<usize>,
    /// Elements in row-major order.
    pub data: Vec<f64>,
}

impl Array {
    /// A tensor.
    ///
    /// # Panics
    /// If the number of elements is not the product of the shape.
    #[must_use]
    pub fn new(element: Element, shape: &[usize], data: Vec<f64>) -> Array {
        assert_eq!(
            shape.iter().product::<usize>(),
            data.len(),
            "elements of shape {shape:?}"
        );
        Array {
            element,
            shape: shape.to_vec(),
            data,
        }
    }

    /// The element at an index, where axes of size 1 stand for any index and missing leading axes
    /// are ignored: ONNX's broadcasting.
    #[must_use]
    pub fn broadcast_at(&self, index: &[usize]) -> f64 {
        let missing = index.len() - self.shape.len();
        let mut offset = 0;
        for (axis, size) in self.shape.iter().enumerate() {
            offset = offset * size + if *size == 1 { 0 } else { index[missing + axis] };
        }
        self.data[offset]
    }

    /// The element at an index.
    #[must_use]
    pub fn at(&self, index: &[usize]) -> f64 {
        self.data[offset(&self.shape, index)]
    }

    /// The elements as integers.
    #[must_use]
    pub fn integers(&self) -> Vec<i64> {
        self.data.iter().map(|value| *value as i64).collect()
    }

    /// As a constant of its own type; `None` for a type that is never folded.
    #[must_use]
    pub fn to_tensor(&self) -> Option<Tensor> {
        let data = match self.element {
            Element::F32 => Data::F32(self.data.iter().map(|value| *value as f32).collect()),
            Element::F64 => Data::F64(self.data.clone()),
            Element::I64 => Data::I64(self.integers()),
            Element::I32 => Data::I32(self.data.iter().map(|value| *value as i32).collect()),
            Element::U8 => Data::U8(self.data.iter().map(|value| *value as u8).collect()),
            Element::Bool => Data::Bool(self.data.iter().map(|value| *value != 0.0).collect()),
        };
        Tensor::new(self.shape.clone(), data)
    }
}

impl From<&Tensor> for Array {
    fn from(tensor: &Tensor) -> Array {
        let data = match tensor.data() {
            Data::F32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Data::F64(values) => values.clone(),
            Data::I64(values) => values.iter().map(|value| *value as f64).collect(),
            Data::I32(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Data::U8(values) => values.iter().map(|value| f64::from(*value)).collect(),
            Data::Bool(values) => values
                .iter()
                .map(|value| f64::from(u8::from(*value)))
                .collect(),
        };
        Array::new(tensor.element(), tensor.shape(), data)
    }
}

/// Position of an index in row-major order.
pub(super) fn offset(shape: &[usize], index: &[usize]) -> usize {
    shape
        .iter()
        .zip(index)
        .fold(0, |offset, (size, index)| offset * size + index)
}

/// Calls `visit` with every index of a shape, in row-major order.
pub(super) fn for_each_index(shape: &[usize], mut visit: impl FnMut(&[usize])) {
    if shape.contains(&0) {
        return;
    }
    let mut index = vec![0; shape.len()];
    loop {
        visit(&index);
        let mut axis = shape.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}
