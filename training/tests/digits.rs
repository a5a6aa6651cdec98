//! The shipped digits files are what this crate makes of the shipped forward model, byte for byte.

use fulcrum_training::{Files, Loss, Model, Optimizer, Options, build};
use std::path::Path;

#[test]
fn the_shipped_step_is_made_from_the_shipped_model() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/models/digits");
    let model = Model::read(&folder.join("model.onnx")).unwrap();
    let mut options = Options::new(Loss::CrossEntropy, Optimizer::Momentum, 16);
    options.dampening = 0.9;
    let made = build(&model, &options).unwrap();
    let names = Files::beside(Path::new("train.onnx"));
    for (path, bytes) in made.encode(&names).unwrap() {
        let shipped = match path {
            _ if path == names.inference => "infer.onnx",
            _ if path == names.step => "train.onnx",
            _ if path == names.params => "train.params",
            // The manifest names the files as they were written; it is not shipped.
            _ => continue,
        };
        assert!(
            std::fs::read(folder.join(shipped)).unwrap() == bytes,
            "{shipped} is not what train-step makes; tools/models/digits/generate.py has the command"
        );
    }
}
