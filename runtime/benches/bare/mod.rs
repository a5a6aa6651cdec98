//! Bare calls into ONNX Runtime, that the engine and the loop are compared with.
#![expect(unsafe_code, reason = "what is compared with is the call itself")]

use fulcrum_runtime::engine::Call;
use ort::AsPointer;
use std::path::{Path, PathBuf};

/// Samples of every minibatch.
pub(crate) const BATCH: u32 = 16;

/// A file of the shipped digits model.
pub(crate) fn model(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tools/models/digits")
        .join(file)
}

/// The call, and nothing around it.
///
/// # Panics
/// It fails, or there is none: a session of these benches is bound to its tensors.
pub(crate) fn run(call: Option<Call<'_>>) {
    let call = call.unwrap();
    // SAFETY: session, options and binding are alive, and the benches have one thread that uses their tensors.
    let status = unsafe {
        (ort::api().RunWithBinding)(
            call.session.ptr().cast_mut(),
            call.options.ptr(),
            call.binding.ptr(),
        )
    };
    assert!(status.0.is_null());
}
