//! Parameter files: initial parameters and state beside a step's graph, read without protobuf.
//!
//! The format is the runtime's (`STEP.params`, little-endian); version 2 is a checkpoint:
//!
//! | bytes | content |
//! |---|---|
//! | 4 | magic, `FPRM` |
//! | 2 | version, 1 or 2 |
//! | 2 | number of tensors, n |
//! | 4 n | number of elements of each tensor |
//! | 68 | version 2 only: SHA-256 of the step's graph (32), and where training stood |
//! | 4 × all elements | the elements, float32, tensor after tensor |
//! | 4 | CRC-32/ISCSI of every byte before |
//!
//! The tensors are those the step carries (input `N`, output `N.new`), in the order of its inputs: in the
//! flat layout `theta` and `state`.

use crc::{CRC_32_ISCSI, Crc};

const MAGIC: [u8; 4] = *b"FPRM";
const VERSION: u16 = 1;
/// Version of a checkpoint, and how much longer its header is.
const CHECKPOINT: u16 = 2;
const PROGRESS_BYTES: usize = 68;
const STEP_BYTES: usize = 32;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Why bytes are not a parameter file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParamsError {
    /// Another file.
    #[error("is not a parameter file (no magic `FPRM`)")]
    Magic,
    /// Written by a newer version.
    #[error("has version {found}; {VERSION} and {CHECKPOINT} can be read: use a newer fulcrum")]
    Version {
        /// Its version.
        found: u16,
    },
    /// Cut off, or with bytes too many.
    #[error("has {found} bytes, and its header says {expected}: it was cut off or written twice")]
    Length {
        /// Bytes there.
        found: usize,
        /// Bytes the header promises; at least.
        expected: usize,
    },
    /// Bytes were changed.
    #[error("is damaged: its CRC-32 does not match")]
    Checksum,
    /// More tensors, or more elements in one, than the format can count.
    #[error("cannot hold {0}: at most 65535 tensors of at most 4294967295 elements")]
    TooLarge(String),
}

/// The bytes of a parameter file.
///
/// # Errors
/// [`ParamsError::TooLarge`].
pub fn encode(tensors: &[&[f32]]) -> Result<Vec<u8>, ParamsError> {
    let too_large = |count: usize, what: &str| ParamsError::TooLarge(format!("{count} {what}"));
    let count = u16::try_from(tensors.len()).map_err(|_| too_large(tensors.len(), "tensors"))?;
    let mut bytes = Vec::new();
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(count.to_le_bytes());
    for tensor in tensors {
        let elements =
            u32::try_from(tensor.len()).map_err(|_| too_large(tensor.len(), "elements"))?;
        bytes.extend(elements.to_le_bytes());
    }
    for value in tensors.iter().copied().flatten() {
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(CRC.checksum(&bytes).to_le_bytes());
    Ok(bytes)
}

/// What a parameter file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// The tensors.
    pub tensors: Vec<Vec<f32>>,
    /// SHA-256 of the step's graph in hexadecimal, in a checkpoint.
    pub step: Option<String>,
}

/// The content of a parameter file or a checkpoint.
///
/// # Errors
/// Every variant of [`ParamsError`] but [`ParamsError::TooLarge`].
pub fn decode(bytes: &[u8]) -> Result<Content, ParamsError> {
    let length = |expected: usize| ParamsError::Length {
        found: bytes.len(),
        expected,
    };
    let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(ParamsError::Magic)?;
    if *magic != MAGIC {
        return Err(ParamsError::Magic);
    }
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(|| length(8))?;
    let version = u16::from_le_bytes(*version);
    let progress_bytes = match version {
        VERSION => 0,
        CHECKPOINT => PROGRESS_BYTES,
        found => return Err(ParamsError::Version { found }),
    };
    let (count, rest) = rest.split_first_chunk::<2>().ok_or_else(|| length(8))?;
    let count = usize::from(u16::from_le_bytes(*count));
    let (counts, rest) = rest
        .split_at_checked(4 * count)
        .ok_or_else(|| length(8 + 4 * count))?;
    let counts: Vec<usize> = counts
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| u32::from_le_bytes(*word) as usize)
        .collect();
    let elements: usize = counts.iter().sum();
    let expected = 8 + 4 * count + progress_bytes + 4 * elements + 4;
    if bytes.len() != expected {
        return Err(length(expected));
    }
    let (progress, rest) = rest.split_at(progress_bytes);
    let (values, checksum) = rest.split_at(4 * elements);
    let body = &bytes[..bytes.len() - checksum.len()];
    if CRC.checksum(body).to_le_bytes() != checksum {
        return Err(ParamsError::Checksum);
    }
    let mut values = values
        .as_chunks::<4>()
        .0
        .iter()
        .map(|word| f32::from_le_bytes(*word));
    let step = progress.first_chunk::<STEP_BYTES>();
    Ok(Content {
        tensors: counts
            .iter()
            .map(|count| values.by_ref().take(*count).collect())
            .collect(),
        step: step.map(|step| step.iter().map(|byte| format!("{byte:02x}")).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_decoded() {
        let bytes = encode(&[&[1.0, -2.5], &[], &[0.25]]).unwrap();
        assert_eq!(
            decode(&bytes).unwrap().tensors,
            [vec![1.0, -2.5], vec![], vec![0.25]]
        );
    }

    #[test]
    fn the_bytes_are_those_of_the_documented_format() {
        let bytes = encode(&[&[1.0]]).unwrap();
        assert_eq!(bytes[..16], *b"FPRM\x01\0\x01\0\x01\0\0\0\0\0\x80\x3f");
        // CRC-32/ISCSI of these 16 bytes.
        assert_eq!(bytes[16..], CRC.checksum(&bytes[..16]).to_le_bytes());
    }

    #[test]
    fn every_changed_byte_and_every_truncation_is_refused() {
        let good = encode(&[&[1.0, 2.0], &[3.0]]).unwrap();
        for position in 0..good.len() {
            let mut bad = good.clone();
            bad[position] ^= 0x10;
            assert!(decode(&bad).is_err(), "byte {position}");
            assert!(decode(&good[..position]).is_err(), "cut at {position}");
        }
        assert!(decode(&[good.as_slice(), &[0]].concat()).is_err());
    }
}
