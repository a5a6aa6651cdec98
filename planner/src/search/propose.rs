//! The next profiles: the mode, and in it the slots, with the largest expected gain per profile.

use super::gain::Incumbents;
use crate::demand::DemandGrid;
use crate::offer::{Offer, Part};
use crate::pool::{Observation, Pool};
use crate::surrogate::clocks::Clocks;
use crate::surrogate::{Prediction, Surrogate};
use rayon::prelude::*;

/// What to profile next, and the gain that is expected of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Proposal {
    pub(super) mode: usize,
    pub(super) slots: Vec<usize>,
    /// Expected gain per profile, averaged over the demands.
    pub(super) gain: f64,
}

fn observed(pool: &Pool, mode: usize, slot: usize) -> Option<(f64, f64)> {
    let cell = pool.cell(mode, slot)?;
    Some((
        f64::from(cell.time_us.0) / 1e3,
        f64::from(cell.power_mw.0) / 1e3,
    ))
}

/// Best observed answers.
fn incumbents(pool: &Pool, offers: &[Offer], grid: &DemandGrid) -> Incumbents {
    let mut incumbents = Incumbents::new(grid);
    for mode in pool.observed_modes() {
        for offer in offers {
            let cell = |part: Option<Part>| part.map(|part| observed(pool, mode, part.slot));
            match (cell(offer.serve), cell(offer.background)) {
                (Some(None), _) | (_, Some(None)) => {}
                (serve, background) => {
                    incumbents.observe(offer, serve.flatten(), background.flatten());
                }
            }
        }
    }
    incumbents
}

/// What is known or believed of a cell; `None` for what is barred, and for a workload that no sample was
/// taken of.
pub(super) fn belief(
    surrogate: &Surrogate,
    clocks: &Clocks,
    pool: &Pool,
    mode: usize,
    slot: usize,
) -> Option<Prediction> {
    match pool.observation(mode, slot) {
        Observation::Barred => None,
        Observation::Seen(cell) => Some(Prediction::certain(&cell)),
        Observation::Unknown => surrogate.predict(clocks, slot),
    }
}

/// Whether an offer needs a slot.
pub(super) fn is_needed(offers: &[Offer], slot: usize) -> bool {
    offers.iter().any(|offer| offer.slots().any(|s| s == slot))
}

/// Beliefs of the cells of a mode, by slot; `None` for slots that no offer needs, and where `of` has none.
pub(super) fn by_slot(
    slots: usize,
    offers: &[Offer],
    of: impl Fn(usize) -> Option<Prediction>,
) -> Vec<Option<Prediction>> {
    (0..slots)
        .map(|slot| is_needed(offers, slot).then(|| of(slot)).flatten())
        .collect()
}

/// Modes that are looked at together.
const CHUNK: usize = 64;
/// Every so many proposals all modes are looked at.
const REFRESH: usize = 8;

/// Finds the next profiles without looking at every mode each time.
///
/// The more is observed the less there is to gain, so the gain that a mode had when it was last looked
/// at is nearly an upper bound, and modes are looked at in the order of their bounds until no bound is
/// above the best gain found (lazy greedy: Minoux, 1978, DOI 10.1007/BFb0006528). A belief that changed
/// may break a bound: so now and then every mode is looked at again.
#[derive(Clone, Debug)]
pub(super) struct Agenda {
    bounds: Vec<f64>,
    age: usize,
}

impl Agenda {
    /// An agenda for a number of modes.
    pub(super) fn new(modes: usize) -> Self {
        Self {
            bounds: vec![f64::INFINITY; modes],
            age: 0,
        }
    }

