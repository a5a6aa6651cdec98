//! Writes data files for the runtime; the format is documented in `docs/data-format.md`.

use anyhow::ensure;
use fulcrum_plan::wire;

/// A sample: its class, and its elements in the order of the model's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Class, from 0 to the number of classes exclusive.
    pub label: i64,
    /// Normalised elements.
    pub elements: Vec<f32>,
}

/// The bytes of a data file with these samples.
///
/// # Errors
/// When there is no sample, samples differ in size or have none, or a label is no class.
pub fn encode(classes: u32, samples: &[Sample]) -> anyhow::Result<Vec<u8>> {
    let elements = samples.first().map_or(0, |sample| sample.elements.len());
    ensure!(
        elements > 0,
        "a data file needs samples, and these need elements"
    );
    let mut bytes = b"FREC".to_vec();
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend([1, 0]);
    bytes.extend(u32::try_from(samples.len())?.to_le_bytes());
    bytes.extend(u32::try_from(elements)?.to_le_bytes());
    bytes.extend(classes.to_le_bytes());
    seal(&mut bytes, 0);
    for (number, sample) in samples.iter().enumerate() {
        let found = sample.elements.len();
        ensure!(
            found == elements,
            "sample {number} has {found} elements, sample 0 has {elements}"
        );
        ensure!(
            (0..i64::from(classes)).contains(&sample.label),
            "sample {number} has label {}, allowed is 0 to {classes} exclusive",
            sample.label
        );
        let start = bytes.len();
        bytes.extend(sample.label.to_le_bytes());
        bytes.extend(
            sample
                .elements
                .iter()
                .flat_map(|element| element.to_le_bytes()),
        );
        seal(&mut bytes, start);
    }
    Ok(bytes)
}

/// Adds the checksum of everything from `start` on.
fn seal(bytes: &mut Vec<u8>, start: usize) {
    let checksum = wire::checksum(bytes.get(start..).unwrap_or_default());
    bytes.extend(checksum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(label: i64, elements: &[f32]) -> Sample {
        Sample {
            label,
            elements: elements.to_vec(),
        }
    }

    #[test]
    fn the_documents_example_is_what_is_written() {
        let document = include_str!("../../docs/data-format.md");
        let example = document
            .split("```text")
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap();
        let example: Vec<u8> = example
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        let written = encode(3, &[sample(2, &[0.5, -1.0]), sample(0, &[0.0, 0.25])]).unwrap();
        assert_eq!(written, example);
    }

    #[test]
    fn samples_that_do_not_fit_are_refused_by_number() {
        let says = |samples: &[Sample], expected: &str| {
            let error = encode(3, samples).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        says(&[], "needs samples");
        says(&[sample(0, &[])], "need elements");
        says(
            &[sample(0, &[1.0]), sample(1, &[])],
            "sample 1 has 0 elements",
        );
        says(
            &[sample(0, &[1.0]), sample(3, &[1.0])],
            "sample 1 has label 3",
        );
        says(&[sample(-1, &[1.0])], "sample 0 has label -1");
    }
}
