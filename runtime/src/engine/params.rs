//! Parameter files: the tensors a training step carries from step to step, at rest.
//!
//! A file `STEP.params` lies beside each training step `STEP.onnx` and holds the initial parameters and the
//! initial optimizer state; a checkpoint is a file of the same format.
//!
//! # Format
//! Version 1. All numbers little-endian.
//!
//! | bytes | content |
//! |---|---|
//! | 4 | magic, `FPRM` |
//! | 2 | version, 1 |
//! | 2 | number of tensors, n |
//! | 4 n | number of elements of each tensor |
//! | 4 × all elements | the elements, float32, tensor after tensor |
//! | 4 | CRC-32/ISCSI of every byte before |
//!
//! The tensors are those that the step's graph carries (an input `N` with an output `N.new`), in the order
//! of the graph's inputs: parameters first, then state. Names and shapes are the graph's.
//!
//! The file ends after the CRC; anything else is refused.

use fulcrum_plan::durable::replace_file;
use fulcrum_plan::wire;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const MAGIC: [u8; 4] = *b"FPRM";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 8;
const CRC_BYTES: usize = 4;

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
                    "is of version {found}, this program reads version {VERSION}"
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

/// The tensors of a parameter file, in its order.
///
/// # Errors
/// When the file cannot be read or is not exactly what [the format](self) says.
pub fn read(path: &Path) -> Result<Vec<Vec<f32>>, ParamsError> {
    let bytes = fs::read(path).map_err(ParamsProblem::Io);
    bytes
        .and_then(|bytes| decode(&bytes))
        .map_err(|problem| ParamsError {
            path: path.to_owned(),
            problem,
        })
}

/// Writes a parameter file so that at any moment, also after a loss of power, `path` holds either what it
/// held before or all of the new content: a file beside it is written, made durable and renamed over it,
/// then the folder is made durable.
///
/// # Errors
/// When the file system refuses; `path` is then untouched.
pub fn write<'a>(
    path: &Path,
    tensors: impl IntoIterator<Item = &'a [f32]>,
) -> Result<(), ParamsError> {
    let tensors: Vec<&[f32]> = tensors.into_iter().collect();
    replace_file(path, &encode(&tensors)).map_err(|error| ParamsError {
        path: path.to_owned(),
        problem: ParamsProblem::Io(error),
    })
}

fn encode(tensors: &[&[f32]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
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
    for value in tensors.iter().copied().flatten() {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(wire::checksum(&bytes).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Vec<Vec<f32>>, ParamsProblem> {
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
    if version != VERSION {
        return Err(ParamsProblem::Version { found: version });
    }
    let count = usize::from(u16::from_le_bytes([header[6], header[7]]));
    let Some((counts, rest)) = rest.split_at_checked(4 * count) else {
        return Err(length((HEADER_BYTES + 4 * count + CRC_BYTES) as u64));
    };
    let counts: Vec<u64> = words(counts)
        .map(|word| u64::from(u32::from_le_bytes(word)))
        .collect();
    let data_bytes = 4 * counts.iter().sum::<u64>();
    if rest.len() as u64 != data_bytes + CRC_BYTES as u64 {
        return Err(length(
            (HEADER_BYTES + 4 * count + CRC_BYTES) as u64 + data_bytes,
        ));
    }
    let (body, checksum) = bytes.split_at(bytes.len() - CRC_BYTES);
    if wire::checksum(body).to_le_bytes() != checksum {
        return Err(ParamsProblem::Checksum);
    }
    let mut values = words(rest).map(f32::from_le_bytes);
    Ok(counts
        .iter()
        .map(|&count| values.by_ref().take(count as usize).collect())
        .collect())
}

fn words(bytes: &[u8]) -> impl Iterator<Item = [u8; 4]> {
    bytes.as_chunks::<4>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENSORS: [&[f32]; 2] = [&[1.0, -2.5, f32::MIN_POSITIVE], &[0.0]];

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let bytes = encode(&[&[1.0], &[]]);
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
        write(&path, [&[9.0][..]]).unwrap();
        write(&path, TENSORS).unwrap();
        assert_eq!(read(&path).unwrap(), TENSORS);
        let left: Vec<_> = fs::read_dir(&folder).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing but the file is left: {left:?}");
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_failed_write_leaves_the_file_alone() {
        let folder = std::env::temp_dir().join(format!("fulcrum-params-no-{}", std::process::id()));
        let error = write(&folder.join("missing/step.params"), TENSORS).unwrap_err();
        assert!(matches!(error.problem, ParamsProblem::Io(_)), "{error}");
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let good = encode(&TENSORS);
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_other_length_is_refused() {
        let good = encode(&TENSORS);
        for length in 0..good.len() {
            assert!(decode(&good[..length]).is_err(), "{length} bytes");
        }
        let mut long = good.clone();
        long.push(0);
        assert!(matches!(decode(&long), Err(ParamsProblem::Length { .. })));
    }

    #[test]
    fn each_fault_has_its_error() {
        let good = encode(&TENSORS);
        let with = |index: usize, value: u8| {
            let mut bad = good.clone();
            bad[index] = value;
            decode(&bad).unwrap_err()
        };
        assert!(matches!(with(0, b'X'), ParamsProblem::Magic));
        assert!(matches!(with(4, 2), ParamsProblem::Version { found: 2 }));
        assert!(matches!(with(8, 200), ParamsProblem::Length { .. }));
        assert!(matches!(with(17, 7), ParamsProblem::Checksum));
    }
}
