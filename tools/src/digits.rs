//! The digits data set: 1797 grey images of handwritten digits, 8x8, for the demo and the tests.
//!
//! The test part of *Optical Recognition of Handwritten Digits* (E. Alpaydin, C. Kaynak, UCI Machine Learning
//! Repository, 1998, doi:10.24432/C50P49), as the package scikit-learn carries it: 1797 lines of 64 grey
//! values from 0 to 16 and a label. They are divided by 16, put into a random order from a fixed seed, and
//! split into samples to train with and samples held out.

use crate::records::{self, Label, LabelKind, Sample};
use crate::wheel::{self, Wheel};
use crate::{cache, progress};
use anyhow::{Context, ensure};
use flate2::read::GzDecoder;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Name of the folder in the cache; its number changes when the content does.
const FOLDER: &str = "digits-1";
/// The data is the same in the wheel of every architecture, so one is pinned.
const WHEEL: Wheel = Wheel {
    package: "scikit-learn",
    version: "1.7.2",
    architecture: "x86_64",
    sha256: "89877e19a80c7b11a2891a27c21c4894fb18e2c2e077815bcade10d34287b20d",
};
const MEMBER: &str = "sklearn/datasets/data/digits.csv.gz";
const SAMPLES: usize = 1797;
const PIXELS: usize = 64;
const GREY_MAX: f32 = 16.0;
const CLASSES: LabelKind = LabelKind::Class(10);
/// Samples to train with; the other 297 are held out.
const TRAIN: usize = 1500;
const SPLIT_SEED: u64 = 7;

/// The data set as files for the runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digits {
    /// 1500 samples to train with.
    pub train: PathBuf,
    /// 297 samples that training never sees.
    pub held_out: PathBuf,
}

/// Makes sure that the data set is in fulcrum's cache. Does nothing when it is there already; otherwise
/// downloads about 10 MB, with a sign of life on a terminal.
///
/// # Errors
/// As [`Wheel::fetch`] and [`cache::publish`].
pub fn install() -> anyhow::Result<Digits> {
    let folder = cache::publish(&cache::folder()?, FOLDER, |staging| {
        let spinner = progress::spinner("downloading the digits data set");
        let content = WHEEL
            .fetch(staging)
            .context("cannot fetch the digits data set")?;
        let table = wheel::member(&content, MEMBER)?;
        let mut text = String::new();
        GzDecoder::new(table.as_slice())
            .read_to_string(&mut text)
            .with_context(|| format!("cannot decompress {MEMBER}"))?;
        let samples = parse(&text).with_context(|| format!("cannot read {MEMBER}"))?;
        ensure!(
            samples.len() == SAMPLES,
            "{MEMBER} has {} samples, not {SAMPLES}",
            samples.len()
        );
        let (train, held_out) = split(samples);
        let files = Digits::in_folder(staging);
        cache::write_durably(&files.train, &records::encode(CLASSES, &[], &train)?)?;
        cache::write_durably(&files.held_out, &records::encode(CLASSES, &[], &held_out)?)?;
        spinner.finish_and_clear();
        Ok(())
    })?;
    Ok(Digits::in_folder(&folder))
}

impl Digits {
    fn in_folder(folder: &Path) -> Self {
        Self {
            train: folder.join("train.rec"),
            held_out: folder.join("held-out.rec"),
        }
    }
}

/// Lines of 64 grey values and a label, separated by commas.
fn parse(text: &str) -> anyhow::Result<Vec<Sample>> {
    let lines = text.lines().enumerate();
    lines
        .map(|(index, line)| parse_line(line).with_context(|| format!("line {}", index + 1)))
        .collect()
}

fn parse_line(line: &str) -> anyhow::Result<Sample> {
    let numbers = line.split(',').map(|text| text.trim().parse::<f32>());
    let mut numbers = numbers.collect::<Result<Vec<f32>, _>>()?;
    ensure!(
        numbers.len() == PIXELS + 1,
        "has {} columns, not {}",
        numbers.len(),
        PIXELS + 1
    );
    let label = numbers.pop().unwrap_or_default();
    for grey in &mut numbers {
        ensure!(
            (0.0..=GREY_MAX).contains(grey),
            "has grey value {grey}, allowed is 0 to {GREY_MAX}"
        );
        *grey /= GREY_MAX;
    }
    ensure!(label.fract() == 0.0, "has label {label}, which is no class");
    Ok(Sample {
        // `records::encode` checks its range.
        label: Label::Class(label as i64),
        elements: numbers,
    })
}

/// Puts the samples into a random order (Fisher-Yates) and splits them.
fn split(mut samples: Vec<Sample>) -> (Vec<Sample>, Vec<Sample>) {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(SPLIT_SEED);
    for last in (1..samples.len()).rev() {
        let below = ((u128::from(random.next_u64()) * (last as u128 + 1)) >> 64) as usize;
        samples.swap(last, below);
    }
    let held_out = samples.split_off(TRAIN.min(samples.len()));
    (samples, held_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: usize) -> Vec<Sample> {
        let sample = |index| Sample {
            label: Label::Class((index % 10) as i64),
            elements: vec![index as f32],
        };
        (0..count).map(sample).collect()
    }

    #[test]
    fn every_sample_is_in_one_part_and_both_have_all_classes() {
        let (train, held_out) = split(numbered(SAMPLES));
        assert_eq!((train.len(), held_out.len()), (1500, 297));
        let mut all: Vec<usize> = train
            .iter()
            .chain(&held_out)
            .map(|sample| sample.elements[0] as usize)
            .collect();
        assert_ne!(all, (0..SAMPLES).collect::<Vec<_>>());
        all.sort_unstable();
        assert_eq!(all, (0..SAMPLES).collect::<Vec<_>>());
        for class in 0..10 {
            assert!(
                held_out
                    .iter()
                    .filter(|sample| sample.label == Label::Class(class))
                    .count()
                    > 10
            );
        }
    }

    #[test]
    fn the_split_is_the_same_every_time() {
        assert_eq!(split(numbered(SAMPLES)), split(numbered(SAMPLES)));
    }

    #[test]
    fn a_line_becomes_a_sample() {
        let line = format!("{}16.0,8.0,3.0", "0.0,".repeat(62));
        let sample = parse_line(&line).unwrap();
        assert_eq!(sample.label, Label::Class(3));
        assert_eq!(sample.elements[62..], [1.0, 0.5]);
        assert_eq!(sample.elements.len(), 64);
    }

    #[test]
    fn a_wrong_line_is_refused_by_number() {
        let good = format!("{}3", "0,".repeat(64));
        let says = |bad: &str, expected: &str| {
            let error = format!("{:#}", parse(&format!("{good}\n{bad}\n")).unwrap_err());
            assert!(
                error.starts_with("line 2: ") && error.contains(expected),
                "{error}"
            );
        };
        says("1,2", "has 2 columns, not 65");
        says(&good.replacen('0', "17", 1), "has grey value 17");
        says(&good.replacen('0', "x", 1), "invalid float");
        says(&format!("{}3.5", "0,".repeat(64)), "label 3.5");
    }
}
