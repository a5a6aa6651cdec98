//! The options of `fulcrumd profile`.

use super::{BoardOptions, Given, UsageError, board, usage};
use fulcrum_plan::link::Role;
use fulcrum_runtime::engine::Provider;
use fulcrum_runtime::profile::models::Source;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::Duration;

/// Batch sizes of an inference workload that names none: those of the Fulcrum draft.
const BATCHES: [u16; 5] = [1, 4, 16, 32, 64];

pub(super) const OPTIONS: [&str; 12] = [
    "--train",
    "--infer",
    "--data",
    "--minibatches",
    "--idle-s",
    "--intra-op-threads",
    "--provider",
    "--sysfs-root",
    "--state-dir",
    "--board",
    "--power-rails",
    "--onnxruntime",
];

/// Options of `fulcrumd profile`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Profile {
    /// `--train` and `--infer`.
    pub(crate) sources: Vec<Source>,
    /// `--data`.
    pub(crate) data: PathBuf,
    /// `--minibatches`.
    pub(crate) minibatches: u16,
    /// `--idle-s`.
    pub(crate) idle: Duration,
    /// `--intra-op-threads`.
    pub(crate) intra_op_threads: u16,
    /// `--provider`.
    pub(crate) providers: Vec<Provider>,
    /// `--onnxruntime`.
    pub(crate) onnxruntime: Option<PathBuf>,
    /// The board.
    pub(crate) board: BoardOptions,
}

pub(super) fn profile(given: &Given) -> Result<Profile, UsageError> {
    let mut sources = Vec::new();
    for (option, role) in [("--train", Role::Train), ("--infer", Role::Infer)] {
        for value in given.values(option) {
            let Some(source) = source(role, value) else {
                return usage(format!(
                    "{option} {}: allowed is NAME=MODEL.onnx:BATCH,… with ascending batch sizes from \
                     1 to 65535, such as digits=infer.onnx:1,4,16",
                    value.display()
                ));
            };
            sources.push(source);
        }
    }
    if sources.is_empty() {
        return usage("`fulcrumd profile` needs --train NAME=STEP.onnx or --infer NAME=MODEL.onnx");
    }
    Ok(Profile {
        sources,
        data: given.required("--data FILE", given.path("--data"))?,
        minibatches: given
            .parsed("--minibatches", "a whole number from 5 to 10000", |text| {
                text.parse()
                    .ok()
                    .filter(|count| (5..=10_000).contains(count))
            })?
            .unwrap_or(40),
        idle: Duration::from_secs_f64(given.number("--idle-s", 1.0, 86_400.0)?.unwrap_or(600.0)),
        intra_op_threads: given.intra_op_threads()?,
        providers: given.providers()?,
        onnxruntime: given.path("--onnxruntime"),
        board: board(given)?,
    })
}

/// `NAME=MODEL`, with or without `:BATCH,…` behind it.
fn source(role: Role, value: &OsStr) -> Option<Source> {
    let (name, model) = value.to_str()?.split_once('=')?;
    let (model, batches) = match model.rsplit_once(':') {
        Some((model, list)) => (model, batches(list)?),
        None => match role {
            Role::Train => (model, Vec::new()),
            Role::Infer => (model, BATCHES.to_vec()),
        },
    };
    let is_named = !name.is_empty() && !model.is_empty();
    is_named.then(|| Source {
        role,
        name: name.to_owned(),
        model: model.into(),
        batches,
    })
}

fn batches(list: &str) -> Option<Vec<u16>> {
    let batches: Option<Vec<u16>> = list
        .split(',')
        .map(|text| text.parse().ok().filter(|batch| *batch > 0))
        .collect();
    batches.filter(|batches| batches.is_sorted_by(|a, b| a < b))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, parsed};
    use super::super::{Command, HELP};
    use super::*;

    #[test]
    fn workloads_are_read_with_and_without_batch_sizes() {
        let line = "profile --train digits=step.onnx --infer digits=/m/infer.onnx:1,4 \
                    --infer big=b.onnx --data d.rec --minibatches 20 --idle-s 30";
        let Ok(Command::Profile(profile)) = parsed(line) else {
            panic!("{:?}", parsed(line));
        };
        let batches: Vec<_> = profile
            .sources
            .iter()
            .map(|source| (source.role, source.name.as_str(), source.batches.as_slice()))
            .collect();
        let expected = [
            (Role::Train, "digits", &[][..]),
            (Role::Infer, "digits", &[1, 4][..]),
            (Role::Infer, "big", &BATCHES[..]),
        ];
        assert_eq!(batches, expected);
        assert_eq!(profile.sources[1].model, PathBuf::from("/m/infer.onnx"));
        assert_eq!((profile.minibatches, profile.idle.as_secs()), (20, 30));
        for option in OPTIONS {
            assert!(HELP.contains(option), "{option}");
        }
    }

    #[test]
    fn what_is_no_workload_is_refused_with_what_is_allowed() {
        for value in [
            "",
            "m.onnx",
            "a=",
            "=m",
            "a=m:",
            "a=m:0",
            "a=m:4,1",
            "a=m:1,1",
            "a=m:70000",
        ] {
            let message = message(&format!("profile --data d --infer={value}"));
            assert!(
                message.contains("NAME=MODEL.onnx:BATCH"),
                "{value}: {message}"
            );
        }
        assert!(message("profile --data d").contains("needs --train"));
        assert!(message("profile --train a=s.onnx").contains("needs --data"));
        assert!(message("profile --train a=s --data d --minibatches 4").contains("5 to 10000"));
    }
}
