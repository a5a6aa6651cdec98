//! `fulcrum pack-data`: a data file for `fulcrumd` out of NumPy arrays or a table.

use crate::array::Array;
use crate::packing::{self, normalise, statistics};
use crate::records::{self, CHANNELS_MAX, LabelKind, Normalisation, Sample};
use crate::verdict::Verdict;
use anyhow::{Context, bail, ensure};
use fulcrum_plan::durable::replace_file;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Options of `fulcrum pack-data`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Samples: an .npz with arrays of samples and labels, an .npy (with --labels), or a .csv of numbers
    source: PathBuf,
    /// Labels of an .npy, a second one
    #[arg(long, value_name = "FILE.npy")]
    labels: Option<PathBuf>,
    /// Name of the samples in an .npz
    #[arg(long, value_name = "NAME", default_value = "x")]
    x: String,
    /// Name of the labels in an .npz
    #[arg(long, value_name = "NAME", default_value = "y")]
    y: String,
    /// Column of the label in a .csv, counted from 0 [default: the last]
    #[arg(long, value_name = "N")]
    label_column: Option<usize>,
    /// What labels are: class, or values (regression, bce)
    #[arg(long, value_name = "KIND", default_value = "class")]
    targets: Targets,
    /// Number of classes [default: the largest label and one]
    #[arg(long, value_name = "N")]
    classes: Option<u32>,
    /// Divide every element by this first, such as 255
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    scale: f64,
    /// none, computed (from the samples to train with), or MEAN,DEVIATION for each channel
    #[arg(long, value_name = "HOW", default_value = "none", value_parser = normalisation)]
    normalize: Normalize,
    /// Equal parts of a sample that are normalised each by itself, such as 3 for colours, channels first
    #[arg(long, value_name = "N", default_value_t = 1)]
    channels: usize,
    /// Where to write the samples to train with
    #[arg(long, value_name = "FILE.rec")]
    out: PathBuf,
    /// Where to write those held out
    #[arg(long, value_name = "FILE.rec")]
    held_out: Option<PathBuf>,
    /// Share of the samples that is held out, with --held-out
    #[arg(
        long,
        value_name = "SHARE",
        default_value_t = 0.2,
        requires = "held_out"
    )]
    share: f64,
    /// Seed of the samples' order and of the split
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Targets {
    Class,
    Values,
}

#[derive(Clone, Debug, PartialEq)]
enum Normalize {
    None,
    Computed,
    Given(Vec<Normalisation>),
}

fn normalisation(text: &str) -> Result<Normalize, String> {
    match text {
        "none" => return Ok(Normalize::None),
        "computed" => return Ok(Normalize::Computed),
        _ => {}
    }
    let numbers: Result<Vec<f32>, _> = text.split(',').map(str::parse).collect();
    let numbers = numbers.unwrap_or_default();
    let (pairs, rest) = numbers.as_chunks::<2>();
    let good = pairs
        .iter()
        .all(|[mean, deviation]| mean.is_finite() && *deviation > 0.0 && deviation.is_finite());
    if pairs.is_empty() || !rest.is_empty() || !good {
        return Err(
            "allowed is none, computed, or MEAN,DEVIATION for each channel, deviations above 0"
                .to_owned(),
        );
    }
    let channel = |[mean, deviation]: &[f32; 2]| Normalisation {
        mean: *mean,
        deviation: *deviation,
    };
    Ok(Normalize::Given(pairs.iter().map(channel).collect()))
}

