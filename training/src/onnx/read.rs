//! Reads a model from an ONNX file, initializers in external files included.

use super::attributes::{Attribute, Attributes};
use super::model::{Dimension, Model, Node, ValueInfo};
use super::proto::{
    AttributeProto, DimensionValue, ModelProto, NodeProto, TensorProto, ValueInfoProto,
    attribute_type, data_type,
};
use super::scikit;
use super::tensor::{Data, Element, Tensor};
use prost::Message;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

/// Operator sets that can be read: 13 is where axes became inputs, 22 the last this was checked with.
pub const OPSETS: std::ops::RangeInclusive<i64> = 13..=22;

/// Why a file is not a model that can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file, or a file with its initializers, cannot be read.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Not a protobuf message of ONNX.
    #[error("not an ONNX model; is it a file that `torch.onnx.export` or `onnx.save` wrote?")]
    Protobuf(#[from] prost::DecodeError),
    /// The model has no graph.
    #[error("the model has no graph")]
    NoGraph,
    /// An operator set outside of the range.
    #[error("the model uses opset {found}; {}-{} can be read: export it with opset_version=17",
        OPSETS.start(), OPSETS.end())]
    Opset {
        /// The model's.
        found: i64,
    },
    /// A feature of ONNX that is not supported.
    #[error("{what}; {instead}")]
    Unsupported {
        /// What was found and where.
        what: String,
        /// What can be done.
        instead: String,
    },
    /// A tensor whose elements do not fit its shape, or are nowhere.
    #[error("initializer '{name}': {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// A value that no node, input or initializer gives, or that two give.
    #[error("node '{node}': {reason}")]
    Node {
        /// Name of the node.
        node: String,
        /// What is wrong.
        reason: String,
    },
}

impl Model {
    /// Reads a model from a file. External data is looked up beside it, never outside its folder.
    ///
    /// # Errors
    /// [`ReadError::Io`] if a file cannot be read, and everything [`Model::decode`] refuses.
    pub fn read(path: &Path) -> Result<Model, ReadError> {
        let bytes = std::fs::read(path).map_err(|source| ReadError::Io {
            path: path.to_owned(),
            source,
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        Model::decode(&bytes, Some(folder))
    }

    /// Reads a model from bytes; `folder` holds its external data, if it has any.
    ///
    /// # Errors
    /// [`ReadError`]: not a model, an opset outside of [`OPSETS`], local functions, sparse tensors,
    /// an element type that is not supported, a tensor that does not fit its shape, or a graph whose
    /// values are not each given exactly once before they are used.
    pub fn decode(bytes: &[u8], folder: Option<&Path>) -> Result<Model, ReadError> {
        let proto = ModelProto::decode(bytes)?;
        let opset = proto
            .opset_import
            .iter()
            .find(|set| matches!(set.domain.as_deref(), None | Some("" | "ai.onnx")))
            .and_then(|set| set.version)
            .unwrap_or(1);
        let graph = proto.graph.ok_or(ReadError::NoGraph)?;
        if !OPSETS.contains(&opset) {
            return Err(ReadError::Opset { found: opset });
        }
        if !graph.sparse_initializer.is_empty() {
            return Err(ReadError::Unsupported {
                what: "the model has sparse initializers".to_owned(),
                instead: "export them as dense tensors".to_owned(),
            });
        }

        // Text is nothing to train on, but scikit-learn's classifiers carry their class names.
        let (texts, tensors): (Vec<&TensorProto>, Vec<&TensorProto>) = graph
            .initializer
            .iter()
            .partition(|tensor| tensor.data_type == Some(data_type::STRING));
        let mut initializers = tensors
            .into_iter()
            .map(|tensor| {
                let name = tensor.name.clone().unwrap_or_default();
                Ok((name, decode_tensor(tensor, folder)?))
            })
            .collect::<Result<Vec<_>, ReadError>>()?;
        // Up to IR version 3 initializers are listed among the inputs as well.
        let names: BTreeSet<&str> = initializers.iter().map(|(name, _)| name.as_str()).collect();
        let inputs = graph
            .input
            .iter()
            .filter(|input| !names.contains(input.name.as_deref().unwrap_or_default()))
            .map(decode_value)
            .collect::<Result<Vec<_>, ReadError>>()?;
        // scikit-learn's classifiers have outputs that are no tensors of numbers: class names, maps. Nothing is
        // trained by them.
        let outputs = graph
            .output
            .iter()
            .filter_map(|output| decode_value(output).ok())
            .collect();
        let nodes = graph
            .node
            .iter()
            .enumerate()
            .map(|(index, node)| decode_node(index, node, folder, !proto.functions.is_empty()))
            .collect::<Result<Vec<_>, ReadError>>()?;
        let (nodes, weights) = scikit::standard(nodes);
        initializers.extend(weights);
        let model = Model {
            name: graph.name.unwrap_or_default(),
            opset,
            inputs,
            outputs,
            initializers,
            nodes,
        };
        let texts = texts.iter().filter_map(|tensor| tensor.name.as_deref());
        check_order(&model, texts)?;
        Ok(model)
    }
}

/// Every value is given once, and before it is used; `texts` are initializers that were left out.
fn check_order<'a>(
    model: &'a Model,
    texts: impl Iterator<Item = &'a str>,
) -> Result<(), ReadError> {
    let mut given: BTreeSet<&str> = texts.collect();
    given.extend(model.inputs.iter().map(|input| input.name.as_str()));
    given.extend(model.initializers.iter().map(|(name, _)| name.as_str()));
    let error = |node: &str, reason: String| ReadError::Node {
        node: node.to_owned(),
        reason,
    };
    for node in &model.nodes {
        for input in node.inputs.iter().filter(|name| !name.is_empty()) {
            if !given.contains(input.as_str()) {
                let reason = format!("input '{input}' is given by no node before it");
                return Err(error(&node.name, reason));
            }
        }
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            if !given.insert(output) {
                let reason = format!("output '{output}' is given twice");
                return Err(error(&node.name, reason));
            }
        }
    }
    for output in &model.outputs {
        if !given.contains(output.name.as_str()) {
            return Err(error(
                "the graph's outputs",
                format!("'{}' is given by no node", output.name),
            ));
        }
    }
    Ok(())
}

