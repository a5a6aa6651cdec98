//! The journal: every profile, appended and made durable before the search sees it.
//!
//! A killed search that starts again with the same journal gets its old profiles from it, in order,
//! and pays for none of them twice. The file is only ever appended to; a record that a crash tore at
//! the end is cut off, damage anywhere else is refused.
//!
//! A journal belongs to one search: its header names board, source, workloads, strategy and seed. The
//! measurements of another search are read with [`read`], as a prior.

mod file;

use crate::profile::{Measurement, ProfileError, ProfileSource, Run};
use crate::workload::Workload;
use file::JournalFile;
use fulcrum_plan::{GpuMasks, PowerMode};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Which search a journal belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Board that was measured.
    pub board: String,
    /// The source ([`ProfileSource::identity`]).
    pub source: String,
    /// The workloads of the plan.
    pub workloads: Vec<Workload>,
    /// Strategy, such as `als:50`.
    pub strategy: String,
    /// Seed of the search.
    pub seed: u64,
}

/// One paid profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What was asked.
    pub run: Run,
    /// What was seen.
    pub measurement: Measurement,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Reading, writing, or locking failed.
    #[error("journal {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another search has it open.
    #[error("journal {}: another search is writing to it", .path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// It does not start like a journal.
    #[error("journal {}: not a journal of this version; choose another file", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A record before the last one is damaged.
    #[error(
        "journal {}: damaged at byte {offset} (checksum); restore the file or start a new one",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the bad record starts.
        offset: u64,
    },
    /// It was written by a search with other arguments.
    #[error(
        "journal {}: belongs to another search: {differs} was {found}, now {wanted}; \
         use the same arguments, or another file",
        .path.display()
    )]
    OtherSearch {
        /// The file.
        path: PathBuf,
        /// Which part of the header.
        differs: &'static str,
        /// In the file.
        found: String,
        /// Of this search.
        wanted: String,
    },
    /// The search asks for something else than it did when it was killed.
    #[error(
        "journal {}: profile {at} was {found}, the search now asks for {wanted}; \
         it was written by another version: start a new one",
        .path.display()
    )]
    Diverged {
        /// The file.
        path: PathBuf,
        /// Number of the profile, from 1.
        at: usize,
        /// In the file.
        found: Box<Run>,
        /// Asked for.
        wanted: Box<Run>,
    },
}

/// Reads a journal without writing to it; a torn end is left out.
///
/// # Errors
/// [`JournalError`]: unreadable, foreign, or damaged.
pub fn read(path: &Path) -> Result<(Header, Vec<Record>), JournalError> {
    let bytes = std::fs::read(path).map_err(|source| JournalError::Io {
        path: path.to_owned(),
        source,
    })?;
    let parsed = file::parse(path, &bytes)?.ok_or_else(|| JournalError::Foreign {
        path: path.to_owned(),
    })?;
    Ok((parsed.header, parsed.records))
}

/// A source whose every profile goes to a journal first.
#[derive(Debug)]
pub struct Journaled<S> {
    source: S,
    file: JournalFile,
    path: PathBuf,
    past: std::vec::IntoIter<Record>,
    answered: usize,
}

impl<S: ProfileSource> Journaled<S> {
    /// Opens or creates the journal of a search.
    ///
    /// # Errors
    /// [`JournalError`]: unreadable, damaged, open elsewhere, or of another search.
    pub fn open(source: S, path: &Path, header: &Header) -> Result<Self, JournalError> {
        let (file, past) = JournalFile::open(path, header)?;
        Ok(Self {
            source,
            file,
            path: path.to_owned(),
            past: past.into_iter(),
            answered: 0,
        })
    }

    /// Profiles that the journal still holds for the search to ask for.
    #[must_use]
    pub fn profiles_left(&self) -> usize {
        self.past.len()
    }
}

impl<S: ProfileSource> ProfileSource for Journaled<S> {
    fn board(&self) -> &str {
        self.source.board()
    }

    fn identity(&self) -> String {
        self.source.identity()
    }

    fn workloads(&self) -> &[Workload] {
        self.source.workloads()
    }

    fn modes(&self, workloads: &[Workload]) -> Vec<PowerMode> {
        self.source.modes(workloads)
    }

    fn gpu_masks(&self) -> GpuMasks {
        self.source.gpu_masks()
    }

