//! `replay:DIR`: measured grids, from a folder of CSV files.
//!
//! `DIR` is the board's folder, with `train/NAME.csv` and `infer/NAME.csv` in it, or holds one folder
//! per board. The stem of a file is the workload's name.

mod grid;

pub use grid::GridError;

use crate::profile::{Measurement, ProfileError, ProfileSource, Run, Truth};
use crate::workload::{Role, Workload};
use fulcrum_plan::{Cell, PowerMode};
use grid::{Grid, Record};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which values of a grid a replay answers with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Values {
    /// The repaired ones: the truth of an evaluation.
    #[default]
    Clean,
    /// As they were measured, stuck clocks included.
    Measured,
}

/// Measured grids of one board.
#[derive(Clone, Debug)]
pub struct Replay {
    board: String,
    values: Values,
    workloads: Vec<Workload>,
    /// Shared: an evaluation clones its source for every search.
    grids: Arc<BTreeMap<(Role, String), Grid>>,
}

/// Why a folder is no replay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The folder cannot be read.
    #[error("{}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Neither `train/` nor `infer/`, and no folder with them.
    #[error(
        "{}: no measurements: expected train/NAME.csv or infer/NAME.csv, or one such folder per board",
        .path.display()
    )]
    Nothing {
        /// The folder.
        path: PathBuf,
    },
    /// Several boards, or another one.
    #[error(
        "{}: has measurements of {}, not of {}; name the board or its folder",
        .path.display(), .found.join(", "), .wanted.as_deref().unwrap_or("one board alone")
    )]
    Board {
        /// The folder.
        path: PathBuf,
        /// Boards in it.
        found: Vec<String>,
        /// The one that was asked for, if any.
        wanted: Option<String>,
    },
    /// A bad file.
    #[error(transparent)]
    Grid(#[from] GridError),
}

impl Replay {
    /// Opens a folder. `board` may be left out where the folder leaves no choice; for a folder that
    /// is a board's own, it is the name of the board, else the folder's.
    ///
    /// # Errors
    /// [`ReplayError`]: nothing there, no such board, a file that is no grid.
    pub fn open(folder: &Path, board: Option<&str>) -> Result<Self, ReplayError> {
        let (home, board) = board_folder(folder, board)?;
        let mut grids = BTreeMap::new();
        for role in [Role::Train, Role::Infer] {
            let files = home.join(role.folder());
            if !files.is_dir() {
                continue;
            }
            for path in sorted_entries(&files)? {
                let is_csv = path.extension().is_some_and(|extension| extension == "csv");
                let Some(stem) = path.file_stem().filter(|_| is_csv) else {
                    continue;
                };
                let name = stem.to_string_lossy().into_owned();
                grids.insert((role, name), Grid::read(&path)?);
            }
        }
        if grids.is_empty() {
            return Err(ReplayError::Nothing {
                path: folder.to_owned(),
            });
        }
        let workloads = grids
            .iter()
            .map(|((role, name), grid)| Workload {
                role: *role,
                name: name.clone(),
                batches: grid.batches(),
            })
            .collect();
        Ok(Self {
            board,
            values: Values::Clean,
            workloads,
            grids: Arc::new(grids),
        })
    }

    /// The same grids, answering with other values.
    #[must_use]
    pub const fn with_values(mut self, values: Values) -> Self {
        self.values = values;
        self
    }

    fn record(&self, run: &Run) -> Option<&Record> {
        // A `BTreeMap` looks up by reference to its key type.
        let key = (run.role, run.workload.clone());
        self.grids.get(&key)?.record(run.mode, run.batch)
    }
}

/// Finds the folder of a board: `folder` itself, or the one of the board's name in it.
fn board_folder(folder: &Path, board: Option<&str>) -> Result<(PathBuf, String), ReplayError> {
    let holds_grids = |path: &Path| path.join("train").is_dir() || path.join("infer").is_dir();
    let name_of = |path: &Path| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    if holds_grids(folder) {
        let absolute = folder
            .canonicalize()
            .map_err(|source| ReplayError::Folder {
                path: folder.to_owned(),
                source,
            })?;
        let name = board.map_or_else(|| name_of(&absolute), str::to_owned);
        return Ok((folder.to_owned(), name));
    }
    let mut boards: Vec<PathBuf> = sorted_entries(folder)?;
    boards.retain(|path| holds_grids(path));
    if boards.is_empty() {
        return Err(ReplayError::Nothing {
            path: folder.to_owned(),
        });
    }
    let found: Vec<String> = boards.iter().map(|path| name_of(path)).collect();
    let chosen = match board {
        Some(wanted) => found.iter().position(|name| name == wanted),
        None if boards.len() == 1 => Some(0),
        None => None,
    };
    chosen
        .map(|at| (boards[at].clone(), found[at].clone()))
        .ok_or_else(|| ReplayError::Board {
            path: folder.to_owned(),
            found,
            wanted: board.map(str::to_owned),
        })
}

