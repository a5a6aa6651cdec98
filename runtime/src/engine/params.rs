//! Parameter files: the tensors a training step carries from step to step, at rest.
//!
//! A file `STEP.params` lies beside each training step `STEP.onnx` and holds the initial parameters and the
//! initial optimizer state. A checkpoint holds, besides, where training stood ([`Progress`]).
//!
//! # Format
//! All numbers little-endian. Version 1 is a parameter file, version 2 a checkpoint. Both are read where
//! either is: a checkpoint of version 1, from before there was progress, goes on with its parameters and
//! state, and with the samples from the start.
//!
//! | bytes | content |
//! |---|---|
//! | 4 | magic, `FPRM` |
//! | 2 | version, 1 or 2 |
//! | 2 | number of tensors, n |
//! | 4 n | number of elements of each tensor |
//! | 68 | version 2 only: SHA-256 of the step's graph (32), steps done (8), seed (8), epoch (8) and position (4) of the samples' order, number of samples (4), CRC-32/ISCSI of the data file (4) |
//! | 4 × all elements | the elements, float32, tensor after tensor |
//! | 4 | CRC-32/ISCSI of every byte before |
//!
//! The tensors are those that the step's graph carries (an input `N` with an output `N.new`), in the order
//! of the graph's inputs: parameters first, then state. Names and shapes are the graph's.
//!
//! The file ends after the CRC; anything else is refused.

use crate::data::order::Place;
use fulcrum_plan::durable::replace_file;
use fulcrum_plan::wire;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"FPRM";
/// Version of a file without [`Progress`].
const PLAIN: u16 = 1;
/// Version of a file with it.
const CHECKPOINT: u16 = 2;
const PROGRESS_BYTES: usize = 68;
const HEADER_BYTES: usize = 8;
const CRC_BYTES: usize = 4;

/// Where training stood when a checkpoint was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// SHA-256 of the step's graph, as the manifest beside it has it.
    pub step: [u8; 32],
    /// Steps done, those of earlier runs included.
    pub steps: u64,
    /// Where the order of the samples stood.
    pub place: Place,
    /// Samples per epoch.
    pub samples: u32,
    /// CRC-32/ISCSI of the data file.
    pub data: u32,
}

impl Progress {
    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.step);
        for number in [self.steps, self.place.seed, self.place.epoch] {
            bytes.extend(number.to_le_bytes());
        }
        for number in [self.place.position, self.samples, self.data] {
            bytes.extend(number.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8; PROGRESS_BYTES]) -> Self {
        let wide = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let narrow = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            step: std::array::from_fn(|i| bytes[i]),
            steps: wide(32),
            place: Place {
                seed: wide(40),
                epoch: wide(48),
                position: narrow(56),
            },
            samples: narrow(60),
            data: narrow(64),
        }
    }
}

/// What a parameter file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Content {
    /// The tensors, in the file's order.
    pub tensors: Vec<Vec<f32>>,
    /// Where training stood, in a checkpoint.
    pub progress: Option<Progress>,
}

/// Why a parameter file cannot be used or written.
#[derive(Debug)]
pub struct ParamsError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: ParamsProblem,
}

/// What is wrong with a parameter file.
#[derive(Debug)]
#[non_exhaustive]
pub enum ParamsProblem {
    /// The file system refused.
    Io(io::Error),
    /// It does not begin with `FPRM`.
    Magic,
    /// It is of a version this program does not know.
    Version {
        /// Its version.
        found: u16,
    },
    /// It is shorter or longer than its header says.
    Length {
        /// Size by its header.
        expected_bytes: u64,
        /// Its size.
        found_bytes: u64,
    },
    /// Its checksum is wrong: some byte is not what was written.
    Checksum,
    /// It is a checkpoint of another training step.
    OtherStep,
    /// It holds another number of tensors than the model carries.
    Tensors {
        /// What the model carries.
        expected: usize,
        /// What the file holds.
        found: usize,
    },
    /// A tensor has another size than the model's.
    Elements {
        /// The tensor's name in the model.
        name: String,
        /// Number of elements in the model.
        expected: usize,
        /// Number of elements in the file.
        found: usize,
    },
}