    fn profile(&mut self, run: &Run) -> Result<Measurement, ProfileError> {
        self.answered += 1;
        if let Some(record) = self.past.next() {
            if record.run != *run {
                return Err(ProfileError::Journal(JournalError::Diverged {
                    path: self.path.clone(),
                    at: self.answered,
                    found: Box::new(record.run),
                    wanted: Box::new(run.clone()),
                }));
            }
            self.source.replayed(run, &record.measurement);
            return Ok(record.measurement);
        }
        let measurement = self.source.profile(run)?;
        self.file.append(&Record {
            run: run.clone(),
            measurement,
        })?;
        Ok(measurement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::profile::synthetic::Synthetic;
    use crate::workload::Role;

    fn path(test: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("fulcrum-journal-{}-{test}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn board() -> Synthetic {
        Synthetic::new(boards::named("orin-nx-16").unwrap(), 5)
    }

    fn header(seed: u64) -> Header {
        Header {
            board: "orin-nx-16".into(),
            source: board().identity(),
            workloads: vec![],
            strategy: "rnd:9".into(),
            seed,
        }
    }

    fn run(at: usize) -> Run {
        Run {
            mode: board().modes(&[])[at],
            role: Role::Train,
            workload: "lstm".into(),
            batch: 16,
        }
    }

    /// Counts what is paid.
    struct Paid<'a>(Synthetic, &'a std::cell::Cell<usize>);

    impl ProfileSource for Paid<'_> {
        fn board(&self) -> &str {
            self.0.board()
        }
        fn identity(&self) -> String {
            self.0.identity()
        }
        fn workloads(&self) -> &[Workload] {
            self.0.workloads()
        }
        fn modes(&self, workloads: &[Workload]) -> Vec<PowerMode> {
            self.0.modes(workloads)
        }
        fn profile(&mut self, run: &Run) -> Result<Measurement, ProfileError> {
            self.1.set(self.1.get() + 1);
            self.0.profile(run)
        }
    }

    fn measure(path: &Path, count: usize) -> (Vec<Measurement>, usize) {
        let paid = std::cell::Cell::new(0);
        let mut source = Journaled::open(Paid(board(), &paid), path, &header(1)).unwrap();
        let seen = (0..count)
            .map(|at| source.profile(&run(at)).unwrap())
            .collect();
        (seen, paid.get())
    }

    #[test]
    fn a_killed_search_pays_no_profile_twice_at_whatever_byte_it_died() {
        let path = path("resume");
        let (all, paid) = measure(&path, 4);
        assert_eq!(paid, 4);
        let bytes = std::fs::read(&path).unwrap();
        let (_, complete) = read(&path).unwrap();
        assert_eq!(complete.len(), 4);
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let kept = read(&path).map_or(0, |(_, records)| records.len());
            let (again, paid) = measure(&path, 4);
            assert_eq!(again, all, "cut at {length}");
            assert_eq!(paid, 4 - kept, "cut at {length}");
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "cut at {length}");
        }
    }

    #[test]
    fn damage_before_the_end_is_refused_at_every_byte() {
        let path = path("damage");
        measure(&path, 3);
        let bytes = std::fs::read(&path).unwrap();
        let last = {
            // Where the third record starts: the length of a journal of two.
            let two = self::path("damage-two");
            measure(&two, 2);
            std::fs::metadata(two).unwrap().len() as usize
        };
        for at in 0..last {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            std::fs::write(&path, &bad).unwrap();
            let kept = read(&path).map(|(_, records)| records.len());
            assert!(!matches!(kept, Ok(3)), "byte {at}: passed as intact");
        }
    }

    #[test]
    fn a_journal_of_another_search_is_refused() {
        let path = path("other");
        measure(&path, 1);
        let message = Journaled::open(board(), &path, &header(2))
            .unwrap_err()
            .to_string();
        assert!(message.contains("seed was 1, now 2"), "{message}");
        let mut source = Journaled::open(board(), &path, &header(1)).unwrap();
        let message = source.profile(&run(3)).unwrap_err().to_string();
        assert!(message.contains("profile 1 was train/lstm"), "{message}");
        drop(source);
        std::fs::write(&path, b"something else entirely").unwrap();
        let message = Journaled::open(board(), &path, &header(1))
            .unwrap_err()
            .to_string();
        assert!(message.contains("not a journal"), "{message}");
    }

    #[test]
    fn two_searches_cannot_write_to_one_journal() {
        let path = path("busy");
        let _first = Journaled::open(board(), &path, &header(1)).unwrap();
        let message = Journaled::open(board(), &path, &header(1))
            .unwrap_err()
            .to_string();
        assert!(message.contains("another search"), "{message}");
    }

    #[test]
    fn the_mode_of_a_record_reads_back_as_written() {
        let path = path("roundtrip");
        let (seen, _) = measure(&path, 2);
        let (found, records) = read(&path).unwrap();
        assert_eq!(found, header(1));
        let expected: Vec<Record> = (0..2)
            .map(|at| Record {
                run: run(at),
                measurement: seen[at],
            })
            .collect();
        assert_eq!(records, expected);
        assert_ne!(records[0].run.mode, PowerMode::default());
    }
}
