//! A file of samples. The format is documented in `docs/data-format.md`.

use super::error::{DataError, DataProblem};
use super::format::{CLASS, CLASSES, LabelKind, VALUES, VERSION};
use super::mapping::Mapping;
use fulcrum_plan::wire;
use std::fs::File;
use std::path::Path;

const MAGIC: [u8; 4] = *b"FREC";
/// Bytes before the normalisation.
const FIXED_BYTES: usize = 20;
const CLASS_BYTES: usize = 8;
const CRC_BYTES: usize = 4;
/// Of a cache line.
const LINE_BYTES: usize = 64;
/// Of a record, what is asked for ahead; a processor that copies a longer one does the same by itself.
const TOUCHED_BYTES: usize = 512;

/// Samples and their labels, read only.
///
/// A file is mapped, not copied. It is read once as a whole when it is opened, to be checked, so its pages
/// are in memory before the loop begins; [`residency::keep`](crate::engine::residency::keep) locks them
/// there if the process may. Otherwise a board that runs out of memory may drop pages, and the loop then
/// waits for the disk.
#[derive(Debug)]
pub struct Records {
    bytes: Bytes,
    layout: Layout,
}

/// Where the bytes of a file are.
#[derive(Debug)]
enum Bytes {
    Owned(Vec<u8>),
    Mapped(Mapping),
}

impl std::ops::Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Mapped(mapping) => mapping.bytes(),
        }
    }
}

/// What a header says.
#[derive(Clone, Copy, Debug)]
struct Layout {
    header_bytes: usize,
    count: u32,
    elements: usize,
    labels: LabelKind,
}

impl Layout {
    fn label_bytes(&self) -> usize {
        match self.labels {
            LabelKind::Class(_) => CLASS_BYTES,
            LabelKind::Values(values) => 4 * values as usize,
            LabelKind::Classes(classes) => CLASS_BYTES * classes as usize,
        }
    }

    fn stride(&self) -> usize {
        self.label_bytes() + 4 * self.elements + CRC_BYTES
    }
}

