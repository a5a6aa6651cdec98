//! What earlier plans of the same board taught: their trusted measurements, from their journals.
//!
//! The surrogate's models share what the workloads of a board have in common, so the measurements of
//! another workload sharpen what is believed of this one, as in PowerTrain (arXiv 2407.13944). They are
//! evidence only: an answer is still a mode that this search observed (invariant I3).

use crate::pool::{Observation, Pool};
use crate::profile::journal::{self, JournalError, Record};
use crate::surrogate::clocks::{Clocks, Cube};
use crate::workload::{Role, Task, Workload};
use crc::{CRC_32_ISO_HDLC, Crc};
use fulcrum_plan::{Cell, PowerMode};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Most measurements that are used: a fit grows with the cube of their number.
const SAMPLES_MAX: usize = 100;
/// Measurements per workload of a search's own from which on a prior is left out: it then costs more,
/// by what differs between workloads, than it teaches (docs/decisions.md).
const OWN_ENOUGH: usize = 15;

/// A trusted measurement of an earlier search.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sample {
    mode: PowerMode,
    role: Role,
    workload: String,
    batch: u16,
    cell: Cell,
}

/// Measurements of earlier searches on one board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prior {
    samples: Vec<Sample>,
}

/// Why a journal is no prior.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PriorError {
    /// It cannot be read, or is none.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It teaches nothing of this board.
    #[error(
        "journal {}: of board {found}, not of {wanted}; a prior is a journal of the same board",
        .path.display()
    )]
    OtherBoard {
        /// The file.
        path: PathBuf,
        /// Its board.
        found: String,
        /// The board to plan for.
        wanted: String,
    },
    /// Not one measurement that can be trusted.
    #[error("journal {}: holds no trusted profile; leave it out", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

impl Prior {
    /// The trusted measurements of journals of `board`.
    ///
    /// # Errors
    /// [`PriorError`]: unreadable, damaged, of another board, or without a trusted profile.
    pub fn read(paths: &[PathBuf], board: &str) -> Result<Self, PriorError> {
        let mut prior = Self::default();
        for path in paths {
            prior.add(path, board)?;
        }
        Ok(prior)
    }

