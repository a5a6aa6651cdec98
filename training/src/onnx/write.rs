//! Writes a model as the bytes of an ONNX file: opset as given, IR version 8, every tensor inside.

use super::attributes::Attribute;
use super::model::{Dimension, Model, Node, ValueInfo};
use super::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, ValueInfoProto, attribute_type, data_type,
};
use super::tensor::{Data, Element, Tensor};
use prost::Message;

/// IR version of written files: what ONNX Runtime 1.12 and later read.
pub const IR_VERSION: i64 = 8;

impl Model {
    /// The bytes of the model's file; the same model gives the same bytes.
    /// `metadata` are the key-value pairs of the file, in order.
    #[must_use]
    pub fn encode(&self, metadata: &[(&str, String)]) -> Vec<u8> {
        ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some("fulcrum".to_owned()),
            producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            graph: Some(GraphProto {
                node: self.nodes.iter().map(encode_node).collect(),
                name: Some(self.name.clone()),
                initializer: self
                    .initializers
                    .iter()
                    .map(|(name, tensor)| encode_tensor(name, tensor))
                    .collect(),
                input: self.inputs.iter().map(encode_value).collect(),
                output: self.outputs.iter().map(encode_value).collect(),
                value_info: Vec::new(),
                sparse_initializer: Vec::new(),
            }),
            opset_import: vec![OperatorSetIdProto {
                domain: Some(String::new()),
                version: Some(self.opset),
            }],
            metadata_props: metadata
                .iter()
                .map(|(key, value)| StringStringEntryProto {
                    key: Some((*key).to_owned()),
                    value: Some(value.clone()),
                })
                .collect(),
            functions: Vec::new(),
        }
        .encode_to_vec()
    }
}

fn encode_node(node: &Node) -> NodeProto {
    NodeProto {
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        name: Some(node.name.clone()),
        op_type: Some(node.operator.clone()),
        attribute: node
            .attributes
            .iter()
            .map(|(name, value)| encode_attribute(name, value))
            .collect(),
        domain: Some(node.domain.clone()),
    }
}

fn encode_attribute(name: &str, value: &Attribute) -> AttributeProto {
    let mut proto = AttributeProto {
        name: Some(name.to_owned()),
        ..AttributeProto::default()
    };
    let kind = match value {
        Attribute::Float(value) => {
            proto.f = Some(*value);
            attribute_type::FLOAT
        }
        Attribute::Int(value) => {
            proto.i = Some(*value);
            attribute_type::INT
        }
        Attribute::String(value) => {
            proto.s = Some(value.clone().into_bytes());
            attribute_type::STRING
        }
        Attribute::Tensor(value) => {
            proto.t = Some(encode_tensor("", value));
            attribute_type::TENSOR
        }
        Attribute::Floats(values) => {
            proto.floats.clone_from(values);
            attribute_type::FLOATS
        }
        Attribute::Ints(values) => {
            proto.ints.clone_from(values);
            attribute_type::INTS
        }
        Attribute::Strings(values) => {
            proto.strings = values
                .iter()
                .map(|text| text.clone().into_bytes())
                .collect();
            attribute_type::STRINGS
        }
        Attribute::Unsupported => 0,
    };
    proto.r#type = Some(kind);
    proto
}

fn encode_value(value: &ValueInfo) -> ValueInfoProto {
    let shape = value.shape.as_ref().map(|shape| TensorShapeProto {
        dim: shape
            .iter()
            .map(|dimension| DimensionProto {
                value: Some(match dimension {
                    Dimension::Fixed(size) => DimensionValue::Fixed(*size as i64),
                    Dimension::Symbol(symbol) => DimensionValue::Symbol(symbol.clone()),
                }),
            })
            .collect(),
    });
    ValueInfoProto {
        name: Some(value.name.clone()),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: Some(encode_element(value.element)),
                shape,
            }),
        }),
    }
}