impl fmt::Display for ParamsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parameter file {}: ", self.path.display())?;
        match &self.problem {
            ParamsProblem::Io(error) if error.kind() == io::ErrorKind::NotFound => f.write_str(
                "not found; the initial parameters lie beside the training step, under its name",
            ),
            ParamsProblem::Io(error) => error.fmt(f),
            ParamsProblem::Magic => f.write_str("is not a parameter file (no magic `FPRM`)"),
            ParamsProblem::Version { found } => {
                write!(
                    f,
                    "is of version {found}, this program reads versions {PLAIN} and {CHECKPOINT}"
                )
            }
            ParamsProblem::Length {
                expected_bytes,
                found_bytes,
            } => write!(
                f,
                "has {found_bytes} bytes, its header says {expected_bytes}"
            ),
            ParamsProblem::Checksum => f.write_str("is damaged: its CRC-32 does not match"),
            ParamsProblem::OtherStep => f.write_str(
                "is a checkpoint of another training step (its graph has another SHA-256); name another \
                 file, or take its parameters over with `fulcrum checkpoint import`",
            ),
            ParamsProblem::Tensors { expected, found } => {
                write!(f, "holds {found} tensors, the model carries {expected}")
            }
            ParamsProblem::Elements {
                name,
                expected,
                found,
            } => write!(
                f,
                "holds {found} elements for `{name}`, the model has {expected}"
            ),
        }
    }
}

impl std::error::Error for ParamsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            ParamsProblem::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// The content of a parameter file.
///
/// # Errors
/// When the file cannot be read or is not exactly what [the format](self) says.
pub fn read(path: &Path) -> Result<Content, ParamsError> {
    let bytes = fs::read(path).map_err(ParamsProblem::Io);
    bytes
        .and_then(|bytes| decode(&bytes))
        .map_err(|problem| ParamsError {
            path: path.to_owned(),
            problem,
        })
}

/// Writes a parameter file, with `progress` a checkpoint, so that at any moment, also after a loss of power, `path` holds either what it
/// held before or all of the new content: a file beside it is written, made durable and renamed over it,
/// then the folder is made durable.
///
/// # Errors
/// When the file system refuses; `path` is then untouched.
pub fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = &'a [f32]>,
    progress: Option<&Progress>,
) -> Result<(), ParamsError> {
    let tensors: Vec<&[f32]> = tensors.into_iter().collect();
    replace_file(path, &encode(&tensors, progress)).map_err(|error| ParamsError {
        path: path.to_owned(),
        problem: ParamsProblem::Io(error),
    })
}