impl Records {
    /// Maps and checks a file.
    ///
    /// # Errors
    /// When it cannot be read, or [`Self::decode`] refuses it.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let mapping = File::open(path).and_then(|file| Mapping::of(&file));
        mapping
            .map_err(DataProblem::Io)
            .and_then(|mapping| {
                Self::checked(mapping.map_or(Bytes::Owned(Vec::new()), Bytes::Mapped))
            })
            .map_err(|problem| DataError {
                path: path.to_owned(),
                problem,
            })
    }

    /// Checks the bytes of a file.
    ///
    /// # Errors
    /// They are not exactly what the format says; a damaged record is named.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, DataProblem> {
        Self::checked(Bytes::Owned(bytes))
    }

    fn checked(bytes: Bytes) -> Result<Self, DataProblem> {
        let layout = header(&bytes)?;
        let body = bytes.len() - layout.header_bytes;
        let whole = body / layout.stride();
        if whole < layout.count as usize {
            return Err(DataProblem::Short {
                record: whole as u32,
                count: layout.count,
            });
        }
        let trailing = body - layout.count as usize * layout.stride();
        if trailing > 0 {
            return Err(DataProblem::TrailingBytes {
                bytes: trailing as u64,
            });
        }
        let records = Self { bytes, layout };
        for record in 0..layout.count {
            records.check(record)?;
        }
        Ok(records)
    }

    fn check(&self, record: u32) -> Result<(), DataProblem> {
        let (body, checksum) = self
            .record(record)
            .split_at(self.layout.stride() - CRC_BYTES);
        if wire::checksum(body).to_le_bytes() != checksum {
            return Err(DataProblem::Torn { record });
        }
        let classes = match self.layout.labels {
            LabelKind::Class(classes) => classes,
            LabelKind::Classes(_) => u32::MAX,
            LabelKind::Values(_) => return Ok(()),
        };
        let mut labels = self.classes(record);
        match labels.find(|label| !(0..i64::from(classes)).contains(label)) {
            None => Ok(()),
            Some(found) => Err(DataProblem::Label {
                record,
                found,
                classes,
            }),
        }
    }

    /// Number of samples, at least 1.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.layout.count
    }

    /// Elements per sample, at least 1.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.layout.elements
    }

    /// CRC-32/ISCSI of the whole file: tells one set of samples from another.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        wire::checksum(&self.bytes)
    }

    /// What the labels are.
    #[must_use]
    pub fn labels(&self) -> LabelKind {
        self.layout.labels
    }

    /// Fails unless the labels are what a training step takes for a sample: a class, or this many classes or
    /// values. A class also does for one value, as its number. `path` is for the error.
    ///
    /// # Errors
    /// [`DataProblem::Targets`].
    pub fn expect_labels(&self, expected: LabelKind, path: &Path) -> Result<(), DataError> {
        let found = self.layout.labels;
        match (expected, found) {
            (LabelKind::Class(_) | LabelKind::Values(1), LabelKind::Class(_)) => Ok(()),
            (LabelKind::Values(expected), LabelKind::Values(found))
            | (LabelKind::Classes(expected), LabelKind::Classes(found))
                if expected == found =>
            {
                Ok(())
            }
            _ => Err(DataError {
                path: path.to_owned(),
                problem: DataProblem::Targets { expected, found },
            }),
        }
    }

    /// Fails unless every label is below the number of classes that a training step has
    /// ([`classes`](crate::engine::TrainingSession::classes)); a step trains on none of the others, and its loss does not
    /// tell. Labels that are values pass, and so do all where a step does not say. `path` is for the error.
    ///
    /// # Errors
    /// [`DataProblem::Class`].
    pub fn expect_classes(&self, classes: Option<u32>, path: &Path) -> Result<(), DataError> {
        let Some(classes) = classes else {
            return Ok(());
        };
        if matches!(self.layout.labels, LabelKind::Class(count) if count <= classes) {
            return Ok(());
        }
        let beyond = (0..self.layout.count).find_map(|record| {
            let mut labels = self.classes(record);
            let found = labels.find(|label| *label >= i64::from(classes))?;
            Some((record, found))
        });
        match beyond {
            None => Ok(()),
            Some((record, found)) => Err(DataError {
                path: path.to_owned(),
                problem: DataProblem::Class {
                    record,
                    found,
                    classes,
                },
            }),
        }
    }

    /// Fails unless samples have this many elements; `path` is for the error.
    ///
    /// # Errors
    /// [`DataProblem::Elements`].
    pub fn expect_elements(&self, expected: usize, path: &Path) -> Result<(), DataError> {
        if self.layout.elements == expected {
            return Ok(());
        }
        Err(DataError {
            path: path.to_owned(),
            problem: DataProblem::Elements {
                expected,
                found: self.layout.elements,
            },
        })
    }

    /// The class of a sample, the first of several; of a label that has values, the first one rounded. Does not
    /// allocate.
    ///
    /// # Panics
    /// When there is no such sample.
    #[must_use]
    pub fn label(&self, index: u32) -> i64 {
        let rounded = || self.values(index).next().map(|value| value.round() as i64);
        self.classes(index).next().or_else(rounded).unwrap_or(0)
    }

    /// The classes of a sample's label, one or several; none where it has values. Does not allocate.
    ///
    /// # Panics
    /// When there is no such sample.
    pub fn classes(&self, index: u32) -> impl Iterator<Item = i64> {
        let bytes = match self.layout.labels {
            LabelKind::Class(_) | LabelKind::Classes(_) => self.label_bytes(index),
            LabelKind::Values(_) => &[],
        };
        let words = bytes.as_chunks::<CLASS_BYTES>().0.iter();
        words.map(|word| i64::from_le_bytes(*word))
    }

    /// The values of a sample's label; a class is a value. Does not allocate.
    ///
    /// # Panics
    /// When there is no such sample.
    pub fn values(&self, index: u32) -> impl Iterator<Item = f32> {
        let values = match self.layout.labels {
            LabelKind::Class(_) | LabelKind::Classes(_) => &[],
            LabelKind::Values(_) => self.label_bytes(index),
        };
        let classes = self.classes(index).map(|class| class as f32);
        classes.chain(floats(values))
    }

    fn label_bytes(&self, index: u32) -> &[u8] {
        &self.record(index)[..self.layout.label_bytes()]
    }

    /// Copies a sample; what does not fit into `sample` is left out. Does not allocate.
    ///
    /// # Panics
    /// When there is no such sample.
    pub fn copy_sample(&self, index: u32, sample: &mut [f32]) {
        let record = self.record(index);
        let elements = &record[self.layout.label_bytes()..record.len() - CRC_BYTES];
        for (to, from) in sample.iter_mut().zip(floats(elements)) {
            *to = from;
        }
    }

    /// Reads a byte of each cache line of samples that are copied next, so that a processor waits for all of them at
    /// once, not for one after the other. Does not allocate.
    ///
    /// # Panics
    /// When there is no such sample.
    pub fn touch(&self, indices: impl Iterator<Item = u32> + Clone) {
        let stride = self.layout.stride();
        let records = &self.bytes[self.layout.header_bytes..];
        let mut bytes = 0;
        for line in (0..stride.min(TOUCHED_BYTES)).step_by(LINE_BYTES) {
            for index in indices.clone() {
                bytes ^= records[index as usize * stride + line];
            }
        }
        std::hint::black_box(bytes);
    }

    fn record(&self, index: u32) -> &[u8] {
        let Layout { count, .. } = self.layout;
        assert!(index < count, "record {index} of {count}");
        let start = self.layout.header_bytes + index as usize * self.layout.stride();
        &self.bytes[start..start + self.layout.stride()]
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    let words = bytes.as_chunks::<4>().0.iter();
    words.map(|word| f32::from_le_bytes(*word))
}