pub(crate) fn encode_element(element: Element) -> i32 {
    match element {
        Element::F32 => data_type::FLOAT,
        Element::F64 => data_type::DOUBLE,
        Element::I64 => data_type::INT64,
        Element::I32 => data_type::INT32,
        Element::U8 => data_type::UINT8,
        Element::Bool => data_type::BOOL,
    }
}

fn encode_tensor(name: &str, tensor: &Tensor) -> TensorProto {
    let bytes = match tensor.data() {
        Data::F32(values) => values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        Data::F64(values) => values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        Data::I64(values) => values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        Data::I32(values) => values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
        Data::U8(values) => values.clone(),
        Data::Bool(values) => values.iter().map(|value| u8::from(*value)).collect(),
    };
    TensorProto {
        dims: tensor.shape().iter().map(|size| *size as i64).collect(),
        data_type: Some(encode_element(tensor.element())),
        name: Some(name.to_owned()),
        raw_data: Some(bytes),
        ..TensorProto::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::Attributes;

    fn model() -> Model {
        let value = |name: &str, shape: Vec<Dimension>| ValueInfo {
            name: name.to_owned(),
            element: Element::F32,
            shape: Some(shape),
        };
        Model {
            name: "scaled".to_owned(),
            opset: 17,
            inputs: vec![value(
                "x",
                vec![Dimension::Symbol("batch".to_owned()), Dimension::Fixed(2)],
            )],
            outputs: vec![value("y", vec![])],
            initializers: vec![
                (
                    "w".to_owned(),
                    Tensor::new(vec![2], Data::F32(vec![1.5, -2.0])).unwrap(),
                ),
                ("empty".to_owned(), Tensor::integers(&[])),
                (
                    "mask".to_owned(),
                    Tensor::new(vec![1, 2], Data::Bool(vec![true, false])).unwrap(),
                ),
            ],
            nodes: vec![Node {
                name: "product".to_owned(),
                operator: "Gemm".to_owned(),
                domain: String::new(),
                inputs: vec!["x".to_owned(), "w".to_owned(), String::new()],
                outputs: vec!["y".to_owned()],
                attributes: Attributes::new()
                    .float("alpha", 0.0)
                    .int("transA", 0)
                    .ints("none", &[])
                    .string("mode", "nearest")
                    .with("value", Attribute::Tensor(Tensor::scalar(3.0))),
            }],
        }
    }

    #[test]
    fn a_written_model_reads_back_equal() {
        let bytes = model().encode(&[("loss", "mse".to_owned())]);
        assert_eq!(Model::decode(&bytes, None).unwrap(), model());
    }

    #[test]
    fn the_same_model_gives_the_same_bytes() {
        assert_eq!(model().encode(&[]), model().encode(&[]));
    }

    #[test]
    fn an_opset_outside_of_the_range_is_refused_with_the_range() {
        for opset in [12, 23] {
            let bytes = Model { opset, ..model() }.encode(&[]);
            let error = Model::decode(&bytes, None).unwrap_err().to_string();
            assert!(error.contains("13-22"), "{error}");
        }
    }

    #[test]
    fn a_value_that_nothing_gives_is_refused_with_the_node() {
        let mut broken = model();
        broken.nodes[0].inputs[0] = "nowhere".to_owned();
        let error = Model::decode(&broken.encode(&[]), None)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("'product'") && error.contains("'nowhere'"),
            "{error}"
        );
    }

    #[test]
    fn a_tensor_that_does_not_fill_its_shape_is_refused_with_its_name() {
        let mut proto = ModelProto::decode(model().encode(&[]).as_slice()).unwrap();
        proto.graph.as_mut().unwrap().initializer[0].raw_data = Some(vec![0; 7]);
        let error = Model::decode(&proto.encode_to_vec(), None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("'w'") && error.contains("[2]"), "{error}");
    }

    #[test]
    fn bytes_that_are_no_model_are_refused() {
        assert!(matches!(
            Model::decode(b"not a model", None),
            Err(crate::onnx::ReadError::Protobuf(_))
        ));
        assert!(matches!(
            Model::decode(&[], None),
            Err(crate::onnx::ReadError::NoGraph)
        ));
    }
}