    fn add(&mut self, path: &Path, board: &str) -> Result<(), PriorError> {
        let (header, records) = journal::read(path)?;
        if header.board != board {
            return Err(PriorError::OtherBoard {
                path: path.to_owned(),
                found: header.board,
                wanted: board.to_owned(),
            });
        }
        let before = self.samples.len();
        self.learn(&records);
        if self.samples.len() == before {
            return Err(PriorError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(())
    }

    /// Adds the trusted ones of some measurements.
    pub fn learn(&mut self, records: &[Record]) {
        let trusted = records.iter().filter(|record| {
            let Record { run, measurement } = record;
            measurement.fault(&run.mode).is_none()
        });
        self.samples.extend(trusted.map(|record| Sample {
            mode: record.run.mode,
            role: record.run.role,
            workload: record.run.workload.clone(),
            batch: record.run.batch,
            cell: record.measurement.cell,
        }));
    }

    /// Number of measurements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether nothing was learned.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The measurements of workloads that are not in `task`.
    #[must_use]
    pub fn without(&self, task: &Task) -> Self {
        let is_own = |sample: &&Sample| {
            let workloads = task.workloads();
            !workloads
                .iter()
                .any(|w| (w.role, &w.name) == (sample.role, &sample.workload))
        };
        Self {
            samples: self.samples.iter().filter(is_own).cloned().collect(),
        }
    }

    /// CRC-32/ISO-HDLC over everything in it, in order: tells one prior from another.
    #[must_use]
    pub fn checksum(&self) -> u32 {
        let crc = Crc::<u32>::new(&CRC_32_ISO_HDLC);
        let mut digest = crc.digest();
        for sample in &self.samples {
            digest.update(format!("{sample:?}\n").as_bytes());
        }
        digest.finalize()
    }

    /// As many of the measurements as are used, spread evenly over the order they were made in: the
    /// first ones cover the space, the last ones the front.
    fn used(&self) -> impl Iterator<Item = &Sample> {
        let count = self.samples.len().min(SAMPLES_MAX);
        let all = self.samples.len();
        (0..count).map(move |at| &self.samples[at * all / count])
    }
}

/// Everything a surrogate is fitted to: what a search observed, and its prior as further workloads.
///
/// A measurement of a workload and batch size that the search has itself belongs to that slot.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The workloads of the search, then those of the prior.
    pub task: Task,
    /// The candidate modes, then other modes of the prior.
    pub clocks: Vec<Clocks>,
    own_workloads: usize,
    /// Measurements of the prior: mode, slot, cell.
    earlier: Vec<(usize, usize, Cell)>,
}

impl Evidence {
    /// The evidence that a prior adds to a search over `modes` (ascending).
    #[must_use]
    pub fn new(task: &Task, modes: &[PowerMode], cube: &Cube, prior: &Prior) -> Self {
        let mut added: Vec<Workload> = Vec::new();
        let known = |added: &[Workload], sample: &Sample| {
            let all = task.workloads().iter().chain(added);
            let workload = all
                .enumerate()
                .find(|(_, w)| (w.role, &w.name) == (sample.role, &sample.workload));
            workload.map(|(at, w)| (at, w.batches.contains(&sample.batch)))
        };
        for sample in prior.used() {
            match known(&added, sample) {
                Some((at, false)) if at >= task.workloads().len() => {
                    added[at - task.workloads().len()]
                        .batches
                        .push(sample.batch);
                }
                Some(_) => {}
                None => added.push(Workload {
                    role: sample.role,
                    name: sample.workload.clone(),
                    batches: vec![sample.batch],
                }),
            }
        }
        let all = task.followed_by(&added);
        let mut clocks: Vec<Clocks> = modes.iter().map(|mode| cube.clocks(mode)).collect();
        let mut other_modes: Vec<PowerMode> = Vec::new();
        let mut earlier = Vec::new();
        for sample in prior.used() {
            let slot = (0..all.slots().len()).find(|&slot| {
                let workload = all.workload_of(slot);
                (workload.role, &workload.name, all.slots()[slot].batch)
                    == (sample.role, &sample.workload, sample.batch)
            });
            // An own workload at a batch size that is not planned.
            let Some(slot) = slot else { continue };
            let mode = modes.binary_search(&sample.mode).unwrap_or_else(|_| {
                let known = other_modes.iter().position(|mode| *mode == sample.mode);
                modes.len()
                    + known.unwrap_or_else(|| {
                        other_modes.push(sample.mode);
                        clocks.push(cube.clocks(&sample.mode));
                        other_modes.len() - 1
                    })
            });
            earlier.push((mode, slot, sample.cell));
        }
        Self {
            task: all,
            clocks,
            own_workloads: task.workloads().len(),
            earlier,
        }
    }

