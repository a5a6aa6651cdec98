//! Which conditions an answer breaks in truth.

use super::case::Case;
use crate::answer::Answer;
use crate::demand::Load;
use fulcrum_plan::problem;
use fulcrum_plan::units::{MicroSec, MilliWatt};
use serde::Serialize;

/// A violation by more than this in power is gross.
const GROSS_POWER_MW: u32 = 1_000;
/// A violation by more than this in latency is gross.
const GROSS_LATENCY_US: u64 = 10_000;

/// Answers whose mode, in truth, breaks a condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Violations {
    /// Answers given.
    pub answers: usize,
    /// More power than the budget.
    pub power: usize,
    /// Later than the budget.
    pub latency: usize,
    /// Slower than the arrivals.
    pub rate: usize,
    /// More than 1 W or 10 ms over.
    pub gross: usize,
}

impl Violations {
    /// Counts what an answer breaks.
    pub(super) fn count(&mut self, case: &Case, answer: &Answer, load: &Load, power: MilliWatt) {
        let offer = &case.offers[answer.offer];
        let drawn = offer
            .slots()
            .filter_map(|slot| case.cell(answer.mode, slot));
        let over = drawn
            .map(|cell| cell.power_mw.0.saturating_sub(power.0))
            .max()
            .unwrap_or(0);
        self.power += usize::from(over > 0);
        let mut is_gross = over > GROSS_POWER_MW;
        if let Some(part) = offer.serve
            && let Some(cell) = case.cell(answer.mode, part.slot)
        {
            let sustains = problem::sustains(part.batch, load.rate, cell.time_us);
            self.rate += usize::from(!sustains);
            let late = |budget: MicroSec| {
                !problem::meets_latency(part.batch, load.rate, cell.time_us, budget)
            };
            self.latency += usize::from(late(load.latency_us));
            let slack = u64::from(load.latency_us.0) + GROSS_LATENCY_US;
            is_gross |= late(MicroSec(u32::try_from(slack).unwrap_or(u32::MAX)));
        }
        self.gross += usize::from(is_gross);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.answers += other.answers;
        self.power += other.power;
        self.latency += other.latency;
        self.rate += other.rate;
        self.gross += other.gross;
    }

    /// Violations of any kind; an answer can have several.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.power + self.latency + self.rate
    }
}