fn decode_node(
    index: usize,
    node: &NodeProto,
    folder: Option<&Path>,
    has_functions: bool,
) -> Result<Node, ReadError> {
    let operator = node.op_type.clone().unwrap_or_default();
    let name = match node.name.as_deref() {
        None | Some("") => format!("{operator}_{index}"),
        Some(name) => name.to_owned(),
    };
    let domain = match node.domain.as_deref() {
        None | Some("ai.onnx") => String::new(),
        Some(domain) => domain.to_owned(),
    };
    if !domain.is_empty() && has_functions {
        return Err(ReadError::Unsupported {
            what: format!("node '{name}' calls the local function {domain}.{operator}"),
            instead: "inline the functions first (onnx.inliner.inline_local_functions)".to_owned(),
        });
    }
    let mut attributes = Attributes::new();
    for attribute in &node.attribute {
        let key = attribute.name.clone().unwrap_or_default();
        attributes = attributes.with(&key, decode_attribute(attribute, folder)?);
    }
    Ok(Node {
        name,
        operator,
        domain,
        inputs: node.input.clone(),
        outputs: node.output.clone(),
        attributes,
    })
}

fn decode_attribute(
    attribute: &AttributeProto,
    folder: Option<&Path>,
) -> Result<Attribute, ReadError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(match attribute.r#type.unwrap_or(0) {
        attribute_type::FLOAT => Attribute::Float(attribute.f.unwrap_or(0.0)),
        attribute_type::INT => Attribute::Int(attribute.i.unwrap_or(0)),
        attribute_type::STRING => Attribute::String(text(attribute.s.as_deref().unwrap_or(&[]))),
        attribute_type::TENSOR => match &attribute.t {
            Some(tensor) => Attribute::Tensor(decode_tensor(tensor, folder)?),
            None => Attribute::Unsupported,
        },
        attribute_type::FLOATS => Attribute::Floats(attribute.floats.clone()),
        attribute_type::INTS => Attribute::Ints(attribute.ints.clone()),
        attribute_type::STRINGS => {
            Attribute::Strings(attribute.strings.iter().map(|bytes| text(bytes)).collect())
        }
        _ => Attribute::Unsupported,
    })
}

fn decode_value(value: &ValueInfoProto) -> Result<ValueInfo, ReadError> {
    let name = value.name.clone().unwrap_or_default();
    let tensor = value
        .r#type
        .as_ref()
        .and_then(|kind| kind.tensor_type.as_ref());
    let Some(tensor) = tensor else {
        return Err(ReadError::Unsupported {
            what: format!("'{name}' is not a tensor"),
            instead: "sequences, maps and optionals cannot be an input".to_owned(),
        });
    };
    let element = decode_element(tensor.elem_type.unwrap_or(0))
        .ok_or_else(|| unsupported_type(&name, tensor.elem_type.unwrap_or(0)))?;
    let shape = tensor.shape.as_ref().map(|shape| {
        shape
            .dim
            .iter()
            .map(|dimension| match &dimension.value {
                Some(DimensionValue::Fixed(size)) => match usize::try_from(*size) {
                    Ok(size) if size > 0 => Dimension::Fixed(size),
                    _ => Dimension::Symbol(String::new()),
                },
                Some(DimensionValue::Symbol(symbol)) => Dimension::Symbol(symbol.clone()),
                None => Dimension::Symbol(String::new()),
            })
            .collect()
    });
    Ok(ValueInfo {
        name,
        element,
        shape,
    })
}

