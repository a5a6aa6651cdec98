//! BS: GMD's bisection with the knobs in turn instead of the steepest one (fulcrum.md section 5).

use super::gmd_paper::{Choice, search};
use super::goal::Goal;
use crate::bench::{Bench, Stop};

/// Searches an answer to `goal` with at most `modes_max` mode profiles.
///
/// # Errors
/// [`Stop`], as the bench gave it.
pub fn run(bench: &mut Bench<'_>, goal: &Goal, modes_max: usize) -> Result<(), Stop> {
    search(bench, goal, modes_max, Choice::RoundRobin)
}