    /// The mode and its slots with the largest expected gain per profile; ties: the smaller mode.
    /// `believe` gives the beliefs of a mode, by slot.
    pub(super) fn next(
        &mut self,
        believe: impl Fn(usize) -> Vec<Option<Prediction>> + Sync,
        pool: &Pool,
        offers: &[Offer],
        grid: &DemandGrid,
    ) -> Option<Proposal> {
        if self.age.is_multiple_of(REFRESH) {
            self.bounds.fill(f64::INFINITY);
        }
        self.age += 1;
        let incumbents = incumbents(pool, offers, grid);
        let mut order: Vec<usize> = (0..self.bounds.len()).collect();
        order.sort_by(|&a, &b| self.bounds[b].total_cmp(&self.bounds[a]).then(a.cmp(&b)));
        let mut best: Option<Proposal> = None;
        for chunk in order.chunks(CHUNK) {
            let bound = chunk.first().map_or(0.0, |&mode| self.bounds[mode]);
            if best.as_ref().is_some_and(|best| best.gain > bound) {
                break;
            }
            let proposals: Vec<Option<Proposal>> = chunk
                .par_iter()
                .map(|&mode| best_slots(&believe(mode), pool, mode, offers, &incumbents))
                .collect();
            for (&mode, proposal) in chunk.iter().zip(proposals) {
                self.bounds[mode] = proposal.as_ref().map_or(0.0, |proposal| proposal.gain);
                let Some(proposal) = proposal else {
                    continue;
                };
                let is_better = best.as_ref().is_none_or(|best| {
                    proposal.gain > best.gain
                        || (proposal.gain == best.gain && proposal.mode < best.mode)
                });
                if is_better {
                    best = Some(proposal);
                }
            }
        }
        best
    }
}

/// An offer's gain at every demand, and the slots that are missing for it.
struct Open {
    missing: Vec<usize>,
    gains: Vec<f64>,
}

/// The slots of a mode with the largest gain per profile, and that gain.
fn best_slots(
    beliefs: &[Option<Prediction>],
    pool: &Pool,
    mode: usize,
    offers: &[Offer],
    incumbents: &Incumbents,
) -> Option<Proposal> {
    let is_open = |slot: usize| pool.observation(mode, slot) == Observation::Unknown;
    let mut open: Vec<Open> = Vec::new();
    for offer in offers {
        let missing: Vec<usize> = offer.slots().filter(|&slot| is_open(slot)).collect();
        if missing.is_empty() || offer.slots().any(|slot| beliefs[slot].is_none()) {
            continue;
        }
        let of = |part: Option<Part>| part.and_then(|part| beliefs[part.slot].as_ref());
        let mut gains = vec![0.0; incumbents.len()];
        if incumbents.gains(offer, of(offer.serve), of(offer.background), &mut gains) {
            open.push(Open { missing, gains });
        }
    }
    let mut slots: Vec<usize> = Vec::new();
    let mut together = vec![0.0; incumbents.len()];
    let mut total = 0.0;
    while let Some((marginal, at)) = best_addition(&open, &slots, &together, total) {
        if marginal <= total / slots.len().max(1) as f64 {
            break;
        }
        for (sum, gain) in together.iter_mut().zip(&open[at].gains) {
            *sum = sum.max(*gain);
        }
        let added = open[at].missing.iter().filter(|slot| !slots.contains(slot));
        let added: Vec<usize> = added.copied().collect();
        slots.extend(added);
        total = together.iter().sum();
    }
    let gain = total / slots.len().max(1) as f64 / incumbents.len() as f64;
    (!slots.is_empty()).then_some(Proposal { mode, slots, gain })
}