fn encode(tensors: &[&[f32]], progress: Option<&Progress>) -> Vec<u8> {
    let elements: usize = tensors.iter().map(|tensor| tensor.len()).sum();
    let mut bytes = Vec::with_capacity(
        HEADER_BYTES + PROGRESS_BYTES + 4 * tensors.len() + 4 * elements + CRC_BYTES,
    );
    let version = if progress.is_some() {
        CHECKPOINT
    } else {
        PLAIN
    };
    bytes.extend(MAGIC);
    bytes.extend(version.to_le_bytes());
    // The session's limit on carried tensors is far below; a tensor of 2^32 elements does not fit a board.
    bytes.extend(
        u16::try_from(tensors.len())
            .unwrap_or(u16::MAX)
            .to_le_bytes(),
    );
    for tensor in tensors {
        bytes.extend(
            u32::try_from(tensor.len())
                .unwrap_or(u32::MAX)
                .to_le_bytes(),
        );
    }
    if let Some(progress) = progress {
        progress.encode(&mut bytes);
    }
    for value in tensors.iter().copied().flatten() {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(wire::checksum(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Content, ParamsProblem> {
    let length = |expected_bytes: u64| ParamsProblem::Length {
        expected_bytes,
        found_bytes: bytes.len() as u64,
    };
    if !bytes.starts_with(&MAGIC) {
        return Err(ParamsProblem::Magic);
    }
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(length((HEADER_BYTES + CRC_BYTES) as u64));
    };
    let version = u16::from_le_bytes([header[4], header[5]]);
    let progress_bytes = match version {
        PLAIN => 0,
        CHECKPOINT => PROGRESS_BYTES,
        found => return Err(ParamsProblem::Version { found }),
    };
    let count = usize::from(u16::from_le_bytes([header[6], header[7]]));
    let fixed_bytes = HEADER_BYTES + 4 * count + progress_bytes + CRC_BYTES;
    let Some((counts, rest)) = rest.split_at_checked(4 * count) else {
        return Err(length(fixed_bytes as u64));
    };
    let counts: Vec<u64> = words(counts)
        .map(|word| u64::from(u32::from_le_bytes(word)))
        .collect();
    let expected_bytes = fixed_bytes as u64 + 4 * counts.iter().sum::<u64>();
    if bytes.len() as u64 != expected_bytes {
        return Err(length(expected_bytes));
    }
    let (body, checksum) = bytes.split_at(bytes.len() - CRC_BYTES);
    if wire::checksum(body).to_le_bytes() != checksum {
        return Err(ParamsProblem::Checksum);
    }
    let (progress, rest) = rest.split_at(progress_bytes);
    let mut values = words(rest).map(f32::from_le_bytes);
    Ok(Content {
        tensors: counts
            .iter()
            .map(|&count| values.by_ref().take(count as usize).collect())
            .collect(),
        progress: progress.first_chunk().map(Progress::decode),
    })
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks::<4>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENSORS: [&[f32]; 2] = [&[1.0, -2.5, f32::MIN_POSITIVE], &[0.0]];

    const PROGRESS: Progress = Progress {
        step: [7; 32],
        steps: 1 << 40,
        place: Place {
            seed: u64::MAX,
            epoch: 3,
            position: 5,
        },
        samples: 6,
        data: 0xdead_beef,
    };

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let bytes = encode(&[&[1.0], &[]], None);
        let body = [
            0x46, 0x50, 0x52, 0x4D, // FPRM
            0x01, 0x00, // version 1
            0x02, 0x00, // two tensors
            0x01, 0x00, 0x00, 0x00, // one element
            0x00, 0x00, 0x00, 0x00, // none
            0x00, 0x00, 0x80, 0x3F, // 1.0
        ];
        assert_eq!(bytes[..20], body);
        assert_eq!(bytes[20..], wire::checksum(&body).to_le_bytes());
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = std::env::temp_dir().join(format!("fulcrum-params-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("step.params");
        write(&path, [&[9.0][..]], None).unwrap();
        assert_eq!(read(&path).unwrap().progress, None);
        write(&path, TENSORS, Some(&PROGRESS)).unwrap();
        let content = read(&path).unwrap();
        assert_eq!(content.tensors, TENSORS);
        assert_eq!(content.progress, Some(PROGRESS));
        let left: Vec<_> = fs::read_dir(&folder).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing but the file is left: {left:?}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_failed_write_leaves_the_file_alone() {
        let folder = std::env::temp_dir().join(format!("fulcrum-params-no-{}", std::process::id()));
        let error = write(&folder.join("missing/step.params"), TENSORS, None).unwrap_err();
        assert!(matches!(error.problem, ParamsProblem::Io(_)), "{error}");
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        for good in [encode(&TENSORS, None), encode(&TENSORS, Some(&PROGRESS))] {
            for bit in 0..8 * good.len() {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&bad).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        for good in [encode(&TENSORS, None), encode(&TENSORS, Some(&PROGRESS))] {
            for length in 0..good.len() {
                assert!(decode(&good[..length]).is_err(), "{length} bytes");
            }
            let mut long = good.clone();
            long.push(0);
            assert!(matches!(decode(&long), Err(ParamsProblem::Length { .. })));
        }
    }

    #[test]
    fn each_fault_has_its_error() {
        let good = encode(&TENSORS, None);
        let with = |index: usize, value: u8| {
            let mut bad = good.clone();
            bad[index] = value;
            decode(&bad).unwrap_err()
        };
        assert!(matches!(with(0, b'X'), ParamsProblem::Magic));
        assert!(matches!(with(4, 3), ParamsProblem::Version { found: 3 }));
        assert!(matches!(with(8, 200), ParamsProblem::Length { .. }));
        assert!(matches!(with(17, 7), ParamsProblem::Checksum));
    }
}
