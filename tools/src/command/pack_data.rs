//! `fulcrum pack-data`: a data file for `fulcrumd` out of NumPy arrays, a table or pictures.

use crate::array::Array;
use crate::image::{Color, Size};
use crate::image_folder;
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
    /// Samples: an .npz with arrays of samples and labels, an .npy (with --labels), a .csv of numbers, or a folder
    /// of PNG and JPEG pictures, DIR/CLASS/PICTURE
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
    /// Bring pictures to this size [default: all have the same]
    #[arg(long, value_name = "WxH")]
    resize: Option<Size>,
    /// Bring pictures to one or three channels [default: all have the same]
    #[arg(long, value_name = "COLOR")]
    color: Option<Color>,
    /// What labels are: class (or several, one for each place of a sample), or values (regression, bce)
    #[arg(long, value_name = "KIND", default_value = "class")]
    targets: Targets,
    /// Number of classes [default: the largest label and one; of pictures, the number of folders]
    #[arg(long, value_name = "N")]
    classes: Option<u32>,
    /// Divide every element by this first, such as 255
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    scale: f64,
    /// none, computed (from the samples to train with), or MEAN,DEVIATION for each channel
    #[arg(long, value_name = "HOW", default_value = "none", value_parser = normalisation)]
    normalize: Normalize,
    /// Equal parts of a sample that are normalised each by itself, channels first [default: 1; of pictures, their
    /// channels]
    #[arg(long, value_name = "N")]
    channels: Option<usize>,
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
        share, scale, seed, ..
    } = *arguments;
    ensure!(
        (0.0..1.0).contains(&share) && share > 0.0,
        "--share {share}: allowed is above 0 and below 1"
    );
    ensure!(
        scale.is_finite() && scale != 0.0,
        "--scale {scale}: allowed is any number but 0"
    );
    let source = arguments.source.display();
    ensure!(
        arguments.source.exists(),
        "{source}: no such file or folder"
    );
    let Source {
        kind,
        samples,
        channels,
        about,
    } = if arguments.source.is_dir() {
        pictures(arguments)?
    } else {
        arrays(arguments)?
    };
    let channels = arguments.channels.unwrap_or(channels);
    ensure!(
        (1..=CHANNELS_MAX).contains(&channels),
        "--channels {channels}: allowed is 1 to {CHANNELS_MAX}"
    );
    let count = samples.len();
    let width = samples.first().map_or(0, |sample| sample.elements.len());
    let share = arguments.held_out.as_ref().map_or(0.0, |_| share);
    let (mut train, mut held_out) = packing::split(samples, share, seed);
    ensure!(
        !train.is_empty() && (share == 0.0 || !held_out.is_empty()),
        "--share {share}: of {count} samples that leaves nothing on one side"
    );
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
    for line in about {
        writeln!(io::stdout(), "{line}")?;
    }
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
        LabelKind::Classes(classes) => format!("{classes} classes each"),
    }
}

/// Samples before their order, split and normalisation.
struct Source {
    kind: LabelKind,
    samples: Vec<Sample>,
    /// Parts of a sample that are normalised each by itself, unless another number is asked for.
    channels: usize,
    /// What there is to say of them, a line each.
    about: Vec<String>,
}

/// Samples of a folder of pictures.
fn pictures(arguments: &Arguments) -> anyhow::Result<Source> {
    let source = arguments.source.display();
    ensure!(
        arguments.targets == Targets::Class && arguments.labels.is_none(),
        "{source}: a picture's label is its folder; --targets values and --labels do not go with that"
    );
    let mut found = image_folder::read(&arguments.source, arguments.color, arguments.resize)?;
    let folders = u32::try_from(found.classes.len())?;
    let classes = arguments.classes.unwrap_or(folders);
    ensure!(
        classes >= folders,
        "--classes {classes}: {source} has {folders} folders, a class each"
    );
    for element in found.samples.iter_mut().flat_map(|s| &mut s.elements) {
        *element = (f64::from(*element) / arguments.scale) as f32;
    }
    let names = found.classes.iter().enumerate();
    let mut about = vec![format!("pictures: {}, {} pixels", found.color, found.size)];
    about.extend(names.map(|(number, name)| format!("class {number}: {name}")));
    Ok(Source {
        kind: LabelKind::Class(classes),
        samples: found.samples,
        channels: found.color.channels(),
        about,
    })
}

/// Samples of arrays or a table.
fn arrays(arguments: &Arguments) -> anyhow::Result<Source> {
    let source = arguments.source.display();
    ensure!(
        arguments.resize.is_none() && arguments.color.is_none(),
        "--resize and --color are for folders of pictures, {source} is none"
    );
    let (mut x, y) = read(arguments)?;
    for element in &mut x.values {
        *element /= arguments.scale;
    }
    let values = arguments.targets == Targets::Values;
    let (kind, samples) =
        packing::samples(&x, &y, values, arguments.classes).with_context(|| source.to_string())?;
    Ok(Source {
        kind,
        samples,
        channels: 1,
        about: Vec::new(),
    })
}

/// Arrays of samples and labels.
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
            "{}: samples are read from .npz, .npy and .csv files, and from folders of pictures",
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
