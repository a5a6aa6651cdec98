//! GMD, ours: the draft's idea (few modes, chosen one at a time, for one demand) with a surrogate in
//! the place of the slopes.
//!
//! The batch size is chosen as in the draft: the largest that the top mode serves in time, then
//! smaller ones while nothing fits. At each, a few modes of the initial design, then the modes with
//! the largest expected gain at this one demand. The limit counts modes; a mode profiled again at
//! another batch size counts again.

use super::design;
use super::goal::{Goal, Observed};
use super::propose::{self, Agenda};
use crate::bench::{Bench, Stop};
use crate::demand::{DemandGrid, Load};
use crate::offer::Offer;
use crate::pool::Pool;
use crate::prior::Evidence;
use crate::surrogate::{Prediction, Surrogate};
use fulcrum_plan::Cell;
use fulcrum_plan::select::Problem;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Modes of the initial design.
const INITIAL_MODES: usize = 4;
/// A search ends when the expected gain of the best mode is below this.
const GAIN_MIN: f64 = 1e-4;

/// What was believed after which observations: searches for many demands of one task take many of the
/// same steps, and the same observations always lead to the same beliefs.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<Vec<Seen>, Arc<State>>);

/// Mode, slot and cell of an observation.
type Seen = (usize, usize, Option<Cell>);

/// A surrogate, and its beliefs by mode, then slot, of the modes that were asked for.
#[derive(Debug)]
struct State {
    surrogate: Surrogate,
    beliefs: Vec<OnceLock<Vec<Option<Prediction>>>>,
}

impl Memory {
    fn state(
        &mut self,
        evidence: &Evidence,
        pool: &Pool,
        before: Option<&State>,
    ) -> Option<Arc<State>> {
        let observed = pool.order().iter();
        let key = observed.map(|&(mode, slot)| (mode, slot, pool.cell(mode, slot)));
        let key: Vec<Seen> = key.collect();
        if let Some(state) = self.0.get(&key) {
            return Some(Arc::clone(state));
        }
        let seen = evidence.pool(pool);
        let surrogate = Surrogate::fit(
            &evidence.clocks,
            &seen,
            before.map(|state| &state.surrogate),
        )?;
        let beliefs = (0..pool.mode_count()).map(|_| OnceLock::new()).collect();
        let state = Arc::new(State { surrogate, beliefs });
        self.0.insert(key, Arc::clone(&state));
        Some(state)
    }
}

/// Searches an answer to `goal` with at most `modes_max` mode profiles.
///
/// # Errors
/// [`Stop`], as the bench gave it.
pub fn run(
    bench: &mut Bench<'_>,
    goal: &Goal,
    modes_max: usize,
    memory: &mut Memory,
) -> Result<(), Stop> {
    let evidence = bench.evidence();
    let mut offers = Offer::of(bench.task(), goal.problem);
    if !matches!(goal.problem, Problem::Inference(_)) {
        offers.reverse();
    }
    let mut left = modes_max;
    for offer in offers {
        if window_is_late(&offer, goal) {
            continue;
        }
        let is_solved = at_offer(bench, goal, &evidence, &offer, &mut left, memory)?;
        if is_solved || left == 0 {
            break;
        }
    }
    Ok(())
}

/// Whether a batch takes longer to arrive than the latency budget allows.
fn window_is_late(offer: &Offer, goal: &Goal) -> bool {
    offer.serve.is_some_and(|part| {
        fulcrum_plan::problem::time_infer_max(part.batch, &goal.demand).is_none()
    })
}

/// Measures a mode under the offer, if there is a profile left; whether it is in time and whether it
/// fits.
fn profile(
    bench: &mut Bench<'_>,
    mode: usize,
    offer: &Offer,
    left: &mut usize,
) -> Result<Option<Observed>, Stop> {
    if *left == 0 {
        return Ok(None);
    }
    *left -= 1;
    Observed::measure(bench, mode, offer)
}

/// The search at one offer; whether an answer was found.
fn at_offer(
    bench: &mut Bench<'_>,
    goal: &Goal,
    evidence: &Evidence,
    offer: &Offer,
    left: &mut usize,
    memory: &mut Memory,
) -> Result<bool, Stop> {
    let mut solved = false;
    let clocks = &evidence.clocks[..bench.modes().len()];
    for (at, mode) in design::initial(clocks, INITIAL_MODES)
        .into_iter()
        .enumerate()
    {
        let seen = profile(bench, mode, offer, left)?;
        solved |= seen.is_some_and(|seen| seen.fits(&goal.demand));
        let is_late = seen.is_some_and(|seen| !seen.is_in_time(&goal.demand));
        if at == 0 && is_late {
            return Ok(false);
        }
    }
    let grid = DemandGrid {
        powers: vec![goal.demand.power_mw],
        loads: vec![Load {
            latency_us: goal.demand.latency_us,
            rate: goal.demand.rate,
        }],
    };
    let mut agenda = Agenda::new(clocks.len());
    let mut state: Option<Arc<State>> = None;
    while *left > 0 {
        state = memory.state(evidence, bench.pool(), state.as_deref());
        let Some(state) = &state else {
            break;
        };
        let (pool, offers) = (bench.pool(), [*offer]);
        let believe = |mode: usize| {
            let fresh = || propose::beliefs(&state.surrogate, &clocks[mode], pool, mode, &offers);
            state.beliefs[mode].get_or_init(fresh).clone()
        };
        let Some(next) = agenda.next(believe, pool, &offers, &grid) else {
            break;
        };
        if next.gain < GAIN_MIN {
            break;
        }
        let seen = profile(bench, next.mode, offer, left)?;
        solved |= seen.is_some_and(|seen| seen.fits(&goal.demand));
    }
    Ok(solved)
}
