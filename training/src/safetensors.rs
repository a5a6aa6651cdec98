//! Safetensors files: named tensors that Python loads without this project.
//!
//! # Format
//! A u64 (little-endian), so many bytes of JSON, then the elements. The JSON maps each name to `dtype`,
//! `shape` and `data_offsets` (begin and end behind the JSON); `__metadata__` is text for people. Only
//! float32 (`F32`) is written and read.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest JSON that is read, as in the format's own implementation.
const HEADER_MAX: u64 = 100_000_000;

/// A tensor of float32.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its elements, row-major.
    pub values: Vec<f32>,
}

/// Why bytes are not a safetensors file that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsError {
    /// Not the format, or cut off.
    #[error("is not a whole safetensors file: {0}")]
    Format(String),
    /// A tensor of another type.
    #[error("holds `{name}` as {dtype}; only F32 is read: convert it with .float()")]
    Type {
        /// Its name.
        name: String,
        /// Its type.
        dtype: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Place {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The bytes of a file with these tensors.
#[must_use]
pub fn encode(tensors: &[Named]) -> Vec<u8> {
    let mut places = serde_json::Map::new();
    places.insert(
        "__metadata__".to_owned(),
        serde_json::json!({"format": "pt"}),
    );
    let mut begin = 0;
    for tensor in tensors {
        let end = begin + 4 * tensor.values.len();
        let place = serde_json::json!({
            "dtype": "F32",
            "shape": tensor.shape,
            "data_offsets": [begin, end],
        });
        places.insert(tensor.name.clone(), place);
        begin = end;
    }
    let mut header = serde_json::Value::Object(places).to_string();
    // The elements begin at a multiple of 8.
    while !header.len().is_multiple_of(8) {
        header.push(' ');
    }
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.into_bytes());
    for value in tensors.iter().flat_map(|tensor| &tensor.values) {
        bytes.extend(value.to_le_bytes());
    }
    bytes
}

/// The tensors of a file, by name.
///
/// # Errors
/// [`SafetensorsError`].
pub fn decode(bytes: &[u8]) -> Result<Vec<Named>, SafetensorsError> {
    let format = |reason: &str| SafetensorsError::Format(reason.to_owned());
    let (length, rest) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| format("it has less than 8 bytes"))?;
    let length = u64::from_le_bytes(*length);
    let (header, data) = usize::try_from(length)
        .ok()
        .filter(|_| length <= HEADER_MAX)
        .and_then(|length| rest.split_at_checked(length))
        .ok_or_else(|| format("its header is cut off"))?;
    let mut places: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(header).map_err(|error| format(&error.to_string()))?;
    places.remove("__metadata__");
    let mut tensors = Vec::new();
    for (name, place) in places {
        let place: Place =
            serde_json::from_value(place).map_err(|error| format(&format!("`{name}`: {error}")))?;
        if place.dtype != "F32" {
            let dtype = place.dtype;
            return Err(SafetensorsError::Type { name, dtype });
        }
        let [begin, end] = place.data_offsets;
        let count = place
            .shape
            .iter()
            .try_fold(4_usize, |size, &axis| size.checked_mul(axis));
        let data = data
            .get(begin..end)
            .filter(|data| Some(data.len()) == count)
            .ok_or_else(|| format(&format!("`{name}` is cut off, or not of its shape's size")))?;
        let words = data.as_chunks::<4>().0.iter();
        tensors.push(Named {
            name,
            shape: place.shape,
            values: words.map(|word| f32::from_le_bytes(*word)).collect(),
        });
    }
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Vec<Named> {
        let named = |name: &str, shape: &[usize], values: &[f32]| Named {
            name: name.to_owned(),
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        vec![
            named("a.weight", &[2, 1], &[1.0, f32::MIN_POSITIVE]),
            named("b", &[], &[-0.0]),
        ]
    }

    #[test]
    fn what_was_encoded_is_decoded_bit_for_bit() {
        let bytes = encode(&tensors());
        assert_eq!(decode(&bytes).unwrap(), tensors());
        let header = u64::from_le_bytes(*bytes.first_chunk().unwrap());
        assert_eq!(header % 8, 0);
        assert_eq!(bytes.len() as u64, 8 + header + 12);
    }

    #[test]
    fn truncations_and_other_types_are_refused() {
        let good = encode(&tensors());
        for length in 0..good.len() {
            assert!(decode(&good[..length]).is_err(), "{length} bytes");
        }
        let mut other = good.clone();
        let at = other.windows(3).position(|word| word == b"F32").unwrap();
        other[at..at + 3].copy_from_slice(b"F16");
        let error = decode(&other).unwrap_err();
        assert!(error.to_string().contains("as F16"), "{error}");
    }
}
