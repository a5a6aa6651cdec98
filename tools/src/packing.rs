//! Samples for data files out of arrays and tables: labels, order, split and normalisation.

use crate::array::Array;
use crate::records::{Label, LabelKind, Normalisation, Sample};
use anyhow::{Context, bail, ensure};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::fs;
use std::path::Path;

/// A table of numbers, `LABEL` in one column and the elements in the others, as two arrays. A first line
/// that is not numbers is the columns' names.
///
/// # Errors
/// The file cannot be read, has no such column, or a line (the message says which) has another number of
/// columns or something that is no number.
pub fn read_csv(path: &Path, label_column: Option<usize>) -> anyhow::Result<(Array, Array)> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    table(&text, label_column).with_context(|| path.display().to_string())
}

fn table(text: &str, label_column: Option<usize>) -> anyhow::Result<(Array, Array)> {
    let (mut elements, mut labels) = (Vec::new(), Vec::new());
    let mut columns = None;
    let lines = text.lines().enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.trim().is_empty()) {
        let numbers = line.split(',').map(|cell| cell.trim().parse::<f64>());
        let mut numbers = match numbers.collect::<Result<Vec<f64>, _>>() {
            Ok(numbers) => numbers,
            Err(_) if index == 0 => continue,
            Err(error) => bail!("line {}: {error}; every cell has to be a number", index + 1),
        };
        let expected = *columns.get_or_insert(numbers.len());
        ensure!(
            numbers.len() == expected,
            "line {} has {} columns, the first has {expected}",
            index + 1,
            numbers.len()
        );
        let column = label_column.unwrap_or(expected - 1);
        ensure!(
            column < expected && expected > 1,
            "--label-column {column}: there are {expected} columns, counted from 0, and samples need one \
             besides the label"
        );
        labels.push(numbers.remove(column));
        elements.extend(numbers);
    }
    let rows = labels.len();
    let width = columns.unwrap_or(1) - 1;
    Ok((
        Array {
            shape: vec![rows, width],
            values: elements,
        },
        Array {
            shape: vec![rows],
            values: labels,
        },
    ))
}

/// Samples of an array of elements and an array of labels, a row each. Labels of several numbers are classes of
/// as many places, unless they are values. `classes`: how many there are, if not one more than the largest label.
///
/// # Errors
/// The arrays have another number of rows, there are no elements, one is not finite, or a label is no class
/// (the message says which row).
pub fn samples(
    x: &Array,
    y: &Array,
    values: bool,
    classes: Option<u32>,
) -> anyhow::Result<(LabelKind, Vec<Sample>)> {
    ensure!(
        x.rows() == y.rows(),
        "there are {} samples and {} labels",
        x.rows(),
        y.rows()
    );
    let (width, label_width) = (x.row_len(), y.row_len());
    ensure!(
        x.rows() > 0 && width > 0,
        "there are {} samples of {width} elements; at least one of one is needed",
        x.rows()
    );
    ensure!(label_width > 0, "the labels have no numbers");
    let mut largest = 0;
    let mut samples = Vec::with_capacity(x.rows());
    let rows = x.values.chunks(width).zip(y.values.chunks(label_width));
    for (row, (elements, label)) in rows.enumerate() {
        ensure!(
            elements.iter().chain(label).all(|value| value.is_finite()),
            "sample {row} has something that is no finite number"
        );
        let label = if values {
            Label::Values(label.iter().map(|&value| value as f32).collect())
        } else {
            let allowed = classes.map_or(f64::from(i32::MAX), f64::from);
            for &class in label {
                ensure!(
                    class.fract() == 0.0 && (0.0..allowed).contains(&class),
                    "sample {row} has label {class}; a class is a whole number from 0 to {allowed} exclusive \
                     (--targets values takes any number)"
                );
                largest = largest.max(class as u32);
            }
            match label {
                [class] => Label::Class(*class as i64),
                places => Label::Classes(places.iter().map(|&class| class as i64).collect()),
            }
        };
        let elements = elements.iter().map(|&element| element as f32).collect();
        samples.push(Sample { label, elements });
    }
    let numbers = u32::try_from(label_width)?;
    let kind = match numbers {
        _ if values => LabelKind::Values(numbers),
        1 => LabelKind::Class(classes.unwrap_or(largest + 1)),
        _ => LabelKind::Classes(numbers),
    };
    Ok((kind, samples))
}

/// Puts samples into a random order (Fisher-Yates) and takes the last `share` of them away.
#[must_use]
pub fn split(mut samples: Vec<Sample>, share: f64, seed: u64) -> (Vec<Sample>, Vec<Sample>) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    for last in (1..samples.len()).rev() {
        let below = ((u128::from(random.next_u64()) * (last as u128 + 1)) >> 64) as usize;
        samples.swap(last, below);
    }
    let away = (samples.len() as f64 * share).round() as usize;
    let held_out = samples.split_off(samples.len() - away.min(samples.len()));
    (samples, held_out)
}

