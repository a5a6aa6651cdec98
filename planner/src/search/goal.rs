//! One demand to be answered, for the searches that look for one answer only.

use crate::bench::{Bench, Stop};
use crate::offer::{Offer, Part};
use fulcrum_plan::problem::{self, Demand};
use fulcrum_plan::select::Problem;
use fulcrum_plan::{Cell, problem as formulas};

/// A problem with one demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// What is decided.
    pub problem: Problem,
    /// Budgets and rate; only the power counts in training.
    pub demand: Demand,
}

/// Cells of a mode under an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Observed {
    pub(super) serve: Option<(Part, Cell)>,
    pub(super) background: Option<(Part, Cell)>,
}

impl Observed {
    /// Measures a mode under an offer; `None` if a cell cannot be trusted.
    pub(super) fn measure(
        bench: &mut Bench<'_>,
        mode: usize,
        offer: &Offer,
    ) -> Result<Option<Self>, Stop> {
        let mut known = |part: Option<Part>| -> Result<Option<Option<(Part, Cell)>>, Stop> {
            let Some(part) = part else {
                return Ok(Some(None));
            };
            let cell = bench.measure(mode, part.slot)?;
            Ok(cell.map(|cell| Some((part, cell))))
        };
        let serve = known(offer.serve)?;
        let background = known(offer.background)?;
        Ok(serve
            .zip(background)
            .map(|(serve, background)| Self { serve, background }))
    }

    /// Power while the parts take turns, in mW.
    pub(super) fn power_mw(&self) -> u32 {
        let power =
            |part: Option<(Part, Cell)>| part.map(|(_, cell)| cell.power_mw).unwrap_or_default();
        formulas::interleaved_power(power(self.serve), power(self.background)).0
    }

    /// The part that draws more, with its cell.
    pub(super) fn dominant(&self) -> Option<(Part, Cell)> {
        let parts = self.serve.into_iter().chain(self.background);
        parts.max_by_key(|(_, cell)| cell.power_mw)
    }

    /// Whether the requests are served in time, apart from power.
    pub(super) fn is_in_time(&self, demand: &Demand) -> bool {
        self.serve.is_none_or(|(part, cell)| {
            problem::meets_latency(part.batch, demand.rate, cell.time_us, demand.latency_us)
                && problem::sustains(part.batch, demand.rate, cell.time_us)
        })
    }

    /// Whether it answers the demand.
    pub(super) fn fits(&self, demand: &Demand) -> bool {
        self.power_mw() <= demand.power_mw.0 && self.is_in_time(demand)
    }
}