/// The offer that adds most gain per profile to what `slots` give together, and how much.
fn best_addition(
    open: &[Open],
    slots: &[usize],
    together: &[f64],
    total: f64,
) -> Option<(f64, usize)> {
    let mut best: Option<(f64, usize)> = None;
    for (at, offer) in open.iter().enumerate() {
        let extra = offer
            .missing
            .iter()
            .filter(|slot| !slots.contains(slot))
            .count();
        if extra == 0 {
            continue;
        }
        let union: f64 = offer
            .gains
            .iter()
            .zip(together)
            .map(|(a, b)| a.max(*b))
            .sum();
        let marginal = (union - total) / extra as f64;
        if best.is_none_or(|(largest, _)| marginal > largest) {
            best = Some((marginal, at));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demand::Load;
    use crate::search::gain::FIRST_ANSWER;
    use fulcrum_plan::Cell;
    use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};

    fn part(slot: usize) -> Part {
        Part {
            slot,
            batch: 10,
            worth: 1,
        }
    }

    /// Serving in slot 1 or 2, and training in slot 0 between.
    fn offers() -> [Offer; 2] {
        [1, 2].map(|slot| Offer {
            serve: Some(part(slot)),
            background: Some(part(0)),
        })
    }

    fn grid() -> DemandGrid {
        DemandGrid {
            powers: [10_000, 20_000].map(MilliWatt).to_vec(),
            loads: vec![Load {
                latency_us: MicroSec(300_000),
                rate: MilliRps(100_000),
            }],
        }
    }

    fn cell(time_ms: u32, power_w: u32) -> Cell {
        Cell {
            time_us: MicroSec(time_ms * 1000),
            power_mw: MilliWatt(power_w * 1000),
        }
    }

    /// Cells of three modes: too hungry, slow, and fast in slots 0 and 2.
    fn cells(mode: usize) -> [Cell; 3] {
        match mode {
            0 => [cell(1, 30); 3],
            1 => [cell(30, 9), cell(60, 9), cell(60, 9)],
            _ => [cell(10, 15), cell(90, 15), cell(15, 15)],
        }
    }

    fn next(pool: &Pool) -> Option<Proposal> {
        let believe = |mode: usize| {
            cells(mode)
                .map(|cell| Some(Prediction::certain(&cell)))
                .to_vec()
        };
        Agenda::new(pool.mode_count()).next(believe, pool, &offers(), &grid())
    }

    #[test]
    fn a_mode_is_proposed_with_the_slots_that_pay() {
        let mut pool = Pool::new(3, 3);
        let first = next(&pool).unwrap();
        // An answer to both budgets; one batch size is enough.
        assert_eq!((first.mode, first.slots), (1, vec![1, 0]));
        assert!(
            (first.gain - 0.5 * FIRST_ANSWER).abs() < 1e-5,
            "{}",
            first.gain
        );
        for slot in [0, 1] {
            pool.record(1, slot, Observation::Seen(cells(1)[slot]));
        }
        // Eight steps instead of one at the larger budget.
        let second = next(&pool).unwrap();
        assert_eq!((second.mode, second.slots), (2, vec![2, 0]));
        assert!(
            (second.gain - 7.0 / 8.0 / 4.0).abs() < 1e-6,
            "{}",
            second.gain
        );
        // With one of the cells known, the other is all that is to be paid.
        pool.record(2, 0, Observation::Seen(cells(2)[0]));
        let third = next(&pool).unwrap();
        assert_eq!((third.mode, third.slots), (2, vec![2]));
        pool.record(2, 2, Observation::Seen(cells(2)[2]));
        assert!(next(&pool).is_none_or(|last| last.gain < 1e-9));
    }

    #[test]
    fn a_barred_cell_leaves_its_mode_to_other_slots() {
        let mut pool = Pool::new(3, 3);
        pool.record(1, 1, Observation::Barred);
        let believe = |mode: usize| -> Vec<Option<Prediction>> {
            let known = |slot: usize| {
                let is_barred = pool.observation(mode, slot) == Observation::Barred;
                (!is_barred).then(|| Prediction::certain(&cells(mode)[slot]))
            };
            (0..3).map(known).collect()
        };
        let found = Agenda::new(3)
            .next(believe, &pool, &offers(), &grid())
            .unwrap();
        assert_eq!((found.mode, found.slots), (1, vec![2, 0]));
    }
}