pub(crate) fn decode_element(code: i32) -> Option<Element> {
    Some(match code {
        data_type::FLOAT => Element::F32,
        data_type::DOUBLE => Element::F64,
        data_type::INT64 => Element::I64,
        data_type::INT32 => Element::I32,
        data_type::UINT8 => Element::U8,
        data_type::BOOL => Element::Bool,
        _ => return None,
    })
}

fn unsupported_type(name: &str, code: i32) -> ReadError {
    ReadError::Unsupported {
        what: format!("'{name}' has element type {code} of ONNX's TensorProto.DataType"),
        instead: "export the model with 32-bit floats and int64 or int32 indices".to_owned(),
    }
}

fn decode_tensor(tensor: &TensorProto, folder: Option<&Path>) -> Result<Tensor, ReadError> {
    let name = tensor.name.clone().unwrap_or_default();
    let fail = |reason: String| ReadError::Tensor {
        name: name.clone(),
        reason,
    };
    let code = tensor.data_type.unwrap_or(0);
    let element = decode_element(code).ok_or_else(|| unsupported_type(&name, code))?;
    let shape = tensor
        .dims
        .iter()
        .map(|size| usize::try_from(*size))
        .collect::<Result<Vec<usize>, _>>()
        .map_err(|_| fail(format!("a negative dimension in {:?}", tensor.dims)))?;
    let external;
    let raw = if tensor.data_location == Some(1) {
        external = read_external(tensor, folder, &fail)?;
        Some(external.as_slice())
    } else {
        tensor.raw_data.as_deref()
    };
    let data = match raw {
        Some(bytes) => from_bytes(element, bytes),
        None => from_fields(element, tensor),
    };
    Tensor::new(shape.clone(), data)
        .ok_or_else(|| fail(format!("its elements do not fill its shape {shape:?}")))
}

fn from_bytes(element: Element, bytes: &[u8]) -> Data {
    match element {
        Element::F32 => Data::F32(chunks(bytes, f32::from_le_bytes)),
        Element::F64 => Data::F64(chunks(bytes, f64::from_le_bytes)),
        Element::I64 => Data::I64(chunks(bytes, i64::from_le_bytes)),
        Element::I32 => Data::I32(chunks(bytes, i32::from_le_bytes)),
        Element::U8 => Data::U8(bytes.to_vec()),
        Element::Bool => Data::Bool(bytes.iter().map(|byte| *byte != 0).collect()),
    }
}

/// Whole little-endian numbers of a byte string; a rest that is no whole number is left out, and the
/// tensor is then refused because its elements do not fill its shape.
fn chunks<const N: usize, T>(bytes: &[u8], convert: fn([u8; N]) -> T) -> Vec<T> {
    let (whole, _) = bytes.as_chunks::<N>();
    whole.iter().map(|chunk| convert(*chunk)).collect()
}

fn from_fields(element: Element, tensor: &TensorProto) -> Data {
    match element {
        Element::F32 => Data::F32(tensor.float_data.clone()),
        Element::F64 => Data::F64(tensor.double_data.clone()),
        Element::I64 => Data::I64(tensor.int64_data.clone()),
        Element::I32 => Data::I32(tensor.int32_data.clone()),
        Element::U8 => Data::U8(
            tensor
                .int32_data
                .iter()
                .filter_map(|value| u8::try_from(*value).ok())
                .collect(),
        ),
        Element::Bool => Data::Bool(tensor.int32_data.iter().map(|value| *value != 0).collect()),
    }
}

/// The bytes of a tensor in another file: `location`, and optionally `offset` and `length`.
fn read_external(
    tensor: &TensorProto,
    folder: Option<&Path>,
    fail: &dyn Fn(String) -> ReadError,
) -> Result<Vec<u8>, ReadError> {
    let entry = |key: &str| {
        tensor
            .external_data
            .iter()
            .find(|entry| entry.key.as_deref() == Some(key))
            .and_then(|entry| entry.value.as_deref())
    };
    let folder = folder.ok_or_else(|| fail("its elements are in another file".to_owned()))?;
    let location = entry("location").ok_or_else(|| fail("no location of its file".to_owned()))?;
    let relative = Path::new(location);
    if !relative
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
    {
        return Err(fail(format!(
            "its file '{location}' is outside of the model's folder"
        )));
    }
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| fail(format!("{key} '{text}' of its file is not a number"))),
    };
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);

    let path = folder.join(relative);
    let io = |source| ReadError::Io {
        path: path.clone(),
        source,
    };
    let mut file = File::open(&path).map_err(io)?;
    file.seek(SeekFrom::Start(offset)).map_err(io)?;
    let mut bytes = Vec::new();
    file.take(length.unwrap_or(u64::MAX))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    Ok(bytes)
}
