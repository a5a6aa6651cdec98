//! One CSV file of measurements: every power mode and batch size of one workload.
//!
//! Columns are found by the name in the header; their order does not matter, and others are ignored:
//!
//! | column | unit | |
//! |---|---|---|
//! | `cores` | count | |
//! | `cpu_khz`, `gpu_hz`, `emc_hz` | kHz, Hz, Hz | whole kHz |
//! | `batch` | samples | |
//! | `time_ms`, `power_w` | ms, W | as measured |
//! | `time_ms_clean`, `power_w_clean` | ms, W | optional: faulty rows repaired |
//! | `flag` | | optional: `gpu_stuck_1300` marks a GPU clock that stayed at 1300.5 MHz |

use fulcrum_plan::units::{Khz, MicroSec, MilliWatt};
use fulcrum_plan::{Cell, PowerMode};
use std::path::{Path, PathBuf};

/// The clock at which the GPU of the published grids got stuck (fulcrum.md section 7).
const STUCK_GPU: Khz = Khz(1_300_500);
const STUCK_FLAG: &str = "gpu_stuck_1300";

/// What one row of the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Repaired values; as measured where the file has none.
    pub(super) clean: Cell,
    /// Values as measured.
    pub(super) measured: Cell,
    /// The clocks that were in effect.
    pub(super) mode_read_back: PowerMode,
}

/// All rows of a file, sorted by (mode, batch size).
#[derive(Clone, Debug)]
pub(super) struct Grid {
    rows: Vec<(PowerMode, u16, Record)>,
}

/// Why a file of measurements cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GridError {
    /// It cannot be read, or a line is no CSV.
    #[error("{}", .path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What the CSV reader says, with its line.
        #[source]
        source: csv::Error,
    },
    /// A column is missing from the header.
    #[error(
        "{}: line 1: no column `{column}`; found: {}",
        .path.display(), listed(.found)
    )]
    Column {
        /// The file.
        path: PathBuf,
        /// The column.
        column: &'static str,
        /// The header.
        found: Vec<String>,
    },
    /// A value that is none.
    #[error("{}: line {line}: column `{column}` is `{found}`; allowed: {allowed}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: u64,
        /// Column.
        column: &'static str,
        /// The text.
        found: String,
        /// What may stand there.
        allowed: &'static str,
    },
    /// The same mode and batch size twice.
    #[error("{}: batch {batch} in {mode} stands there twice; keep one row", .path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The mode.
        mode: PowerMode,
        /// The batch size.
        batch: u16,
    },
    /// A header and nothing else.
    #[error("{}: no rows", .path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Columns of a header.
fn listed(columns: &[String]) -> String {
    match columns {
        [] => "nothing, the file is empty".to_owned(),
        columns => columns.join(", "),
    }
}

