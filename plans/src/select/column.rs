//! The cells of one slot, ready to be asked for a budget.

use crate::table::{PlanTable, ROWS_MAX, insert};
use crate::units::{MicroSec, MilliWatt};
use heapless::Vec;

/// The cells of one slot by power, then row, so that a budget allows a prefix. A list for each of their parts: what
/// is looked at together then lies together.
#[derive(Default)]
pub(super) struct Column {
    powers_mw: Vec<MilliWatt, ROWS_MAX>,
    times_us: Vec<MicroSec, ROWS_MAX>,
    rows: Vec<u8, ROWS_MAX>,
    /// Of each prefix, by its last cell, where its fastest cell is; of the fastest the one of least power, of those
    /// the earliest row.
    fastest: Vec<u8, ROWS_MAX>,
}

// Rows and places are kept in a byte.
const _: () = assert!(ROWS_MAX <= 1 << u8::BITS);

impl Column {
    pub(super) fn new(plan: &PlanTable, slot: usize) -> Self {
        let mut column = Self::default();
        for (row, index) in plan.rows.iter().zip(0..=u8::MAX) {
            let Some(cell) = row.cell(slot) else { continue };
            let at = column
                .powers_mw
                .partition_point(|power_mw| *power_mw <= cell.power_mw);
            // There are no more cells than rows.
            _ = insert(&mut column.powers_mw, at, cell.power_mw);
            _ = insert(&mut column.times_us, at, cell.time_us);
            _ = insert(&mut column.rows, at, index);
        }
        let mut best = (MicroSec(u32::MAX), 0);
        for (time_us, at) in column.times_us.iter().zip(0..=u8::MAX) {
            if *time_us < best.0 {
                best = (*time_us, at);
            }
            _ = column.fastest.push(best.1);
        }
        column
    }

    /// The cells within a power budget, if there is one.
    pub(super) fn within(&self, budget: MilliWatt) -> Option<Within<'_>> {
        let count = self
            .powers_mw
            .partition_point(|power_mw| *power_mw <= budget);
        let fastest = self.fastest_of(count)?;
        Some(Within {
            column: self,
            count,
            fastest,
            time_min: *self.times_us.get(fastest)?,
        })
    }

    /// Where the fastest of the first cells is, of so many.
    fn fastest_of(&self, count: usize) -> Option<usize> {
        let last = count.checked_sub(1)?;
        self.fastest.get(last).copied().map(usize::from)
    }
}

/// The cells of a slot within a power budget.
#[derive(Clone, Copy)]
pub(super) struct Within<'a> {
    column: &'a Column,
    /// How many they are: the first ones of the column.
    count: usize,
    /// Where the fastest cell is; of the fastest the one of least power, of those the earliest row.
    fastest: usize,
    /// The time of the fastest cell.
    pub(super) time_min: MicroSec,
}

impl Within<'_> {
    /// The row of the fastest cell.
    pub(super) fn fastest_row(&self) -> Option<usize> {
        self.column.rows.get(self.fastest).copied().map(usize::from)
    }

    /// The power of the fastest cell.
    pub(super) fn fastest_power(&self) -> Option<MilliWatt> {
        self.column.powers_mw.get(self.fastest).copied()
    }

    /// Visits the rows whose cell takes at most a time, from the hungriest down: good answers are usually found there.
    /// The visitor says the longest time from there on.
    pub(super) fn visit(&self, time_max: u64, mut visit: impl FnMut(usize) -> u64) {
        let column = self.column;
        let (mut time_max, mut count) = (time_max, self.count);
        // Where the fastest of what is left takes longer, all of it does.
        while let Some(fastest) = column.fastest_of(count)
            && let Some(times_us) = column.times_us.get(fastest..count)
            && let Some(rows) = column.rows.get(fastest..count)
            && let Some(shortest) = times_us.first()
            && u64::from(shortest.0) <= time_max
        {
            for (time_us, row) in times_us.iter().zip(rows).rev() {
                if u64::from(time_us.0) <= time_max {
                    time_max = visit(usize::from(*row));
                }
            }
            count = fastest;
        }
    }
}