fn sorted_entries(folder: &Path) -> Result<Vec<PathBuf>, ReplayError> {
    let in_folder = |source| ReplayError::Folder {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(in_folder)? {
        paths.push(entry.map_err(in_folder)?.path());
    }
    paths.sort();
    Ok(paths)
}

impl ProfileSource for Replay {
    fn board(&self) -> &str {
        &self.board
    }

    fn identity(&self) -> String {
        let values = match self.values {
            Values::Clean => "",
            Values::Measured => " as measured",
        };
        format!("replay {}{values}", self.board)
    }

    fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    fn modes(&self, workloads: &[Workload]) -> Vec<PowerMode> {
        let of = |w: &Workload| {
            self.grids
                .get(&(w.role, w.name.clone()))
                .map_or_else(Vec::new, |grid| grid.modes(&w.batches))
        };
        let mut lists = workloads.iter().map(of);
        let mut modes = lists.next().unwrap_or_default();
        for other in lists {
            modes.retain(|mode| other.binary_search(mode).is_ok());
        }
        modes
    }

    fn profile(&mut self, run: &Run) -> Result<Measurement, ProfileError> {
        let record = self.record(run).ok_or_else(|| ProfileError::NotMeasured {
            run: run.clone(),
            source_name: self.identity(),
        })?;
        Ok(match self.values {
            Values::Clean => Measurement::clean(run.mode, record.clean),
            Values::Measured => Measurement {
                mode_read_back: record.mode_read_back,
                ..Measurement::clean(run.mode, record.measured)
            },
        })
    }
}

impl Truth for Replay {
    fn truth(&self, run: &Run) -> Option<Cell> {
        self.record(run).map(|record| record.clean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CSV: &str = "emc_hz,cores,cpu_khz,gpu_hz,batch,time_ms,power_w\n";

    fn folder(test: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("fulcrum-replay-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn write(board: &Path, file: &str, rows: &[&str]) {
        let path = board.join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, format!("{CSV}{}\n", rows.join("\n"))).unwrap();
    }

    #[test]
    fn the_boards_own_folder_and_the_folder_above_give_the_same() {
        let root = folder("both");
        let board = root.join("some-board");
        write(
            &board,
            "train/net.csv",
            &[
                "204000000,1,115200,306000000,16,9,11",
                "204000000,2,115200,306000000,16,8,12",
            ],
        );
        write(
            &board,
            "infer/net.csv",
            &["204000000,2,115200,306000000,1,3,11"],
        );
        for (path, name) in [(&root, None), (&root, Some("some-board")), (&board, None)] {
            let mut replay = Replay::open(path, name).unwrap();
            assert_eq!(replay.board(), "some-board");
            let workloads = replay.workloads().to_vec();
            assert_eq!(workloads.len(), 2);
            let modes = replay.modes(&workloads);
            assert_eq!(modes.len(), 1, "only one mode was measured for both");
            assert_eq!(replay.modes(&workloads[..1]).len(), 2);
            let mut run = Run {
                mode: modes[0],
                role: Role::Infer,
                workload: "net".into(),
                batch: 1,
            };
            assert_eq!(
                replay.profile(&run).unwrap().cell,
                replay.truth(&run).unwrap()
            );
            run.batch = 2;
            let message = replay.profile(&run).unwrap_err().to_string();
            assert!(message.contains("infer/net at batch 2"), "{message}");
        }
    }

    #[test]
    fn a_folder_without_the_board_says_what_there_is() {
        let root = folder("choice");
        for board in ["a", "b"] {
            write(
                &root.join(board),
                "train/net.csv",
                &["204000000,1,115200,306000000,16,9,11"],
            );
        }
        for wanted in [None, Some("c")] {
            let message = Replay::open(&root, wanted).unwrap_err().to_string();
            assert!(message.contains("a, b"), "{message}");
        }
        let message = Replay::open(&folder("empty"), None)
            .unwrap_err()
            .to_string();
        assert!(message.contains("train/NAME.csv"), "{message}");
    }
}
