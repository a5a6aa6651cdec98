//! Where measurements come from.
//!
//! A *profile* is one run of (mode, workload, batch size): about 40 minibatches, median time, median
//! power, every clock read back (Fulcrum draft, profiling; PowerTrain, arXiv 2407.13944). It is what a
//! search pays with. Whether a profile can be trusted is for the planner to judge
//! ([`Measurement::fault`], invariant I7), not for the source to hide.
//!
//! - [`replay`]: measured grids in CSV files;
//! - [`synthetic`]: a model of a board with a known optimum, noise included;
//! - [`exec`]: a board, through a process that runs `fulcrumd profile` here or elsewhere;
//! - [`faults`]: makes any source as unreliable as a real board;
//! - [`journal`]: makes any source durable: a killed search resumes and pays no profile twice.

pub mod exec;
pub mod faults;
pub mod journal;
pub mod replay;
pub mod synthetic;

use crate::workload::{Role, Workload};
use fulcrum_plan::{Cell, GpuMasks, PowerMode};
use serde::{Deserialize, Serialize};

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Mode to set.
    pub mode: PowerMode,
    /// Training or inference.
    pub role: Role,
    /// Workload to run in it.
    pub workload: String,
    /// Samples of a minibatch.
    pub batch: u16,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}/{} at batch {} in {}",
            self.role, self.workload, self.batch, self.mode
        )
    }
}

/// What a run showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// Median minibatch time and median module power, rounded up.
    pub cell: Cell,
    /// The clocks as the kernel reports them after the run.
    pub mode_read_back: PowerMode,
    /// Over-current events counted during the run.
    pub over_current_events: u32,
    /// Whether a thermal limit lowered a clock during the run.
    pub thermally_throttled: bool,
}

/// Why a measurement is not to be trusted (invariant I7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// A clock, read back, differs from what was asked.
    Clocks,
    /// The board's regulator counted over-current events, and throttled on its own.
    OverCurrent,
    /// A thermal limit lowered a clock.
    Thermal,
}

impl Measurement {
    /// A measurement without a fault.
    #[must_use]
    pub const fn clean(mode: PowerMode, cell: Cell) -> Self {
        Self {
            cell,
            mode_read_back: mode,
            over_current_events: 0,
            thermally_throttled: false,
        }
    }

    /// Why this is no measurement of `mode`, if so.
    #[must_use]
    pub fn fault(&self, mode: &PowerMode) -> Option<Fault> {
        if self.mode_read_back != *mode {
            Some(Fault::Clocks)
        } else if self.over_current_events > 0 {
            Some(Fault::OverCurrent)
        } else if self.thermally_throttled {
            Some(Fault::Thermal)
        } else {
            None
        }
    }
}

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// The source cannot measure this.
    #[error("{run} was never measured by {source_name}")]
    NotMeasured {
        /// What was asked for.
        run: Run,
        /// Which source.
        source_name: String,
    },
    /// The board can be reached, and says why it does not measure this.
    #[error("{run} cannot be measured: {reason}")]
    Refused {
        /// What was asked for.
        run: Run,
        /// As the board tells it.
        reason: String,
    },
    /// The board does not answer any more. What was measured so far stands.
    #[error("the board was lost: {reason}")]
    Lost {
        /// As the source tells it.
        reason: String,
    },
    /// The journal could not be written or does not belong to this search.
    #[error(transparent)]
    Journal(#[from] journal::JournalError),
}

/// A home of measurements.
pub trait ProfileSource {
    /// Name of the board that is measured.
    fn board(&self) -> &str;

    /// What tells this source from another, for journals and messages: `replay orin-agx`.
    fn identity(&self) -> String;

    /// What can be measured, sorted.
    fn workloads(&self) -> &[Workload];

    /// The modes in which every one of `workloads` can be measured, ascending.
    fn modes(&self, workloads: &[Workload]) -> Vec<PowerMode>;

    /// Measures once.
    ///
    /// # Errors
    /// [`ProfileError`]: the source has no such run, or lost its board.
    fn profile(&mut self, run: &Run) -> Result<Measurement, ProfileError>;

    /// The masks of the GPU that is measured, as far as they are known.
    fn gpu_masks(&self) -> GpuMasks {
        GpuMasks::default()
    }

    /// Says that a journal answered this run in the source's place, so that a simulated board goes
    /// on where it was.
    fn replayed(&mut self, run: &Run, measurement: &Measurement) {
        let _ = (run, measurement);
    }
}

/// A pointer to a source is a source.
macro_rules! forward {
    ($($pointer:ty),+) => {$(
        impl<S: ProfileSource + ?Sized> ProfileSource for $pointer {
            fn board(&self) -> &str {
                (**self).board()
            }
            fn identity(&self) -> String {
                (**self).identity()
            }
            fn workloads(&self) -> &[Workload] {
                (**self).workloads()
            }
            fn modes(&self, workloads: &[Workload]) -> Vec<PowerMode> {
                (**self).modes(workloads)
            }
            fn profile(&mut self, run: &Run) -> Result<Measurement, ProfileError> {
                (**self).profile(run)
            }
            fn gpu_masks(&self) -> GpuMasks {
                (**self).gpu_masks()
            }
            fn replayed(&mut self, run: &Run, measurement: &Measurement) {
                (**self).replayed(run, measurement);
            }
        }
    )+};
}

forward!(Box<S>, &mut S);

/// A source that knows what is true, so that a plan can be judged.
pub trait Truth {
    /// The true cell of a run; `None` where it is unknown.
    fn truth(&self, run: &Run) -> Option<Cell>;
}

/// A workload that a source does not have.
#[derive(Debug, thiserror::Error)]
#[error(
    "{source_name} has no {role} workload `{name}`; it has: {}",
    if .known.is_empty() { "none".to_owned() } else { .known.join(", ") }
)]
pub struct UnknownWorkload {
    /// Asked for.
    pub name: String,
    /// As training or inference.
    pub role: Role,
    /// The source.
    pub source_name: String,
    /// What there is of that role.
    pub known: Vec<String>,
}

/// The workload of a name.
///
/// # Errors
/// [`UnknownWorkload`], which lists what there is.
pub fn find_workload(
    source: &(impl ProfileSource + ?Sized),
    role: Role,
    name: &str,
) -> Result<Workload, UnknownWorkload> {
    let of_role = || source.workloads().iter().filter(|w| w.role == role);
    of_role()
        .find(|w| w.name == name)
        .cloned()
        .ok_or_else(|| UnknownWorkload {
            name: name.to_owned(),
            role,
            source_name: source.identity(),
            known: of_role().map(|w| w.name.clone()).collect(),
        })
}