impl Grid {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self, GridError> {
        let in_csv = |source| GridError::Csv {
            path: path.to_owned(),
            source,
        };
        let mut reader = csv::Reader::from_path(path).map_err(in_csv)?;
        let columns = Columns::find(path, reader.headers().map_err(in_csv)?)?;
        let mut rows = Vec::new();
        for line in reader.records() {
            let line = line.map_err(in_csv)?;
            rows.push(columns.record(&Line {
                path,
                fields: &line,
            })?);
        }
        rows.sort_by_key(|&(mode, batch, _)| (mode, batch));
        if let Some(twice) = rows
            .windows(2)
            .find(|w| (w[0].0, w[0].1) == (w[1].0, w[1].1))
        {
            return Err(GridError::Twice {
                path: path.to_owned(),
                mode: twice[0].0,
                batch: twice[0].1,
            });
        }
        if rows.is_empty() {
            return Err(GridError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(Self { rows })
    }

    /// The row of a mode and batch size.
    pub(super) fn record(&self, mode: PowerMode, batch: u16) -> Option<&Record> {
        self.rows
            .binary_search_by_key(&(mode, batch), |&(mode, batch, _)| (mode, batch))
            .ok()
            .map(|at| &self.rows[at].2)
    }

    /// Batch sizes, ascending.
    pub(super) fn batches(&self) -> Vec<u16> {
        let mut batches: Vec<u16> = self.rows.iter().map(|row| row.1).collect();
        batches.sort_unstable();
        batches.dedup();
        batches
    }

    /// Modes, ascending, that have a row for each of `batches`.
    pub(super) fn modes(&self, batches: &[u16]) -> Vec<PowerMode> {
        self.rows
            .chunk_by(|one, next| one.0 == next.0)
            .filter(|rows| {
                batches
                    .iter()
                    .all(|batch| rows.iter().any(|row| row.1 == *batch))
            })
            .map(|rows| rows[0].0)
            .collect()
    }
}

/// Where the columns stand.
struct Columns {
    cores: usize,
    cpu_khz: usize,
    gpu_hz: usize,
    emc_hz: usize,
    batch: usize,
    time_ms: usize,
    power_w: usize,
    time_ms_clean: Option<usize>,
    power_w_clean: Option<usize>,
    flag: Option<usize>,
}

/// One line with the place it stands at.
struct Line<'a> {
    path: &'a Path,
    fields: &'a csv::StringRecord,
}

impl Columns {
    fn find(path: &Path, header: &csv::StringRecord) -> Result<Self, GridError> {
        let optional = |name: &str| header.iter().position(|column| column.trim() == name);
        let required = |column: &'static str| {
            optional(column).ok_or_else(|| GridError::Column {
                path: path.to_owned(),
                column,
                found: header.iter().map(str::to_owned).collect(),
            })
        };
        Ok(Self {
            cores: required("cores")?,
            cpu_khz: required("cpu_khz")?,
            gpu_hz: required("gpu_hz")?,
            emc_hz: required("emc_hz")?,
            batch: required("batch")?,
            time_ms: required("time_ms")?,
            power_w: required("power_w")?,
            time_ms_clean: optional("time_ms_clean"),
            power_w_clean: optional("power_w_clean"),
            flag: optional("flag"),
        })
    }

    fn record(&self, line: &Line<'_>) -> Result<(PowerMode, u16, Record), GridError> {
        let mode = PowerMode {
            cores: line.whole(self.cores, "cores", "1 to 255")?,
            cpu_khz: Khz(line.whole(self.cpu_khz, "cpu_khz", "a clock in kHz")?),
            gpu_khz: line.khz_from_hz(self.gpu_hz, "gpu_hz")?,
            emc_khz: line.khz_from_hz(self.emc_hz, "emc_hz")?,
        };
        let batch = line.whole(self.batch, "batch", "1 to 65535")?;
        let measured = Cell {
            time_us: line.time(self.time_ms, "time_ms")?,
            power_mw: line.power(self.power_w, "power_w")?,
        };
        let clean = Cell {
            time_us: self
                .time_ms_clean
                .map_or(Ok(measured.time_us), |at| line.time(at, "time_ms_clean"))?,
            power_mw: self
                .power_w_clean
                .map_or(Ok(measured.power_mw), |at| line.power(at, "power_w_clean"))?,
        };
        let stuck = self.flag.and_then(|at| line.fields.get(at)) == Some(STUCK_FLAG);
        let mode_read_back = PowerMode {
            gpu_khz: if stuck { STUCK_GPU } else { mode.gpu_khz },
            ..mode
        };
        Ok((
            mode,
            batch,
            Record {
                clean,
                measured,
                mode_read_back,
            },
        ))
    }
}

