//! Writes data files for the runtime; the format is documented in `docs/data-format.md`.

use anyhow::{bail, ensure};
use fulcrum_plan::wire;

/// What belongs to a sample's elements.
#[derive(Clone, Debug, PartialEq)]
pub enum Label {
    /// Class, from 0 to the number of classes exclusive.
    Class(i64),
    /// Values.
    Values(Vec<f32>),
    /// Classes, one for each place of the sample.
    Classes(Vec<i64>),
}

/// A sample: its label, and its elements in the order of the model's input.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Label; all samples of a file have the same kind.
    pub label: Label,
    /// Normalised elements.
    pub elements: Vec<f32>,
}

/// What every label of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelKind {
    /// One of so many classes.
    Class(u32),
    /// So many values.
    Values(u32),
    /// So many classes.
    Classes(u32),
}

/// What was done to the elements of a channel: `(element - mean) / deviation`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// Subtracted.
    pub mean: f32,
    /// Divided by.
    pub deviation: f32,
}

/// Most channels that a header can tell the normalisation of.
pub const CHANNELS_MAX: usize = 255;

/// The bytes of a data file with these samples. `channels` says what was done to them, for each of the equal
/// parts of a sample; none if nothing was.
///
/// # Errors
/// When there is no sample, samples differ in size or have none, a label is not of the kind or no class, or
/// a sample cannot be divided into so many channels.
pub fn encode(
    labels: LabelKind,
    channels: &[Normalisation],
    samples: &[Sample],
) -> anyhow::Result<Vec<u8>> {
    let elements = samples.first().map_or(0, |sample| sample.elements.len());
    ensure!(
        elements > 0,
        "a data file needs samples, and these need elements"
    );
    ensure!(
        channels.len() <= CHANNELS_MAX
            && (channels.is_empty() || elements.is_multiple_of(channels.len())),
        "{elements} elements cannot be divided into {} channels (at most {CHANNELS_MAX})",
        channels.len()
    );
    let (kind, per_label) = match labels {
        LabelKind::Class(classes) => (1, classes),
        LabelKind::Values(values) => (2, values),
        LabelKind::Classes(classes) => (3, classes),
    };
    let mut bytes = b"FREC".to_vec();
    bytes.extend(2_u16.to_le_bytes());
    bytes.extend([kind, u8::try_from(channels.len())?]);
    bytes.extend(u32::try_from(samples.len())?.to_le_bytes());
    bytes.extend(u32::try_from(elements)?.to_le_bytes());
    bytes.extend(per_label.to_le_bytes());
    for channel in channels {
        bytes.extend(channel.mean.to_le_bytes());
        bytes.extend(channel.deviation.to_le_bytes());
    }
    seal(&mut bytes, 0);
    for (number, sample) in samples.iter().enumerate() {
        let found = sample.elements.len();
        ensure!(
            found == elements,
            "sample {number} has {found} elements, sample 0 has {elements}"
        );
        let start = bytes.len();
        label(&mut bytes, number, &sample.label, labels)?;
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

fn label(
    bytes: &mut Vec<u8>,
    number: usize,
    label: &Label,
    labels: LabelKind,
) -> anyhow::Result<()> {
    match (label, labels) {
        (Label::Class(class), LabelKind::Class(classes)) => {
            ensure!(
                (0..i64::from(classes)).contains(class),
                "sample {number} has label {class}, allowed is 0 to {classes} exclusive"
            );
            bytes.extend(class.to_le_bytes());
        }
        (Label::Values(values), LabelKind::Values(count)) if values.len() == count as usize => {
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        (Label::Classes(classes), LabelKind::Classes(count)) if classes.len() == count as usize => {
            ensure!(
                classes.iter().all(|class| *class >= 0),
                "sample {number} has a class below 0"
            );
            bytes.extend(classes.iter().flat_map(|class| class.to_le_bytes()));
        }
        _ => bail!("sample {number} has another kind of label than the file"),
    }
    Ok(())
}

/// Adds the checksum of everything from `start` on.
fn seal(bytes: &mut Vec<u8>, start: usize) {
    let checksum = wire::checksum(bytes.get(start..).unwrap_or_default());
    bytes.extend(checksum.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(class: i64, elements: &[f32]) -> Sample {
        Sample {
            label: Label::Class(class),
            elements: elements.to_vec(),
        }
    }

    /// The n-th block of bytes in the document.
    fn example(number: usize) -> Vec<u8> {
        let document = include_str!("../../docs/data-format.md");
        let block = document.split("```text").nth(number + 1).unwrap();
        let block = block.split("```").next().unwrap();
        block
            .split_whitespace()
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect()
    }

    #[test]
    fn the_documents_examples_are_what_is_written() {
        let channel = Normalisation {
            mean: 0.5,
            deviation: 0.25,
        };
        let samples = [sample(2, &[0.5, -1.0]), sample(0, &[0.0, 0.25])];
        let written = encode(LabelKind::Class(3), &[channel], &samples).unwrap();
        assert_eq!(written, example(0));
        let value = Sample {
            label: Label::Values(vec![1.5]),
            elements: vec![0.5, -1.0],
        };
        let written = encode(LabelKind::Values(1), &[], &[value]).unwrap();
        assert_eq!(written, example(1));
    }

    #[test]
    fn samples_that_do_not_fit_are_refused_by_number() {
        let says = |samples: &[Sample], expected: &str| {
            let error = encode(LabelKind::Class(3), &[], samples).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
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
        let value = Sample {
            label: Label::Values(vec![1.0]),
            elements: vec![1.0],
        };
        says(&[sample(0, &[1.0]), value], "sample 1 has another kind");
    }
}
