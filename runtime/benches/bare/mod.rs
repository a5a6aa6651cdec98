//! Bare calls into ONNX Runtime, that the engine and the loop are compared with.
#![expect(unsafe_code, reason = "what is compared with is the call itself")]
#![allow(dead_code, reason = "each bench uses its own part")]

use fulcrum_runtime::engine::{Engine, Parameters};
use ort::AsPointer;
use ort::memory::Allocator;
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::{Tensor, TensorElementType, ValueType};
use std::path::{Path, PathBuf};

/// Samples of every minibatch.
pub(crate) const BATCH: u32 = 16;

/// A file of the shipped digits model.
pub(crate) fn model(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tools/models/digits")
        .join(file)
}

/// A session with tensors of ONNX Runtime's own bound to it, and nothing around the call.
pub(crate) struct Bare {
    session: Session,
    binding: IoBinding,
    options: RunOptions,
    /// The input `x`.
    samples: Option<Tensor<f32>>,
}

impl Bare {
    pub(crate) fn load(
        engine: &Engine,
        file: &str,
        parameters: &Parameters,
    ) -> Result<Self, ort::Error> {
        let session = Session::builder(engine.environment())?
            .with_intra_threads(1)?
            .with_dimension_override("batch", i64::from(BATCH))?
            .commit_from_file(model(file))?;
        let mut binding = session.create_binding()?;
        let allocator = Allocator::default();
        let mut samples = None;
        for input in session.inputs() {
            let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
                continue;
            };
            let shape = shape.iter().copied().collect::<Vec<i64>>();
            if *ty == TensorElementType::Int64 {
                let mut tensor = Tensor::<i64>::new(&allocator, shape)?;
                tensor.extract_tensor_mut().1.fill(0);
                binding.bind_input(input.name(), &tensor)?;
            } else {
                let mut tensor = Tensor::<f32>::new(&allocator, shape)?;
                let values = tensor.extract_tensor_mut().1;
                match parameters.tensor(input.name()) {
                    Some(known) => values.copy_from_slice(known),
                    None => values.fill(0.0),
                }
                binding.bind_input(input.name(), &tensor)?;
                if input.name() == "x" {
                    samples = Some(tensor);
                }
            }
        }
        for output in session.outputs() {
            let ValueType::Tensor { shape, .. } = output.dtype() else {
                continue;
            };
            let shape = shape.iter().copied().collect::<Vec<i64>>();
            binding.bind_output(output.name(), Tensor::<f32>::new(&allocator, shape)?)?;
        }
        Ok(Self {
            session,
            binding,
            options: RunOptions::new()?,
            samples,
        })
    }

    /// Where the samples of the next run lie.
    pub(crate) fn samples_mut(&mut self) -> &mut [f32] {
        let samples = self.samples.as_mut();
        samples.map_or(&mut [], |tensor| tensor.extract_tensor_mut().1)
    }

    pub(crate) fn run(&self) {
        // SAFETY: session, options and binding are alive, and nobody else uses the tensors.
        let status = unsafe {
            (ort::api().RunWithBinding)(
                self.session.ptr().cast_mut(),
                self.options.ptr(),
                self.binding.ptr(),
            )
        };
        assert!(status.0.is_null());
    }
}
