//! ONNX files: messages, a checked model in memory, reader and writer.

pub mod attributes;
pub mod model;
pub mod proto;
pub mod read;
mod scikit;
pub mod tensor;
pub mod write;

pub use attributes::{Attribute, Attributes};
pub use model::{Dimension, Model, Node, ValueInfo};
pub use read::ReadError;
pub use tensor::{Data, Element, Tensor};
