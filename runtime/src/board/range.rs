//! A lower and an upper bound of one clock, and the order in which to move them.

use super::controls::{ATTEMPTS, Controls, SETTLE, read_patiently, write_patiently};
use super::node::{Cause, Node, NodeError};
use serde::{Deserialize, Serialize};

/// Bounds of a clock in the unit of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Lower bound.
    pub min: u64,
    /// Upper bound.
    pub max: u64,
}

impl Range {
    /// A clock that cannot move.
    #[must_use]
    pub fn pinned(clock: u64) -> Self {
        Self {
            min: clock,
            max: clock,
        }
    }
}

/// The two files of a range.
#[derive(Clone, Copy, Debug)]
pub(super) struct RangeNodes {
    pub(super) min: Node,
    pub(super) max: Node,
}

impl RangeNodes {
    pub(super) fn read<C: Controls>(self, controls: &mut C) -> Result<Range, NodeError> {
        Ok(Range {
            min: read_patiently(controls, self.min)?,
            max: read_patiently(controls, self.max)?,
        })
    }

    /// Moves the range and reads it back; tries again a bounded number of times.
    ///
    /// The kernel refuses a minimum above the maximum (jetson.md 4.2), so the bound that moves away
    /// from the other one goes first: upwards the maximum, downwards the minimum. Both are written
    /// even if they read the right value already: under thermal pressure the kernel shows a lowered
    /// maximum in place of the one that was set.
    pub(super) fn set<C: Controls>(self, controls: &mut C, to: Range) -> Result<(), NodeError> {
        let mut tries = 1;
        loop {
            let now = self.read(controls)?;
            if to.max >= now.max {
                write_patiently(controls, self.max, to.max)?;
                write_patiently(controls, self.min, to.min)?;
            } else {
                write_patiently(controls, self.min, to.min)?;
                write_patiently(controls, self.max, to.max)?;
            }
            let got = self.read(controls)?;
            if got == to {
                return Ok(());
            }
            if tries == ATTEMPTS {
                return Err(self.difference(to, got));
            }
            tries += 1;
            controls.wait(SETTLE);
        }
    }

    fn difference(self, expected: Range, got: Range) -> NodeError {
        let (node, expected, got) = if got.max == expected.max {
            (self.min, expected.min, got.min)
        } else {
            (self.max, expected.max, got.max)
        };
        NodeError {
            node,
            cause: Cause::Differs { expected, got },
        }
    }
}
