//! The cells of one slot, ready to be asked for a budget.

use crate::table::{Cell, PlanTable, ROWS_MAX, insert};
use crate::units::{MicroSec, MilliWatt};
use heapless::Vec;

/// Cells that are looked at together.
const TOGETHER: usize = 16;

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
        let last = count.checked_sub(1)?;
        let fastest = usize::from(*self.fastest.get(last)?);
        Some(Within {
            column: self,
            count,
            fastest_row: usize::from(*self.rows.get(fastest)?),
            fastest: Cell {
                time_us: *self.times_us.get(fastest)?,
                power_mw: *self.powers_mw.get(fastest)?,
            },
        })
    }
}

/// The cells of a slot within a power budget.
#[derive(Clone, Copy)]
pub(super) struct Within<'a> {
    column: &'a Column,
    /// How many they are: the first ones of the column.
    count: usize,
    /// Row of the fastest cell.
    pub(super) fastest_row: usize,
    /// The fastest cell; of the fastest the one of least power, of those the earliest row.
    pub(super) fastest: Cell,
}

impl Within<'_> {
    /// Visits the rows whose cell takes at most a time, from the hungriest down: good answers are usually found there.
    /// The visitor says the longest time from there on.
    pub(super) fn visit(&self, time_max: u64, mut visit: impl FnMut(usize) -> u64) {
        if u64::from(self.fastest.time_us.0) > time_max {
            return;
        }
        let mut time_max = time_max;
        let times_us = self.column.times_us.get(..self.count).unwrap_or_default();
        let rows = self.column.rows.get(..self.count).unwrap_or_default();
        let (times_rest, times) = times_us.as_rchunks::<TOGETHER>();
        let (rows_rest, rows) = rows.as_rchunks::<TOGETHER>();
        for (times, rows) in times.iter().zip(rows).rev() {
            let longest = MicroSec(u32::try_from(time_max).unwrap_or(u32::MAX));
            // Without an early end, so that the compiler compares all at once: few have one to be visited.
            if times
                .iter()
                .fold(false, |any, time| any | (*time <= longest))
            {
                time_max = visit_each(times, rows, time_max, &mut visit);
            }
        }
        visit_each(times_rest, rows_rest, time_max, &mut visit);
    }
}

/// [`Within::visit`], one cell after the other. A call for a few cells would take as long as they do.
#[inline(always)]
fn visit_each(
    times_us: &[MicroSec],
    rows: &[u8],
    time_max: u64,
    visit: &mut impl FnMut(usize) -> u64,
) -> u64 {
    let cells = times_us.iter().zip(rows).rev();
    cells.fold(time_max, |time_max, (time_us, row)| {
        if u64::from(time_us.0) <= time_max {
            visit(usize::from(*row))
        } else {
            time_max
        }
    })
}