/// Runs the command.
///
/// # Errors
/// A source that cannot be read, samples and labels that do not fit each other (the message names the
/// sample), an option out of its range, or a file that cannot be written; no file is then half-written.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let Arguments {
        share,
        scale,
        channels,
        seed,
        ..
    } = *arguments;
    ensure!(
        (0.0..1.0).contains(&share) && share > 0.0,
        "--share {share}: allowed is above 0 and below 1"
    );
    ensure!(
        scale.is_finite() && scale != 0.0,
        "--scale {scale}: allowed is any number but 0"
    );
    ensure!(
        (1..=CHANNELS_MAX).contains(&channels),
        "--channels {channels}: allowed is 1 to {CHANNELS_MAX}"
    );
    let source = arguments.source.display();
    let (mut x, y) = read(arguments)?;
    for element in &mut x.values {
        *element /= scale;
    }
    let values = arguments.targets == Targets::Values;
    let (kind, samples) =
        packing::samples(&x, &y, values, arguments.classes).with_context(|| source.to_string())?;
    let share = arguments.held_out.as_ref().map_or(0.0, |_| share);
    let (mut train, mut held_out) = packing::split(samples, share, seed);
    ensure!(
        !train.is_empty() && (share == 0.0 || !held_out.is_empty()),
        "--share {share}: of {} samples that leaves nothing on one side",
        x.rows()
    );
    let width = x.row_len();
    ensure!(
        width.is_multiple_of(channels),
        "--channels {channels}: a sample of {width} elements cannot be divided so"
    );
    let applied = match &arguments.normalize {
        Normalize::None => Vec::new(),
        Normalize::Computed => statistics(&train, channels),
        Normalize::Given(given) => {
            ensure!(
                given.len() == channels,
                "--normalize has {} channels, --channels {channels}",
                given.len()
            );
            given.clone()
        }
    };
    normalise(&mut train, &applied);
    normalise(&mut held_out, &applied);
    writeln!(
        io::stdout(),
        "{source}: samples of {width} elements, {}",
        said(kind)
    )?;
    for (number, channel) in applied.iter().enumerate() {
        writeln!(
            io::stdout(),
            "channel {number}: mean {}, deviation {}",
            channel.mean,
            channel.deviation
        )?;
    }
    write(&arguments.out, kind, &applied, &train, seed)?;
    if let Some(path) = &arguments.held_out {
        write(path, kind, &applied, &held_out, seed)?;
    }
    Ok(Verdict::Done)
}

fn said(kind: LabelKind) -> String {
    match kind {
        LabelKind::Class(classes) => format!("{classes} classes"),
        LabelKind::Values(1) => "a value each".to_owned(),
        LabelKind::Values(values) => format!("{values} values each"),
    }
}

/// Samples and labels.
fn read(arguments: &Arguments) -> anyhow::Result<(Array, Array)> {
    let source = &arguments.source;
    match source.extension().and_then(|extension| extension.to_str()) {
        Some("npz") => Ok((
            Array::read_member(source, &arguments.x)?,
            Array::read_member(source, &arguments.y)?,
        )),
        Some("npy") => {
            let labels = arguments.labels.as_deref();
            let labels = labels.context("an .npy holds one array: give --labels FILE.npy")?;
            Ok((Array::read(source)?, Array::read(labels)?))
        }
        Some("csv") => packing::read_csv(source, arguments.label_column),
        _ => bail!(
            "{}: samples are read from .npz, .npy and .csv files",
            source.display()
        ),
    }
}

fn write(
    path: &Path,
    kind: LabelKind,
    channels: &[Normalisation],
    samples: &[Sample],
    seed: u64,
) -> anyhow::Result<()> {
    let bytes = records::encode(kind, channels, samples)?;
    replace_file(path, &bytes).with_context(|| path.display().to_string())?;
    writeln!(
        io::stdout(),
        "{}: {} samples, {} bytes, seed {seed}",
        path.display(),
        samples.len(),
        bytes.len()
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_normalisation_is_a_word_or_pairs() {
        assert_eq!(normalisation("computed"), Ok(Normalize::Computed));
        let Ok(Normalize::Given(given)) = normalisation("0.5,0.25,1,2") else {
            panic!("two channels");
        };
        assert_eq!((given.len(), given[1].deviation), (2, 2.0));
        for bad in ["", "1", "1,0", "1,-2", "a,b", "1,2,3", "NaN,1", "0,inf"] {
            assert!(normalisation(bad).unwrap_err().contains("allowed"), "{bad}");
        }
    }
}
