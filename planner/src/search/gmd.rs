//! GMD, ours: the draft's idea (few modes, chosen one at a time, for one demand) with a surrogate in
//! the place of the slopes.
//!
//! As in the draft the top mode tells the largest batch size that can be served in time, and a few modes of
//! the initial design are measured at it. Then come the modes with the largest expected gain at this one
//! demand, each at the batch sizes that pay: what is believed of those not yet measured comes from the
//! others. The limit counts modes; a mode profiled again at another batch size counts again.

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

/// A surrogate, and its beliefs by mode, then slot, of the cells that were asked for.
#[derive(Debug)]
struct State {
    surrogate: Surrogate,
    beliefs: Vec<OnceLock<Option<Prediction>>>,
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
            &evidence.task,
            &evidence.clocks,
            &seen,
            before.map(|state| &state.surrogate),
        )?;
        let cells = 0..pool.mode_count() * pool.slot_count();
        let beliefs = cells.map(|_| OnceLock::new()).collect();
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
    let clocks = &evidence.clocks[..bench.modes().len()];
    let mut offers = Offer::of(bench.task(), goal.problem);
    offers.retain(|offer| !window_is_late(offer, goal));
    if !matches!(goal.problem, Problem::Inference(_)) {
        offers.reverse();
    }
    let mut left = modes_max;
    let mut initial = design::initial(clocks, INITIAL_MODES).into_iter();
    if let Some(top) = initial.next() {
        while let Some(offer) = offers.first().copied() {
            let seen = profile(bench, top, &offer, &mut left)?;
            if seen.is_none_or(|seen| seen.is_in_time(&goal.demand)) {
                break;
            }
            offers.remove(0);
        }
    }
    let Some(first) = offers.first().copied() else {
        return Ok(());
    };
    for mode in initial {
        profile(bench, mode, &first, &mut left)?;
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
    while left > 0 {
        state = memory.state(&evidence, bench.pool(), state.as_deref());
        let Some(state) = &state else {
            break;
        };
        let pool = bench.pool();
        let believe = |mode: usize| {
            propose::by_slot(pool.slot_count(), &offers, |slot| {
                let fresh = || propose::belief(&state.surrogate, &clocks[mode], pool, mode, slot);
                let cell = &state.beliefs[mode * pool.slot_count() + slot];
                *cell.get_or_init(fresh)
            })
        };
        let Some(next) = agenda.next(believe, pool, &offers, &grid) else {
            break;
        };
        if next.gain < GAIN_MIN {
            break;
        }
        let slots = &next.slots;
        let is_new = |offer: &&Offer| offer.slots().any(|slot| slots.contains(&slot));
        let is_known = |slot: usize| pool.cell(next.mode, slot).is_some();
        let is_whole = |offer: &&Offer| {
            let mut needed = offer.slots();
            needed.all(|slot| slots.contains(&slot) || is_known(slot))
        };
        let chosen: Vec<Offer> = offers
            .iter()
            .filter(is_new)
            .filter(is_whole)
            .copied()
            .collect();
        for offer in chosen {
            profile(bench, next.mode, &offer, &mut left)?;
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

/// Measures a mode under the offer, if there is a profile left.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::prior::Prior;
    use crate::profile::synthetic::Synthetic;
    use crate::profile::{Measurement, ProfileSource as _, Run, find_workload};
    use crate::workload::{Role, Task};
    use fulcrum_plan::problem::Demand;
    use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};

    /// What a search over every 30th mode of the board observes for a power budget.
    fn observed(watts: u32, modes_max: usize) -> Pool {
        let mut board = Synthetic::new(boards::named("orin-agx").unwrap(), 1).without_noise();
        let of = |role, name| find_workload(&board, role, name).unwrap();
        let train = of(Role::Train, "resnet18");
        let infer = of(Role::Infer, "mobilenetv3");
        let task = Task::new(Some(train), vec![infer]).unwrap();
        let modes: Vec<_> = board.modes(&[]).into_iter().step_by(30).collect();
        let mut quiet = |_: usize, _: usize, _: &Run, _: &Measurement| {};
        let prior = Prior::default();
        let mut bench = Bench::new(&mut board, &task, &modes, &prior, usize::MAX, &mut quiet);
        let goal = Goal {
            problem: Problem::TrainingInference(0),
            demand: Demand {
                power_mw: MilliWatt(watts * 1000),
                latency_us: MicroSec(2_000_000),
                rate: MilliRps(60_000),
            },
        };
        run(&mut bench, &goal, modes_max, &mut Memory::default()).unwrap();
        bench.finish().0
    }

    #[test]
    fn a_scarce_budget_is_looked_for_at_several_batch_sizes_within_the_limit() {
        let pool = observed(14, 15);
        let of_slot = |slot: usize| pool.order().iter().filter(|seen| seen.1 == slot).count();
        let served: Vec<usize> = (1..pool.slot_count()).map(of_slot).collect();
        let tried = served.iter().filter(|&&seen| seen > 0).count();
        assert!(tried > 1, "{served:?}");
        assert!(served.iter().sum::<usize>() <= 15, "{served:?}");
    }
}