fn header(bytes: &[u8]) -> Result<Layout, DataProblem> {
    if !bytes.starts_with(&MAGIC) {
        return Err(DataProblem::Magic);
    }
    let fixed: &[u8; FIXED_BYTES] = bytes.first_chunk().ok_or(DataProblem::Header)?;
    let version = u16::from_le_bytes([fixed[4], fixed[5]]);
    if version == 0 || version > VERSION {
        return Err(DataProblem::Version { found: version });
    }
    let (kind, channels) = (fixed[6], usize::from(fixed[7]));
    let field =
        |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
    let (count, elements, per_label) = (field(8), field(12), field(16));
    let labels = match kind {
        CLASS => LabelKind::Class(per_label),
        VALUES if version > 1 => LabelKind::Values(per_label),
        CLASSES if version > 1 => LabelKind::Classes(per_label),
        _ => return Err(DataProblem::Header),
    };
    let header_bytes = FIXED_BYTES + 8 * channels + CRC_BYTES;
    let header = bytes.get(..header_bytes).ok_or(DataProblem::Header)?;
    let (body, checksum) = header.split_at(header_bytes - CRC_BYTES);
    let allowed = count > 0
        && elements > 0
        && per_label > 0
        && (version > 1 || channels == 0)
        && (channels == 0 || (elements as usize).is_multiple_of(channels));
    if wire::checksum(body).to_le_bytes() != checksum || !allowed {
        return Err(DataProblem::Header);
    }
    Ok(Layout {
        header_bytes,
        count,
        elements: elements as usize,
        labels,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Of a file without normalisation.
    const HEADER_BYTES: usize = FIXED_BYTES + CRC_BYTES;

    /// A file as the format says, written here a second time so that reader and writer cannot share a mistake.
    pub(in crate::data) fn encoded<const N: usize>(
        classes: u32,
        elements: u32,
        samples: &[(i64, [f32; N])],
    ) -> Vec<u8> {
        let mut bytes = b"FREC\x01\x00\x01\x00".to_vec();
        bytes.extend((samples.len() as u32).to_le_bytes());
        bytes.extend(elements.to_le_bytes());
        bytes.extend(classes.to_le_bytes());
        bytes.extend(wire::checksum(&bytes).to_le_bytes());
        for (label, sample) in samples {
            let mut record = label.to_le_bytes().to_vec();
            record.extend(sample.iter().flat_map(|value| value.to_le_bytes()));
            record.extend(wire::checksum(&record).to_le_bytes());
            bytes.extend(record);
        }
        bytes
    }

    fn good() -> Vec<u8> {
        encoded(10, 2, &[(3, [0.5, -1.0]), (9, [0.0, 2.0]), (0, [1.0, 1.0])])
    }

    #[test]
    fn samples_and_labels_are_read_back() {
        let records = Records::decode(good()).unwrap();
        assert_eq!(
            (records.count(), records.elements(), records.labels()),
            (3, 2, LabelKind::Class(10))
        );
        let mut sample = [0.0; 2];
        records.copy_sample(1, &mut sample);
        assert_eq!((records.label(1), sample), (9, [0.0, 2.0]));
    }

    #[test]
    fn the_documents_example_is_read() {
        let document = include_str!("../../../docs/data-format.md");
        let example = document.split("```text").nth(1).unwrap();
        let bytes = example.split("```").next().unwrap().split_whitespace();
        let bytes = bytes
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        let records = Records::decode(bytes).unwrap();
        assert_eq!(
            (records.count(), records.elements(), records.labels()),
            (2, 2, LabelKind::Class(3))
        );
        let mut samples = [[0.0; 2]; 2];
        for (index, sample) in (0..).zip(&mut samples) {
            records.copy_sample(index, sample);
        }
        assert_eq!([records.label(0), records.label(1)], [2, 0]);
        assert_eq!(samples, [[0.5, -1.0], [0.0, 0.25]]);
    }

    #[test]
    fn a_short_file_is_refused_with_the_first_record_that_is_cut_off() {
        let good = good();
        for length in HEADER_BYTES..good.len() {
            let expected = ((length - HEADER_BYTES) / 20) as u32;
            let error = Records::decode(good[..length].to_vec()).unwrap_err();
            assert!(
                matches!(error, DataProblem::Short { record, count: 3 } if record == expected),
                "{length} bytes: {error:?}"
            );
        }
        for length in 4..HEADER_BYTES {
            let error = Records::decode(good[..length].to_vec()).unwrap_err();
            assert!(
                matches!(error, DataProblem::Header),
                "{length} bytes: {error:?}"
            );
        }
    }

    #[test]
    fn a_damaged_record_is_refused_by_its_number() {
        let good = good();
        for bit in 8 * HEADER_BYTES..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let expected = ((bit / 8 - HEADER_BYTES) / 20) as u32;
            let error = Records::decode(bad).unwrap_err();
            assert!(
                matches!(error, DataProblem::Torn { record } if record == expected),
                "bit {bit}: {error:?}"
            );
        }
    }

    #[test]
    fn every_flipped_bit_of_the_header_is_refused() {
        let good = good();
        for bit in 0..8 * HEADER_BYTES {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Records::decode(bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn each_fault_has_its_error() {
        let folder = Records::open(&std::env::temp_dir()).unwrap_err();
        assert!(folder.to_string().ends_with("is a directory"), "{folder}");
        assert!(matches!(
            Records::decode(b"PNG".to_vec()),
            Err(DataProblem::Magic)
        ));
        let mut newer = good();
        newer[4] = 3;
        assert!(matches!(
            Records::decode(newer),
            Err(DataProblem::Version { found: 3 })
        ));
        let mut long = good();
        long.push(0);
        assert!(matches!(
            Records::decode(long),
            Err(DataProblem::TrailingBytes { bytes: 1 })
        ));
        let label = encoded(3, 1, &[(0, [0.0]), (3, [0.0])]);
        assert!(matches!(
            Records::decode(label),
            Err(DataProblem::Label {
                record: 1,
                found: 3,
                classes: 3
            })
        ));
        let none: &[(i64, [f32; 1])] = &[];
        assert!(matches!(
            Records::decode(encoded(3, 1, none)),
            Err(DataProblem::Header)
        ));
    }

    #[test]
    fn samples_of_another_size_are_refused_by_name() {
        let records = Records::decode(good()).unwrap();
        assert!(records.expect_elements(2, Path::new("d.rec")).is_ok());
        let error = records
            .expect_elements(64, Path::new("d.rec"))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "data file d.rec: its samples have 2 elements, the model takes 64"
        );
    }

    #[test]
    fn values_and_normalised_classes_are_read_and_their_damage_is_found() {
        let document = include_str!("../../../docs/data-format.md");
        let example = |number: usize| -> Vec<u8> {
            let block = document.split("```text").nth(number + 1).unwrap();
            let block = block.split("```").next().unwrap().split_whitespace();
            block
                .map(|byte| u8::from_str_radix(byte, 16).unwrap())
                .collect()
        };
        let mut sample = [0.0; 2];
        let records = Records::decode(example(0)).unwrap();
        assert_eq!(
            (records.count(), records.labels()),
            (2, LabelKind::Class(3))
        );
        records.copy_sample(1, &mut sample);
        assert_eq!((records.label(0), sample), (2, [0.0, 0.25]));
        let records = Records::decode(example(1)).unwrap();
        assert_eq!(records.labels(), LabelKind::Values(1));
        records.copy_sample(0, &mut sample);
        assert_eq!(sample, [0.5, -1.0]);
        assert_eq!(records.values(0).collect::<Vec<_>>(), [1.5]);
        for good in [example(0), example(1)] {
            for bit in 0..8 * good.len() {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(Records::decode(bad).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn labels_of_another_kind_than_the_targets_are_refused() {
        let records = Records::decode(good()).unwrap();
        let expect = |labels| records.expect_labels(labels, Path::new("d.rec"));
        assert!(expect(LabelKind::Class(0)).is_ok() && expect(LabelKind::Values(1)).is_ok());
        let error = expect(LabelKind::Values(2)).unwrap_err().to_string();
        assert!(error.contains("takes 2 values"), "{error}");
    }

    #[test]
    fn a_label_that_a_step_has_no_class_for_is_refused_with_its_record() {
        let records =
            Records::decode(encoded(9, 1, &[(2, [0.0]), (5, [0.0]), (0, [0.0])])).unwrap();
        let expect = |classes| records.expect_classes(classes, Path::new("d.rec"));
        // The header allows 9 classes, and no label needs more than 6.
        for enough in [None, Some(9), Some(6)] {
            assert!(expect(enough).is_ok(), "{enough:?}");
        }
        let error = expect(Some(5)).unwrap_err().to_string();
        assert!(
            error.contains("record 1 has label 5, the training step has 5 classes, 0 to 4"),
            "{error}"
        );
    }
}
