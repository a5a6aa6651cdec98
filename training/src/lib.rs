//! Training steps from forward ONNX models.
