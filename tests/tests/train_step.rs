//! `fulcrum train-step` as a user meets it.

use fulcrum_tests::programs::{Answer, fulcrum};
use fulcrum_tests::tree::TemporaryFolder;
use std::fs;
use std::path::{Path, PathBuf};

fn shipped(name: &str) -> PathBuf {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/models/digits");
    models.join(name)
}

fn train_step(model: &Path, options: &str, out: &Path) -> Answer {
    let mut command = fulcrum();
    command
        .arg("train-step")
        .arg(model)
        .args(options.split(' '));
    Answer::of(command.arg("--out").arg(out))
}

#[test]
fn a_step_is_written_with_its_companions() {
    let folder = TemporaryFolder::new();
    let out = folder.path().join("train.onnx");
    let options = "--loss cross-entropy --optimizer adam --batch 8 --freeze ^conv";
    let said = train_step(&shipped("model.onnx"), options, &out).expect(0);
    for name in [
        "train.onnx",
        "train.infer.onnx",
        "train.params",
        "train.json",
    ] {
        assert!(
            fs::metadata(folder.path().join(name)).unwrap().len() > 0,
            "{name}"
        );
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn what_cannot_be_trained_is_named_and_nothing_is_written() {
    let folder = TemporaryFolder::new();
    let out = folder.path().join("train.onnx");
    let good = "--loss cross-entropy --optimizer sgd --batch 16";
    for (model, options, expected) in [
        (
            shipped("model.onnx"),
            "--loss hinge --optimizer sgd --batch 16",
            "cross-entropy",
        ),
        (
            shipped("model.onnx"),
            "--loss mse --optimizer sgd --batch 0",
            "--batch",
        ),
        (
            shipped("model.onnx"),
            "--loss mse --optimizer sgd --batch 1000000000000000000",
            "--batch",
        ),
        (
            shipped("model.onnx"),
            "--loss mse --optimizer sgd --batch 4 --freeze .",
            "--freeze",
        ),
        (
            shipped("model.onnx"),
            "--loss cross-entropy --optimizer adam --batch 4 --betas 0.9,1",
            "--betas",
        ),
        (
            shipped("model.onnx"),
            "--loss cross-entropy --optimizer sgd --batch 4 --epsilon 1e-6",
            "allowed with --optimizer adam and adamw",
        ),
        (shipped("infer.onnx"), good, "no trainable parameter"),
        (shipped("train.params"), good, "train.params"),
        (folder.path().join("missing.onnx"), good, "missing.onnx"),
    ] {
        let answer = train_step(&model, options, &out);
        assert_eq!(answer.code, Some(2), "{options}: {}", answer.text());
        assert!(
            answer.stderr.contains(expected),
            "{options}: {}",
            answer.stderr
        );
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
