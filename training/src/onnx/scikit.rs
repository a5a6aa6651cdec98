//! Operators of the domain `ai.onnx.ml` that scikit-learn's exports have on the way to a number, as standard ones.
//!
//! They hold their numbers in attributes. Weights of linear models become initializers, which are trained; those of a
//! scaler become constants, which are not. What has no standard form stays as it is: it is refused only if a step needs it.

use super::attributes::{Attribute, Attributes};
use super::model::Node;
use super::tensor::{Data, Element, Tensor};
use super::write::encode_element;

/// Domain of these operators.
const DOMAIN: &str = "ai.onnx.ml";

/// A model's nodes with these operators replaced, and the initializers that came of it.
pub(super) fn standard(nodes: Vec<Node>) -> (Vec<Node>, Vec<(String, Tensor)>) {
    let mut standard = Standard::default();
    for node in nodes {
        if node.domain != DOMAIN || standard.replace(&node).is_none() {
            standard.nodes.push(node);
        }
    }
    (standard.nodes, standard.initializers)
}

#[derive(Default)]
struct Standard {
    nodes: Vec<Node>,
    initializers: Vec<(String, Tensor)>,
}

impl Standard {
    /// `None` if the node has no standard form.
    fn replace(&mut self, node: &Node) -> Option<()> {
        match node.operator.as_str() {
            "Scaler" => self.scaler(node),
            "LinearRegressor" if node.attributes.string_or("post_transform", "NONE") == "NONE" => {
                let targets = usize::try_from(node.attributes.int_or("targets", 1)).ok()?;
                self.linear(node, node.outputs.first()?, targets, None)
            }
            "LinearClassifier" => {
                let activation = match node.attributes.string_or("post_transform", "NONE") {
                    "NONE" => None,
                    "SOFTMAX" => Some("Softmax"),
                    "LOGISTIC" => Some("Sigmoid"),
                    _ => return None,
                };
                let (label, scores) = (node.outputs.first()?, node.outputs.get(1)?);
                let classes = floats(node, "intercepts")?.len();
                self.linear(node, scores, classes, activation)?;
                // Class names come of it as before.
                let mut names = node.clone();
                names.outputs = vec![label.clone()];
                self.nodes.push(names);
                Some(())
            }
            "Normalizer" => self.normalizer(node),
            _ => None,
        }
    }

    /// `(x − offset)·scale`
    fn scaler(&mut self, node: &Node) -> Option<()> {
        let output = node.outputs.first()?;
        let (offset, scale) = (floats(node, "offset")?, floats(node, "scale")?);
        let constant = |name: &str| format!("{output}.{name}");
        let x = self.cast(node, output)?;
        for (name, values) in [("offset", offset), ("scale", scale)] {
            let tensor = Tensor::new(vec![values.len()], Data::F32(values.to_vec()))?;
            let value = Attributes::new().with("value", Attribute::Tensor(tensor));
            self.push(node, "Constant", vec![], &constant(name), value);
        }
        let centered = format!("{output}.centered");
        let none = Attributes::new;
        self.push(node, "Sub", vec![x, constant("offset")], &centered, none());
        self.push(
            node,
            "Mul",
            vec![centered, constant("scale")],
            output,
            none(),
        );
        Some(())
    }

    /// `activation(x·Wᵀ + b)`, a row of W for each output.
    fn linear(
        &mut self,
        node: &Node,
        output: &str,
        rows: usize,
        activation: Option<&str>,
    ) -> Option<()> {
        let weights = floats(node, "coefficients")?;
        let columns = weights.len().checked_div(rows)?;
        let weights = Tensor::new(vec![rows, columns], Data::F32(weights.to_vec()))?;
        let offsets = match floats(node, "intercepts") {
            Some(offsets) => offsets.to_vec(),
            None => vec![0.0; rows],
        };
        let offsets = Tensor::new(vec![rows], Data::F32(offsets))?;
        let names = ["coefficients", "intercepts"].map(|name| format!("{output}.{name}"));
        let x = self.cast(node, output)?;
        let inputs = [vec![x], names.to_vec()].concat();
        self.initializers
            .extend(names.into_iter().zip([weights, offsets]));
        let form = Attributes::new().int("transB", 1);
        match activation {
            None => self.push(node, "Gemm", inputs, output, form),
            Some(activation) => {
                let sums = format!("{output}.sums");
                self.push(node, "Gemm", inputs, &sums, form);
                self.push(node, activation, vec![sums], output, Attributes::new());
            }
        }
        Some(())
    }

    /// Probabilities of a softmax have the sum 1 already.
    fn normalizer(&mut self, node: &Node) -> Option<()> {
        let (input, output) = (node.inputs.first()?, node.outputs.first()?);
        let softmax = self
            .nodes
            .iter()
            .any(|before| before.operator == "Softmax" && before.outputs.contains(input));
        if !softmax || node.attributes.string_or("norm", "MAX") != "L1" {
            return None;
        }
        self.push(
            node,
            "Identity",
            vec![input.clone()],
            output,
            Attributes::new(),
        );
        Some(())
    }

    /// The node's input as 32-bit floats.
    fn cast(&mut self, node: &Node, output: &str) -> Option<String> {
        let name = format!("{output}.float");
        let to = Attributes::new().int("to", i64::from(encode_element(Element::F32)));
        self.push(node, "Cast", vec![node.inputs.first()?.clone()], &name, to);
        Some(name)
    }

    fn push(
        &mut self,
        of: &Node,
        operator: &str,
        inputs: Vec<String>,
        output: &str,
        attributes: Attributes,
    ) {
        self.nodes.push(Node {
            name: format!("{} ({operator})", of.name),
            operator: operator.to_owned(),
            domain: String::new(),
            inputs,
            outputs: vec![output.to_owned()],
            attributes,
        });
    }
}

fn floats<'n>(node: &'n Node, name: &str) -> Option<&'n [f32]> {
    match node.attributes.get(name) {
        Some(Attribute::Floats(values)) => Some(values),
        _ => None,
    }
}
