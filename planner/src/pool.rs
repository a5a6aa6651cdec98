//! What was observed: one optional cell per candidate mode and slot.

use crate::margin::Margin;
use fulcrum_plan::Cell;

/// What is known of one (mode, slot).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Observation {
    /// Nothing.
    #[default]
    Unknown,
    /// A trusted measurement.
    Seen(Cell),
    /// Every attempt had a fault: not to be asked again, not to be used.
    Barred,
}

/// The observations of one search. Modes and slots are indexes.
#[derive(Clone, Debug)]
pub struct Pool {
    slots: usize,
    observations: Vec<Observation>,
    order: Vec<(usize, usize)>,
}

impl Pool {
    /// An empty pool.
    #[must_use]
    pub fn new(modes: usize, slots: usize) -> Self {
        Self {
            slots,
            observations: vec![Observation::Unknown; modes * slots],
            order: Vec::new(),
        }
    }

    /// Number of candidate modes.
    #[must_use]
    pub fn mode_count(&self) -> usize {
        self.observations.len() / self.slots
    }

    /// Number of slots.
    #[must_use]
    pub const fn slot_count(&self) -> usize {
        self.slots
    }

    /// What is known of a (mode, slot).
    #[must_use]
    pub fn observation(&self, mode: usize, slot: usize) -> Observation {
        self.observations[mode * self.slots + slot]
    }

    /// The cell of a (mode, slot), if it was observed.
    #[must_use]
    pub fn cell(&self, mode: usize, slot: usize) -> Option<Cell> {
        match self.observation(mode, slot) {
            Observation::Seen(cell) => Some(cell),
            Observation::Unknown | Observation::Barred => None,
        }
    }

    /// Records what was found.
    pub fn record(&mut self, mode: usize, slot: usize, observation: Observation) {
        self.observations[mode * self.slots + slot] = observation;
        if let Observation::Seen(_) = observation {
            self.order.push((mode, slot));
        }
    }

    /// The same observations with every cell widened by a margin.
    #[must_use]
    pub fn widened(&self, margin: Margin) -> Self {
        let mut pool = self.clone();
        for observation in &mut pool.observations {
            if let Observation::Seen(cell) = observation {
                *cell = margin.widen(*cell);
            }
        }
        pool
    }

    /// Observed (mode, slot)s, in the order they were observed.
    #[must_use]
    pub fn order(&self) -> &[(usize, usize)] {
        &self.order
    }

    /// Modes with at least one cell, ascending.
    #[must_use]
    pub fn observed_modes(&self) -> Vec<usize> {
        let mut modes: Vec<usize> = self.order.iter().map(|&(mode, _)| mode).collect();
        modes.sort_unstable();
        modes.dedup();
        modes
    }
}
