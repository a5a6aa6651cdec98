//! `fulcrum checkpoint export` and `import`: the same bits back, and the same answers from ONNX Runtime.

use fulcrum_runtime::engine::{InferenceSession, Parameters, SessionOptions, params};
use fulcrum_tests::models::{self, digits, fill, load};
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

/// A step of a model, trained a little: the values, in `c`.
fn trained(folder: &Path, model: &Path, optimizer: &str, layout: &str) -> Parameters {
    let mut command = fulcrum();
    command.arg("train-step").arg(model);
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
        let parameters = trained(folder, &digits("model.onnx"), "adam", layout);
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
        answers_alike(folder, &parameters);
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The exported model `w.onnx` answers as the live one does.
fn answers_alike(folder: &Path, parameters: &Parameters) {
    let options = SessionOptions::with_batch(8);
    let (live, plain) = (folder.join("step.infer.onnx"), folder.join("w.onnx"));
    let mut live = InferenceSession::load(engine(), &live, options, Some(parameters)).unwrap();
    let mut plain = InferenceSession::load(engine(), &plain, options, None).unwrap();
    for (index, x) in live.x_mut().iter_mut().enumerate() {
        *x = (index % 17) as f32 / 16.0;
    }
    plain.x_mut().copy_from_slice(live.x_mut());
    live.run(Some(parameters)).unwrap();
    plain.run(None).unwrap();
    for (live, plain) in live.logits().iter().zip(plain.logits()) {
        assert!(
            (live - plain).abs() <= 1e-6 * live.abs().max(1.0),
            "{live} {plain}"
        );
    }
    assert!(live.logits().iter().any(|logit| *logit != 0.0));
}

#[test]
fn running_statistics_go_with_the_weights() {
    let folder = TemporaryFolder::new();
    let folder = folder.path();
    let parameters = trained(
        folder,
        &models::engine("normalized.onnx"),
        "momentum",
        "flat",
    );
    let state = parameters.values().nth(1).unwrap();
    let first = &params::read(&folder.join("step.params")).unwrap().tensors[1];
    let manifest = fs::read(folder.join("step.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    for file in ["w.safetensors", "w.onnx"] {
        let _ = checkpoint(&format!("export c --step step.onnx --to {file}"), folder).expect(0);
        let import = format!("import {file} --step step.onnx --out back");
        let _ = checkpoint(&import, folder).expect(0);
        let back = &params::read(&folder.join("back")).unwrap().tensors[1];
        for entry in manifest["state"].as_array().unwrap() {
            let name = entry["name"].as_str().unwrap();
            let offset = entry["offset"].as_u64().unwrap() as usize;
            let shape = entry["shape"].as_array().unwrap();
            let count: u64 = shape.iter().map(|size| size.as_u64().unwrap()).product();
            let here = offset..offset + count as usize;
            let kept = ["mean", "variance"].contains(&name);
            let expected = if kept { state } else { first.as_slice() };
            assert_eq!(
                bits(&back[here.clone()]),
                bits(&expected[here.clone()]),
                "{name}"
            );
            // It moved, so that the comparison says something.
            assert_ne!(bits(&state[here.clone()]), bits(&first[here]), "{name}");
        }
    }
    answers_alike(folder, &parameters);
}

#[test]
fn what_does_not_fit_is_named_and_nothing_is_written() {
    let folder = TemporaryFolder::new();
    let folder = folder.path();
    let _ = trained(folder, &digits("model.onnx"), "sgd", "flat");
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
