//! The options of `fulcrumd doctor` and `fulcrumd capture`: commands that only look.

use super::{BoardOptions, Given, UsageError, board};
use std::path::PathBuf;

pub(super) const DOCTOR_OPTIONS: [&str; 5] = [
    "--sysfs-root",
    "--state-dir",
    "--power-rails",
    "--onnxruntime",
    "--json",
];
pub(super) const CAPTURE_OPTIONS: [&str; 2] = ["--to", "--sysfs-root"];

/// Options of `fulcrumd doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doctor {
    /// `--onnxruntime`.
    pub(crate) onnxruntime: Option<PathBuf>,
    /// `--json`.
    pub(crate) json: bool,
    /// The board.
    pub(crate) board: BoardOptions,
}

/// Options of `fulcrumd capture`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Capture {
    /// `--to`.
    pub(crate) to: PathBuf,
    /// `--sysfs-root`.
    pub(crate) sysfs_root: PathBuf,
}

pub(super) fn doctor(given: &Given) -> Result<Doctor, UsageError> {
    Ok(Doctor {
        onnxruntime: given.path("--onnxruntime"),
        json: given.has("--json"),
        board: board(given)?,
    })
}

pub(super) fn capture(given: &Given) -> Result<Capture, UsageError> {
    Ok(Capture {
        to: given.required("--to DIR", given.path("--to"))?,
        sysfs_root: board(given)?.sysfs_root,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Command;
    use super::super::tests::{message, parsed};
    use super::*;

    #[test]
    fn commands_that_look_have_few_options() {
        let Ok(Command::Doctor(doctor)) = parsed("doctor --json --sysfs-root r") else {
            panic!("no doctor");
        };
        assert!(doctor.json);
        assert_eq!(doctor.board.sysfs_root, PathBuf::from("r"));
        let Ok(Command::Capture(capture)) = parsed("capture --to d") else {
            panic!("no capture");
        };
        assert_eq!((capture.to, capture.sysfs_root), ("d".into(), "/".into()));
        assert!(message("capture").contains("needs --to DIR"));
        assert!(message("doctor --power 3").contains("unknown option `--power`"));
    }
}