    /// What was observed, by this search and, until it has enough of its own, by earlier ones; where
    /// both were, this one's counts.
    #[must_use]
    pub fn pool<'a>(&self, own: &'a Pool) -> Cow<'a, Pool> {
        if self.earlier.is_empty() || own.order().len() >= OWN_ENOUGH * self.own_workloads {
            return Cow::Borrowed(own);
        }
        let mut pool = Pool::new(self.clocks.len(), self.task.slots().len());
        let is_own = |mode: usize, slot: usize| {
            mode < own.mode_count() && slot < own.slot_count() && own.cell(mode, slot).is_some()
        };
        for &(mode, slot, cell) in &self.earlier {
            if !is_own(mode, slot) && pool.cell(mode, slot).is_none() {
                pool.record(mode, slot, Observation::Seen(cell));
            }
        }
        for &(mode, slot) in own.order() {
            pool.record(mode, slot, own.observation(mode, slot));
        }
        Cow::Owned(pool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::profile::journal::{Header, Journaled};
    use crate::profile::synthetic::Synthetic;
    use crate::profile::{Measurement, ProfileSource as _, Run, find_workload};

    fn board() -> Synthetic {
        Synthetic::new(boards::named("orin-agx").unwrap(), 1).without_noise()
    }

    fn records(workload: &str, places: std::ops::Range<usize>) -> Vec<Record> {
        let mut board = board();
        let modes = board.modes(&[]);
        places
            .map(|at| {
                let run = Run {
                    mode: modes[at * 100],
                    role: Role::Train,
                    workload: workload.into(),
                    batch: 16,
                };
                let measurement = board.profile(&run).unwrap();
                Record { run, measurement }
            })
            .collect()
    }

    fn prior(records: &[Record]) -> Prior {
        let mut prior = Prior::default();
        prior.learn(records);
        prior
    }

    fn task() -> Task {
        let lstm = find_workload(&board(), Role::Train, "lstm").unwrap();
        Task::new(Some(lstm), vec![]).unwrap()
    }

    #[test]
    fn another_workload_is_a_slot_behind_and_the_own_one_is_its_own_slot() {
        let modes: Vec<PowerMode> = board().modes(&[]).into_iter().step_by(200).collect();
        let mut known = records("resnet18", 0..6);
        known.extend(records("lstm", 2..4));
        let evidence = Evidence::new(&task(), &modes, &Cube::of(&modes), &prior(&known));
        assert_eq!(evidence.task.slots().len(), 2);
        // Every second mode of the prior is a candidate.
        assert_eq!(evidence.clocks.len(), modes.len() + 3);

        let mut own = Pool::new(modes.len(), 1);
        let seen = Cell {
            power_mw: fulcrum_plan::units::MilliWatt(1),
            ..records("lstm", 2..3)[0].measurement.cell
        };
        own.record(1, 0, Observation::Seen(seen));
        let pool = evidence.pool(&own);
        assert_eq!(pool.cell(1, 0), Some(seen), "the search's own counts");
        let of_slot = |slot: usize| pool.order().iter().filter(|seen| seen.1 == slot).count();
        assert_eq!((of_slot(0), of_slot(1)), (2, 6));
        let other = pool.cell(2, 1).unwrap();
        assert_eq!(other, records("resnet18", 4..5)[0].measurement.cell);
    }

    #[test]
    fn without_a_prior_or_with_enough_of_its_own_a_search_sees_its_own_pool() {
        let modes = board().modes(&[]);
        let cube = Cube::of(&modes);
        let mut own = Pool::new(modes.len(), 1);
        let none = Evidence::new(&task(), &modes, &cube, &Prior::default());
        assert!(matches!(none.pool(&own), Cow::Borrowed(_)));
        let some = Evidence::new(&task(), &modes, &cube, &prior(&records("resnet18", 0..9)));
        for (mode, record) in records("lstm", 0..OWN_ENOUGH).iter().enumerate() {
            assert_eq!(some.pool(&own).order().len(), 9 + mode);
            own.record(mode, 0, Observation::Seen(record.measurement.cell));
        }
        assert!(matches!(some.pool(&own), Cow::Borrowed(_)));
    }

    #[test]
    fn what_cannot_be_trusted_teaches_nothing() {
        let mut faulty = records("lstm", 0..3);
        for record in &mut faulty {
            record.measurement = Measurement {
                over_current_events: 1,
                ..record.measurement
            };
        }
        assert!(prior(&faulty).is_empty());
        assert_eq!(prior(&records("lstm", 0..3)).without(&task()).len(), 0);
        assert_eq!(prior(&records("resnet18", 0..3)).without(&task()).len(), 3);
    }

    #[test]
    fn a_journal_of_another_board_or_without_a_profile_is_refused() {
        let path =
            std::env::temp_dir().join(format!("fulcrum-prior-{}.journal", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let header = Header {
            board: "orin-agx".into(),
            source: board().identity(),
            workloads: vec![],
            strategy: "rnd:9".into(),
            seed: 1,
        };
        let mut source = Journaled::open(board(), &path, &header).unwrap();
        let paths = [path.clone()];
        let refused = |board: &str| Prior::read(&paths, board).unwrap_err().to_string();
        let message = refused("orin-agx");
        assert!(message.contains("holds no trusted profile"), "{message}");
        source.profile(&records("lstm", 4..5)[0].run).unwrap();
        assert_eq!(
            Prior::read(&paths, "orin-agx").unwrap(),
            prior(&records("lstm", 4..5))
        );
        let message = refused("orin-nx-16");
        assert!(
            message.contains("of board orin-agx, not of orin-nx-16"),
            "{message}"
        );
    }
}