impl Line<'_> {
    fn text(&self, at: usize) -> &str {
        self.fields.get(at).unwrap_or_default().trim()
    }

    fn value<T>(
        &self,
        at: usize,
        column: &'static str,
        allowed: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, GridError> {
        let text = self.text(at);
        parse(text).ok_or_else(|| GridError::Value {
            path: self.path.to_owned(),
            line: self.fields.position().map_or(0, csv::Position::line),
            column,
            found: text.to_owned(),
            allowed,
        })
    }

    /// A whole number above 0 that its type holds.
    fn whole<T: TryFrom<u32>>(
        &self,
        at: usize,
        column: &'static str,
        allowed: &'static str,
    ) -> Result<T, GridError> {
        self.value(at, column, allowed, |text| {
            let number = text.parse::<u32>().ok().filter(|&number| number > 0)?;
            T::try_from(number).ok()
        })
    }

    fn khz_from_hz(&self, at: usize, column: &'static str) -> Result<Khz, GridError> {
        self.value(at, column, "a clock in Hz, a multiple of 1000", |text| {
            let hz = text.parse::<u64>().ok().filter(|hz| hz % 1000 == 0)?;
            u32::try_from(hz / 1000)
                .ok()
                .filter(|&khz| khz > 0)
                .map(Khz)
        })
    }

    fn time(&self, at: usize, column: &'static str) -> Result<MicroSec, GridError> {
        self.value(at, column, "a time in ms, above 0", |text| {
            MicroSec::measured_ms(text.parse().ok()?).filter(|time| time.0 > 0)
        })
    }

    fn power(&self, at: usize, column: &'static str) -> Result<MilliWatt, GridError> {
        self.value(at, column, "a power in W, above 0", |text| {
            MilliWatt::measured_w(text.parse().ok()?).filter(|power| power.0 > 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "cores,cpu_khz,gpu_hz,emc_hz,batch,time_ms,power_w,flag,time_ms_clean";

    fn read(test: &str, lines: &[&str]) -> Result<Grid, GridError> {
        let folder = std::env::temp_dir().join(format!("fulcrum-grid-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{test}.csv"));
        std::fs::write(&path, lines.join("\n")).unwrap();
        Grid::read(&path)
    }

    #[test]
    fn columns_are_found_by_name_and_a_stuck_clock_is_read_back() {
        let grid = read(
            "good",
            &[
                HEADER,
                "4,422400,114750000,665600000,16,96.0626,11.742,,96.0626",
                "4,422400,114750000,665600000,1,5.5,11.7,gpu_stuck_1300,96.5",
            ],
        )
        .unwrap();
        assert_eq!(grid.batches(), [1, 16]);
        let mode = grid.modes(&[1, 16])[0];
        assert_eq!(mode.gpu_khz, Khz(114_750));
        assert!(grid.modes(&[1, 4]).is_empty());
        let stuck = grid.record(mode, 1).unwrap();
        assert_eq!(stuck.mode_read_back.gpu_khz, Khz(1_300_500));
        assert_eq!(stuck.measured.time_us, MicroSec(5_500));
        assert_eq!(stuck.clean.time_us, MicroSec(96_500));
        assert_eq!(stuck.clean.power_mw, MilliWatt(11_700));
        assert_eq!(grid.record(mode, 16).unwrap().mode_read_back, mode);
        assert_eq!(grid.record(mode, 4), None);
    }

    #[test]
    fn a_bad_file_names_file_line_and_column() {
        let row = "4,422400,114750000,665600000,16,96.0626,11.742,,96.0626";
        for (test, lines, expected) in [
            (
                "hz",
                vec![HEADER, row, "4,422400,114750001,665600000,16,9,11,,9"],
                "line 3: column `gpu_hz`",
            ),
            (
                "time",
                vec![HEADER, "4,422400,114750000,665600000,16,-9,11,,9"],
                "line 2: column `time_ms`",
            ),
            (
                "clean",
                vec![HEADER, "4,422400,114750000,665600000,16,9,11,,x"],
                "column `time_ms_clean`",
            ),
            (
                "cores",
                vec![HEADER, "400,422400,114750000,665600000,16,9,11,,9"],
                "column `cores`",
            ),
            (
                "header",
                vec!["cores,cpu_khz", "4,422400"],
                "no column `gpu_hz`",
            ),
            ("short", vec![HEADER, "4,422400"], "line: 2"),
            ("twice", vec![HEADER, row, row], "twice"),
            ("empty", vec![HEADER], "no rows"),
        ] {
            let error = read(test, &lines).unwrap_err();
            let message = match std::error::Error::source(&error) {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            };
            assert!(message.contains(expected), "{test}: {message}");
            assert!(
                message.contains(&format!("{test}.csv")),
                "{test}: {message}"
            );
        }
    }
}
