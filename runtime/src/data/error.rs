//! Why a file of samples is refused.

use super::format::{LabelKind, VERSION};
use std::path::PathBuf;
use std::{fmt, io};

/// Why a file of samples cannot be used.
#[derive(Debug)]
pub struct DataError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: DataProblem,
}

/// What is wrong with a file of samples. Records are counted from 0.
#[derive(Debug)]
#[non_exhaustive]
pub enum DataProblem {
    /// The file system refused.
    Io(io::Error),
    /// It does not begin with `FREC`.
    Magic,
    /// It is of a version this program does not know.
    Version {
        /// Its version.
        found: u16,
    },
    /// Its header is cut off, damaged, or holds a value that is not allowed.
    Header,
    /// It ends before its last record does.
    Short {
        /// The first record that is not whole.
        record: u32,
        /// Number of records by the header.
        count: u32,
    },
    /// Something follows the last record.
    TrailingBytes {
        /// How much.
        bytes: u64,
    },
    /// A record's checksum is wrong.
    Torn {
        /// The first such record.
        record: u32,
    },
    /// A label is not below the number of classes.
    Label {
        /// The first such record.
        record: u32,
        /// Its label.
        found: i64,
        /// Number of classes by the header.
        classes: u32,
    },
    /// A label that the training step has no class for.
    Class {
        /// The first such record.
        record: u32,
        /// Its label.
        found: i64,
        /// Number of classes of the step.
        classes: u32,
    },
    /// Labels of another kind or number than the training step's targets.
    Targets {
        /// What the step takes for a sample.
        expected: LabelKind,
        /// What the file has.
        found: LabelKind,
    },
    /// Samples of another size than the model's.
    Elements {
        /// Elements per sample in the model.
        expected: usize,
        /// Elements per sample in the file.
        found: usize,
    },
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data file {}: ", self.path.display())?;
        match &self.problem {
            DataProblem::Io(error) => error.fmt(f),
            DataProblem::Magic => f.write_str("is not a file of samples (no magic `FREC`)"),
            DataProblem::Version { found } => {
                write!(
                    f,
                    "is of version {found}, this program reads versions 1 to {VERSION}"
                )
            }
            DataProblem::Header => f.write_str("its header is damaged"),
            DataProblem::Short { record, count } => {
                write!(
                    f,
                    "record {record} of {count} is cut off: the file is too short"
                )
            }
            DataProblem::TrailingBytes { bytes } => {
                write!(f, "{bytes} bytes follow the last record")
            }
            DataProblem::Torn { record } => {
                write!(f, "record {record} is damaged: its CRC-32 does not match")
            }
            DataProblem::Label {
                record,
                found,
                classes,
            } => write!(
                f,
                "record {record} has label {found}, allowed is 0 to {classes} exclusive"
            ),
            DataProblem::Class {
                record,
                found,
                classes,
            } => write!(
                f,
                "record {record} has label {found}, the training step has {classes} classes, 0 to {}; pack samples \
                 without it (fulcrum pack-data --classes {classes} finds the first), or make the step of a model with \
                 more outputs",
                classes.saturating_sub(1)
            ),
            DataProblem::Targets { expected, found } => {
                write!(
                    f,
                    "a sample has {found} as its label, the training step takes {expected}"
                )
            }
            DataProblem::Elements { expected, found } => {
                write!(
                    f,
                    "its samples have {found} elements, the model takes {expected}"
                )
            }
        }
    }
}

impl std::error::Error for DataError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            DataProblem::Io(error) => Some(error),
            _ => None,
        }
    }
}
