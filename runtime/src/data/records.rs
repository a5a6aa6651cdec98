//! A file of samples. The format is documented in `docs/data-format.md`.

use fulcrum_plan::wire;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

const MAGIC: [u8; 4] = *b"FREC";
const VERSION: u16 = 1;
/// Label kind: a class as int64.
const CLASS: u8 = 1;
const HEADER_BYTES: usize = 24;
const LABEL_BYTES: usize = 8;
const CRC_BYTES: usize = 4;

/// Samples and their labels, read only, all in memory: the loop must not wait for a disk.
#[derive(Debug)]
pub struct Records {
    bytes: Vec<u8>,
    count: u32,
    elements: usize,
    classes: u32,
}

/// Why a file of samples cannot be used.
#[derive(Debug)]
pub struct DataError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub problem: DataProblem,
}

/// What is wrong with a file of samples. Records are counted from 0.
#[derive(Debug)]
#[non_exhaustive]
pub enum DataProblem {
    /// The file system refused.
    Io(io::Error),
    /// It does not begin with `FREC`.
    Magic,
    /// It is of a version this program does not know.
    Version {
        /// Its version.
        found: u16,
    },
    /// Its header is cut off, damaged, or holds a value that is not allowed.
    Header,
    /// It ends before its last record does.
    Short {
        /// The first record that is not whole.
        record: u32,
        /// Number of records by the header.
        count: u32,
    },
    /// Something follows the last record.
    TrailingBytes {
        /// How much.
        bytes: u64,
    },
    /// A record's checksum is wrong.
    Torn {
        /// The first such record.
        record: u32,
    },
    /// A label is not below the number of classes.
    Label {
        /// The first such record.
        record: u32,
        /// Its label.
        found: i64,
        /// Number of classes by the header.
        classes: u32,
    },
    /// Samples of another size than the model's.
    Elements {
        /// Elements per sample in the model.
        expected: usize,
        /// Elements per sample in the file.
        found: usize,
    },
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "data file {}: ", self.path.display())?;
        match &self.problem {
            DataProblem::Io(error) => error.fmt(f),
            DataProblem::Magic => f.write_str("is not a file of samples (no magic `FREC`)"),
            DataProblem::Version { found } => {
                write!(
                    f,
                    "is of version {found}, this program reads version {VERSION}"
                )
            }
            DataProblem::Header => f.write_str("its header is damaged"),
            DataProblem::Short { record, count } => {
                write!(
                    f,
                    "record {record} of {count} is cut off: the file is too short"
                )
            }
            DataProblem::TrailingBytes { bytes } => {
                write!(f, "{bytes} bytes follow the last record")
            }
            DataProblem::Torn { record } => {
                write!(f, "record {record} is damaged: its CRC-32 does not match")
            }
            DataProblem::Label {
                record,
                found,
                classes,
            } => write!(
                f,
                "record {record} has label {found}, allowed is 0 to {classes} exclusive"
            ),
            DataProblem::Elements { expected, found } => {
                write!(
                    f,
                    "its samples have {found} elements, the model takes {expected}"
                )
            }
        }
    }
}

impl std::error::Error for DataError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            DataProblem::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl Records {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// When it cannot be read, or [`Self::decode`] refuses it.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        fs::read(path)
            .map_err(DataProblem::Io)
            .and_then(Self::decode)
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
        let records = Self::header(bytes)?;
        let body = records.bytes.len() - HEADER_BYTES;
        let whole = body / records.stride();
        if whole < records.count as usize {
            return Err(DataProblem::Short {
                record: whole as u32,
                count: records.count,
            });
        }
        let trailing = body - records.count as usize * records.stride();
        if trailing > 0 {
            return Err(DataProblem::TrailingBytes {
                bytes: trailing as u64,
            });
        }
        for record in 0..records.count {
            records.check(record)?;
        }
        Ok(records)
    }

    fn header(bytes: Vec<u8>) -> Result<Self, DataProblem> {
        if !bytes.starts_with(&MAGIC) {
            return Err(DataProblem::Magic);
        }
        let header: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(DataProblem::Header)?;
        let version = u16::from_le_bytes([header[4], header[5]]);
        if version != VERSION {
            return Err(DataProblem::Version { found: version });
        }
        let (body, checksum) = header.split_at(HEADER_BYTES - CRC_BYTES);
        let (kind, reserved) = (header[6], header[7]);
        let field = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let (count, elements, classes) = (field(8), field(12), field(16));
        let allowed = kind == CLASS && reserved == 0 && count > 0 && elements > 0 && classes > 0;
        if wire::checksum(body).to_le_bytes() != checksum || !allowed {
            return Err(DataProblem::Header);
        }
        Ok(Self {
            bytes,
            count,
            elements: elements as usize,
            classes,
        })
    }

    fn check(&self, record: u32) -> Result<(), DataProblem> {
        let (body, checksum) = self.record(record).split_at(self.stride() - CRC_BYTES);
        if wire::checksum(body).to_le_bytes() != checksum {
            return Err(DataProblem::Torn { record });
        }
        let label = self.label(record);
        if (0..i64::from(self.classes)).contains(&label) {
            Ok(())
        } else {
            Err(DataProblem::Label {
                record,
                found: label,
                classes: self.classes,
            })
        }
    }

    /// Number of samples, at least 1.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Elements per sample, at least 1.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// CRC-32/ISCSI of the whole file: tells one set of samples from another.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        wire::checksum(&self.bytes)
    }

    /// Number of classes; labels are below it.
    #[must_use]
    pub fn classes(&self) -> u32 {
        self.classes
    }

    /// Fails unless samples have this many elements; `path` is for the error.
    ///
    /// # Errors
    /// [`DataProblem::Elements`].
    pub fn expect_elements(&self, expected: usize, path: &Path) -> Result<(), DataError> {
        if self.elements == expected {
            return Ok(());
        }
        Err(DataError {
            path: path.to_owned(),
            problem: DataProblem::Elements {
                expected,
                found: self.elements,
            },
        })
    }

    /// The label of a sample. Does not allocate.
    ///
    /// # Panics
    /// When there is no such sample.
    #[must_use]
    pub fn label(&self, index: u32) -> i64 {
        let mut label = [0; LABEL_BYTES];
        label.copy_from_slice(&self.record(index)[..LABEL_BYTES]);
        i64::from_le_bytes(label)
    }

    /// Copies a sample; what does not fit into `sample` is left out. Does not allocate.
    ///
    /// # Panics
    /// When there is no such sample.
    pub fn copy_sample(&self, index: u32, sample: &mut [f32]) {
        let record = self.record(index);
        let elements = &record[LABEL_BYTES..record.len() - CRC_BYTES];
        for (to, from) in sample.iter_mut().zip(elements.as_chunks::<4>().0) {
            *to = f32::from_le_bytes(*from);
        }
    }

    fn stride(&self) -> usize {
        LABEL_BYTES + 4 * self.elements + CRC_BYTES
    }

    fn record(&self, index: u32) -> &[u8] {
        assert!(index < self.count, "record {index} of {}", self.count);
        let start = HEADER_BYTES + index as usize * self.stride();
        &self.bytes[start..start + self.stride()]
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

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
            (records.count(), records.elements(), records.classes()),
            (3, 2, 10)
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
            (records.count(), records.elements(), records.classes()),
            (2, 2, 3)
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
        assert!(matches!(
            Records::decode(b"PNG".to_vec()),
            Err(DataProblem::Magic)
        ));
        let mut newer = good();
        newer[4] = 2;
        assert!(matches!(
            Records::decode(newer),
            Err(DataProblem::Version { found: 2 })
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
}
