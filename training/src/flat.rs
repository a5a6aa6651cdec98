//! Named tensors in one vector: the layout of `theta` and of `state`.

use crate::error::OperatorError;
use crate::graph::{Graph, Value};
use serde::{Deserialize, Serialize};

/// One tensor's place in a vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Index of its first element.
    pub offset: usize,
}

impl Entry {
    /// Number of elements.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Tensors one after another in a vector, without gaps, with their initial values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FlatVector {
    entries: Vec<Entry>,
    initial: Vec<f32>,
}

impl FlatVector {
    /// An empty vector.
    #[must_use]
    pub fn new() -> FlatVector {
        FlatVector::default()
    }

    /// Appends a tensor. Returns its position among the entries.
    pub fn push(&mut self, name: &str, shape: &[usize], initial: &[f32]) -> usize {
        self.entries.push(Entry {
            name: name.to_owned(),
            shape: shape.to_vec(),
            offset: self.initial.len(),
        });
        self.initial.extend_from_slice(initial);
        self.entries.len() - 1
    }

    /// Appends a tensor of zeros.
    pub fn push_zeros(&mut self, name: &str, shape: &[usize]) -> usize {
        self.push(name, shape, &vec![0.0; shape.iter().product()])
    }

    /// The tensors, in order.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Initial values of the whole vector.
    #[must_use]
    pub fn initial(&self) -> &[f32] {
        &self.initial
    }

    /// Adds nodes that cut a vector of this layout into its tensors.
    pub(crate) fn unpack(
        &self,
        graph: &mut Graph,
        vector: Value,
    ) -> Result<Vec<Value>, OperatorError> {
        let sizes: Vec<usize> = self.entries.iter().map(Entry::count).collect();
        let parts = graph.split(vector, 0, &sizes)?;
        parts
            .into_iter()
            .zip(&self.entries)
            .map(|(part, entry)| graph.reshape(part, &entry.shape))
            .collect()
    }
}

/// Adds nodes that put tensors one after another in a vector.
pub(crate) fn pack(graph: &mut Graph, tensors: &[Value]) -> Result<Value, OperatorError> {
    let mut rows = Vec::with_capacity(tensors.len());
    for tensor in tensors {
        let count = graph.kind(*tensor).count();
        rows.push(graph.reshape(*tensor, &[count])?);
    }
    graph.concat(&rows, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluator::{self, Array};
    use crate::onnx::Element;
    use std::collections::BTreeMap;

    #[test]
    fn packing_undoes_unpacking() {
        let mut layout = FlatVector::new();
        layout.push("matrix", &[2, 3], &[0.0; 6]);
        layout.push("vector", &[2], &[0.0; 2]);
        layout.push("scalar", &[], &[0.0]);
        let mut graph = Graph::new();
        let vector = graph.input("theta", Element::F32, &[9]);
        let parts = layout.unpack(&mut graph, vector).unwrap();
        let packed = pack(&mut graph, &parts).unwrap();
        let values: Vec<f64> = (0..9).map(f64::from).collect();
        let input = Array::new(Element::F32, &[9], values.clone());
        let results = evaluator::run(&graph, &BTreeMap::from([(vector, input)])).unwrap();
        assert_eq!(results[&parts[0]].shape, [2, 3]);
        assert_eq!(results[&parts[1]].data, [6.0, 7.0]);
        assert_eq!(results[&packed].data, values);
    }

    #[test]
    fn offsets_follow_each_other_without_gaps() {
        let mut layout = FlatVector::new();
        layout.push_zeros("a", &[2, 2]);
        layout.push("b", &[3], &[1.0, 2.0, 3.0]);
        let offsets: Vec<usize> = layout.entries().iter().map(|entry| entry.offset).collect();
        assert_eq!(offsets, [0, 4]);
        assert_eq!(layout.initial(), [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
    }
}