/// Mean and standard deviation of each channel, the equal parts of a sample; a channel that never changes
/// has deviation 1.
#[must_use]
pub fn statistics(samples: &[Sample], channels: usize) -> Vec<Normalisation> {
    let width = samples.first().map_or(0, |sample| sample.elements.len());
    let length = (width / channels.max(1)).max(1);
    let of_channel = |channel: usize| {
        let all = || {
            samples
                .iter()
                .filter_map(move |sample| sample.elements.chunks(length).nth(channel))
                .flatten()
                .map(|&element| f64::from(element))
        };
        let count = (samples.len() * length) as f64;
        let mean = all().sum::<f64>() / count;
        let variance = all().map(|element| (element - mean).powi(2)).sum::<f64>() / count;
        Normalisation {
            mean: mean as f32,
            deviation: if variance > 0.0 {
                variance.sqrt() as f32
            } else {
                1.0
            },
        }
    };
    (0..channels).map(of_channel).collect()
}

/// Normalises samples, channel by channel.
pub fn normalise(samples: &mut [Sample], channels: &[Normalisation]) {
    for sample in samples {
        let length = (sample.elements.len() / channels.len().max(1)).max(1);
        for (part, channel) in sample.elements.chunks_mut(length).zip(channels) {
            for element in part {
                *element = (*element - channel.mean) / channel.deviation;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(shape: &[usize], values: &[f64]) -> Array {
        Array {
            shape: shape.to_vec(),
            values: values.to_vec(),
        }
    }

    #[test]
    fn a_table_becomes_samples_with_or_without_names() {
        for text in ["a,b,class\n1,2,0\n3,4,1\n", "1,2,0\n\n3,4,1"] {
            let (x, y) = table(text, None).unwrap();
            assert_eq!(
                (x, y),
                (
                    array(&[2, 2], &[1.0, 2.0, 3.0, 4.0]),
                    array(&[2], &[0.0, 1.0])
                )
            );
        }
        let (x, y) = table("7,1\n8,2", Some(0)).unwrap();
        assert_eq!((x.values, y.values), (vec![1.0, 2.0], vec![7.0, 8.0]));
        for (text, column, part) in [
            ("1,2\n3,x", None, "line 2"),
            ("1,2\n3", None, "line 2 has 1 columns"),
            ("1,2", Some(2), "there are 2 columns"),
        ] {
            let error = table(text, column).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn labels_are_classes_or_values() {
        let x = array(&[2, 1], &[0.5, 1.5]);
        let (kind, found) = samples(&x, &array(&[2], &[0.0, 3.0]), false, None).unwrap();
        assert_eq!(
            (kind, &found[1].label),
            (LabelKind::Class(4), &Label::Class(3))
        );
        let (kind, found) =
            samples(&x, &array(&[2, 2], &[0.0, 3.0, 0.5, 1.0]), true, None).unwrap();
        assert_eq!(kind, LabelKind::Values(2));
        assert_eq!(found[1].label, Label::Values(vec![0.5, 1.0]));
        let (kind, found) =
            samples(&x, &array(&[2, 2], &[0.0, 3.0, 5.0, 1.0]), false, None).unwrap();
        assert_eq!(kind, LabelKind::Classes(2));
        assert_eq!(found[1].label, Label::Classes(vec![5, 1]));
        for (y, classes, part) in [
            (array(&[2], &[0.0, 0.5]), None, "sample 1 has label 0.5"),
            (array(&[2], &[0.0, 3.0]), Some(3), "0 to 3 exclusive"),
            (array(&[1], &[0.0]), None, "2 samples and 1 labels"),
            (
                array(&[2], &[f64::NAN, 0.0]),
                None,
                "sample 0 has something",
            ),
            (
                array(&[2, 2], &[0.0, 1.0, 2.0, 0.5]),
                None,
                "sample 1 has label 0.5",
            ),
            (array(&[2, 0], &[]), None, "no numbers"),
        ] {
            let error = samples(&x, &y, false, classes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn normalised_channels_have_mean_0_and_deviation_1() {
        let sample = |elements: [f32; 4]| Sample {
            label: Label::Class(0),
            elements: elements.to_vec(),
        };
        let mut samples = vec![sample([1.0, 3.0, 7.0, 7.0]), sample([1.0, 3.0, 7.0, 7.0])];
        let channels = statistics(&samples, 2);
        assert_eq!((channels[0].mean, channels[0].deviation), (2.0, 1.0));
        assert_eq!((channels[1].mean, channels[1].deviation), (7.0, 1.0));
        normalise(&mut samples, &channels);
        assert_eq!(samples[0].elements, [-1.0, 1.0, 0.0, 0.0]);
    }
}
