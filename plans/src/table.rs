//! The plan in memory.
//!
//! Every list has a fixed capacity, so a plan needs no allocator and a board knows its memory in
//! advance. What each limit means, and what happens beyond it, is in `docs/plan-format.md`.

use crate::board;
use crate::masks::GpuMasks;
use crate::mode::PowerMode;
use crate::units::{MicroSec, MilliWatt};
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// Most modes of a plan.
pub const ROWS_MAX: usize = 256;
/// Most batch sizes of one workload.
pub const BATCHES_MAX: usize = 8;
/// Most inference workloads of a plan (urgent and non-urgent).
pub const INFER_MAX: usize = 2;
/// Most cells of a row: one for training, one per inference workload and batch size.
pub const CELLS_MAX: usize = 1 + INFER_MAX * BATCHES_MAX;
/// Longest workload name in bytes.
pub const WORKLOAD_NAME_LEN_MAX: usize = 32;
/// Longest strategy name in bytes.
pub const STRATEGY_LEN_MAX: usize = 24;

/// A workload and the batch sizes that were measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Name, as the user gave it.
    pub name: String<WORKLOAD_NAME_LEN_MAX>,
    /// Batch sizes in samples, strictly ascending. A training workload has exactly one.
    pub batches: Vec<u16, BATCHES_MAX>,
}

/// What one minibatch of one workload took and drew in one mode, as observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cell {
    /// Time of the minibatch, rounded up.
    pub time_us: MicroSec,
    /// Power of the module while it runs, rounded up.
    pub power_mw: MilliWatt,
}

impl Cell {
    /// At least as fast at no more power.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.time_us <= other.time_us && self.power_mw <= other.power_mw
    }
}

/// One observed mode with its cells.
///
/// Cells are in the order of [`PlanTable::slot_train`] and [`PlanTable::slots_infer`]; `None` where
/// that workload and batch size was not measured in this mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The mode.
    pub mode: PowerMode,
    /// One slot per (workload, batch size) of the plan.
    pub cells: Vec<Option<Cell>, CELLS_MAX>,
}

impl Row {
    /// The cell of a slot, if it was measured.
    #[inline]
    #[must_use]
    pub fn cell(&self, slot: usize) -> Option<&Cell> {
        self.cells.get(slot).and_then(Option::as_ref)
    }

    /// The smallest power of the row: rows are sorted by it.
    #[inline]
    #[must_use]
    pub fn power_min(&self) -> Option<MilliWatt> {
        self.cells.iter().flatten().map(|cell| cell.power_mw).min()
    }

    /// Whether every question that `other` answers is answered at least as well by this row: it has
    /// every cell that `other` has, as fast or faster, at the same power or less.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other
            .cells
            .iter()
            .enumerate()
            .all(|(slot, cell)| match cell {
                None => true,
                Some(theirs) => self.cell(slot).is_some_and(|ours| ours.covers(theirs)),
            })
    }
}

/// Where a plan came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Search strategy, such as `als:50`.
    pub strategy: String<STRATEGY_LEN_MAX>,
    /// Seed of the search.
    pub seed: u64,
    /// Profiles spent: runs of one (mode, workload, batch size).
    pub profiles: u32,
    /// CRC-32 of the measurements that went in (see `fulcrum_planner::profile`), to tell two plans
    /// of the same name apart.
    pub inputs_crc: u32,
    /// Masks of the GPU that was measured; not known of measured grids and simulated boards.
    pub gpu_masks: GpuMasks,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanTable {
    /// The board the plan was made for.
    pub board: board::Name,
    /// Where it came from.
    pub provenance: Provenance,
    /// The training workload, if the plan has one.
    pub train: Option<Workload>,
    /// Inference workloads: the urgent one first.
    pub infer: Vec<Workload, INFER_MAX>,
    /// The modes, sorted by (smallest power, mode).
    pub rows: Vec<Row, ROWS_MAX>,
}

impl PlanTable {
    /// Slot of the training cell.
    #[must_use]
    pub const fn slot_train(&self) -> Option<usize> {
        if self.train.is_some() { Some(0) } else { None }
    }

    /// Slots of an inference workload with their batch sizes: `(slot, batch)`, ascending.
    pub fn slots_infer(&self, workload: usize) -> impl Iterator<Item = (usize, u16)> + '_ {
        let before = self
            .infer
            .iter()
            .take(workload)
            .map(|workload| workload.batches.len());
        let first = usize::from(self.train.is_some()).saturating_add(before.sum());
        let batches = self
            .infer
            .get(workload)
            .map_or(&[][..], |workload| &workload.batches);
        batches
            .iter()
            .enumerate()
            .map(move |(at, batch)| (first.saturating_add(at), *batch))
    }

    /// Cells of every row.
    #[must_use]
    pub fn slot_count(&self) -> usize {
        let infer: usize = self
            .infer
            .iter()
            .map(|workload| workload.batches.len())
            .sum();
        infer.saturating_add(usize::from(self.train.is_some()))
    }
}

/// Inserts an item, moving what is behind; back comes an item that finds no room. (heapless' own `insert` panics beyond
/// the end, and no compiler knows that `at` is not: I1.)
pub(crate) fn insert<T, const N: usize>(list: &mut Vec<T, N>, at: usize, item: T) -> Result<(), T> {
    list.push(item)?;
    if let Some(tail @ [_, ..]) = list.get_mut(at..) {
        tail.rotate_right(1);
    }
    Ok(())
}
