//! Workloads and the slots of a plan.
//!
//! A *workload* is a training step or an inference model under a name; its *batch sizes* are what can
//! be measured of it. A *slot* is one (workload, batch size): what a plan's row has one cell for. A
//! [`Task`] lists the workloads of one plan, training first, and with them its slots, in the order of
//! `fulcrum_plan::PlanTable`.

use serde::{Deserialize, Serialize};

/// What a workload does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A training step.
    Train,
    /// Inference.
    Infer,
}

impl Role {
    /// Name of the role's folder of measurements.
    #[must_use]
    pub const fn folder(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Infer => "infer",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.folder())
    }
}

/// A workload that a source can measure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Workload {
    /// Training or inference.
    pub role: Role,
    /// Name as the user gives it.
    pub name: String,
    /// Batch sizes in samples, strictly ascending, not empty.
    pub batches: Vec<u16>,
}

impl std::fmt::Display for Workload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.role, self.name)
    }
}

/// One (workload, batch size) of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Index into [`Task::workloads`].
    pub workload: usize,
    /// Samples of a minibatch.
    pub batch: u16,
}

/// The workloads of one plan: at most one for training, then inference, the urgent one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    workloads: Vec<Workload>,
    slots: Vec<Slot>,
}

/// Why workloads are no task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// Neither training nor inference.
    #[error("no workload was named; name one to train, one or two to infer, or both")]
    Empty,
    /// More than a plan can hold.
    #[error("{found} workloads for {role}; a plan holds at most {most}")]
    TooMany {
        /// Of this role.
        role: Role,
        /// Asked for.
        found: usize,
        /// Allowed.
        most: usize,
    },
    /// A training workload that was measured at several batch sizes.
    #[error(
        "{workload} was measured at batch sizes {batches:?}; a training workload has exactly one"
    )]
    TrainBatches {
        /// The workload.
        workload: String,
        /// Its batch sizes.
        batches: Vec<u16>,
    },
    /// More batch sizes than a plan can hold.
    #[error("{workload} has {found} batch sizes; a plan holds at most {most}")]
    Batches {
        /// The workload.
        workload: String,
        /// Batch sizes found.
        found: usize,
        /// Allowed.
        most: usize,
    },
}

impl Task {
    /// Puts the workloads of a plan in the plan's order.
    ///
    /// # Errors
    /// [`TaskError`], if they do not fit a plan (`fulcrum_plan::table` states its limits).
    pub fn new(train: Option<Workload>, infer: Vec<Workload>) -> Result<Self, TaskError> {
        use fulcrum_plan::table::{BATCHES_MAX, INFER_MAX};
        if train.is_none() && infer.is_empty() {
            return Err(TaskError::Empty);
        }
        if infer.len() > INFER_MAX {
            return Err(TaskError::TooMany {
                role: Role::Infer,
                found: infer.len(),
                most: INFER_MAX,
            });
        }
        if let Some(train) = &train
            && train.batches.len() != 1
        {
            return Err(TaskError::TrainBatches {
                workload: train.to_string(),
                batches: train.batches.clone(),
            });
        }
        let workloads: Vec<Workload> = train.into_iter().chain(infer).collect();
        if let Some(long) = workloads.iter().find(|w| w.batches.len() > BATCHES_MAX) {
            return Err(TaskError::Batches {
                workload: long.to_string(),
                found: long.batches.len(),
                most: BATCHES_MAX,
            });
        }
        Ok(Self::of(workloads))
    }

    /// This task with further workloads behind its own, beyond what a plan holds: what a surrogate is
    /// fitted to.
    #[must_use]
    pub fn followed_by(&self, others: &[Workload]) -> Self {
        Self::of(self.workloads.iter().chain(others).cloned().collect())
    }

    fn of(workloads: Vec<Workload>) -> Self {
        let slots = workloads
            .iter()
            .enumerate()
            .flat_map(|(workload, w)| w.batches.iter().map(move |&batch| Slot { workload, batch }))
            .collect();
        Self { workloads, slots }
    }

    /// The workloads, training first.
    #[must_use]
    pub fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    /// The slots, in the order of a plan's cells.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The workload of a slot.
    #[must_use]
    pub fn workload_of(&self, slot: usize) -> &Workload {
        &self.workloads[self.slots[slot].workload]
    }

    /// The training slot.
    #[must_use]
    pub fn slot_train(&self) -> Option<usize> {
        self.workloads
            .first()
            .filter(|w| w.role == Role::Train)
            .map(|_| 0)
    }

    /// Slots of the urgent (`which` 0) or the non-urgent (1) inference workload, by batch size.
    #[must_use]
    pub fn slots_infer(&self, which: usize) -> Vec<usize> {
        let workload = which + usize::from(self.slot_train().is_some());
        (0..self.slots.len())
            .filter(|&slot| self.slots[slot].workload == workload)
            .collect()
    }
}
