//! `fulcrum checkpoint export` and `import`: the same bits back, and the same answers from ONNX Runtime.

use fulcrum_runtime::engine::{InferenceSession, SessionOptions, params};
use fulcrum_tests::models::{digits, fill, load};
use fulcrum_tests::onnxruntime::engine;
use fulcrum_tests::programs::{Answer, fulcrum};
use fulcrum_tests::tree::TemporaryFolder;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn checkpoint(arguments: &str, folder: &Path) -> Answer {
    let mut command = fulcrum();
    command.current_dir(folder).arg("checkpoint");
    Answer::of(command.args(arguments.split_whitespace()))
}

/// A step of the digits model, trained a little: the values, in `c`.
fn trained(folder: &Path, optimizer: &str, layout: &str) -> fulcrum_runtime::engine::Parameters {
    let mut command = fulcrum();
    command.arg("train-step").arg(digits("model.onnx"));
    let options = format!(
        "--loss cross-entropy --optimizer {optimizer} --layout {layout} --batch 8 --inference-batch 8"
    );
    command.args(options.split_whitespace());
    let _ = Answer::of(command.arg("--out").arg(folder.join("step.onnx"))).expect(0);
    let (mut training, mut parameters) = load(&folder.join("step.onnx"));
    training.set_learning_rate(0.01);
    for step in 0..20 {
        fill(&mut training, step);
        training.step(&mut parameters).unwrap();
    }
    parameters.save(&folder.join("c"), None).unwrap();
    parameters
}

#[test]
fn weights_go_out_and_come_back_bit_for_bit() {
    for layout in ["flat", "named"] {
        let folder = TemporaryFolder::new();
        let folder = folder.path();
        let parameters = trained(folder, "adam", layout);
        let manifest = fs::read(folder.join("step.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&manifest).unwrap();
        let trained = match layout {
            "flat" => 1,
            _ => manifest["parameters"].as_array().unwrap().len(),
        };
        for file in ["w.safetensors", "w.onnx"] {
            let _ = checkpoint(&format!("export c --step step.onnx --to {file}"), folder).expect(0);
            let _ = checkpoint(
                &format!("import {file} --step step.onnx --out back"),
                folder,
            )
            .expect(0);
            let back = params::read(&folder.join("back")).unwrap().tensors;
            let first = params::read(&folder.join("step.params")).unwrap().tensors;
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
            for (index, live) in parameters.values().enumerate() {
                // Optimizer state begins anew.
                let expected = if index < trained { live } else { &first[index] };
                assert_eq!(
                    bits(&back[index]),
                    bits(expected),
                    "{layout}, {file}, {index}"
                );
            }
            assert_ne!(back[0], first[0], "{layout}: nothing was trained");
        }
        // The exported model answers as the live one does.
        let options = SessionOptions::with_batch(8);
        let (live, plain) = (folder.join("step.infer.onnx"), folder.join("w.onnx"));
        let mut live = InferenceSession::load(engine(), &live, options, Some(&parameters)).unwrap();
        let mut plain = InferenceSession::load(engine(), &plain, options, None).unwrap();
        for (index, x) in live.x_mut().iter_mut().enumerate() {
            *x = (index % 17) as f32 / 16.0;
        }
        plain.x_mut().copy_from_slice(live.x_mut());
        live.run(Some(&parameters)).unwrap();
        plain.run(None).unwrap();
        for (live, plain) in live.logits().iter().zip(plain.logits()) {
            assert!(
                (live - plain).abs() <= 1e-6 * live.abs().max(1.0),
                "{layout}: {live} {plain}"
            );
        }
        assert!(live.logits().iter().any(|logit| *logit != 0.0));
    }
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_written() {
    let folder = TemporaryFolder::new();
    let folder = folder.path();
    let _ = trained(folder, "sgd", "flat");
    fs::copy(digits("train.params"), folder.join("other")).unwrap();
    fs::write(folder.join("empty.safetensors"), b"\x02\0\0\0\0\0\0\0{}").unwrap();
    for (arguments, part) in [
        ("export other --step step.onnx --to out.onnx", "other"),
        (
            "export c --step step.onnx --to out.txt",
            ".onnx or .safetensors",
        ),
        ("export missing --step step.onnx --to out.onnx", "missing"),
        ("export c --step none.onnx --to out.onnx", "none.json"),
        (
            "import empty.safetensors --step step.onnx --out out.onnx",
            "has no tensor",
        ),
        (
            "import c --step step.onnx --out out.onnx",
            ".onnx and .safetensors",
        ),
    ] {
        let answer = checkpoint(arguments, folder);
        assert_eq!(answer.code, Some(2), "{arguments}: {}", answer.text());
        assert!(
            answer.stderr.contains(part),
            "{arguments}: {}",
            answer.stderr
        );
        assert!(!folder.join("out.onnx").exists() && !folder.join("out.txt").exists());
    }
}
