//! GMD as the Fulcrum draft describes it (fulcrum.md section 3), without the flaws of its code: the
//! pair of a knob is updated with the powers of the two modes it consists of, the limit ends the
//! search wherever it is reached, and a demand that the top mode cannot meet ends it as well.
//!
//! It answers one demand. The limit counts modes as the paper does: a mode profiled again at another
//! batch size counts again.

use super::bisection::{KNOBS, Lattice, Walk};
use super::goal::{Goal, Observed};
use crate::bench::{Bench, Stop};
use crate::offer::Offer;
use crate::workload::Role;
use fulcrum_plan::select::Problem;

/// A knob whose pair differs by less than this in power has no slope, in mW.
const POWER_STEP_MIN_MW: u32 = 1_000;
/// The same for inference.
const POWER_STEP_MIN_INFER_MW: u32 = 200;

/// How the next knob is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// The one with the steepest time per power (GMD).
    Steepest,
    /// One after the other (BS).
    RoundRobin,
}

/// Searches an answer to `goal` with at most `modes_max` mode profiles.
///
/// # Errors
/// [`Stop`], as the bench gave it.
pub fn run(bench: &mut Bench<'_>, goal: &Goal, modes_max: usize) -> Result<(), Stop> {
    search(bench, goal, modes_max, Choice::Steepest)
}

/// The search of GMD and BS.
pub(super) fn search(
    bench: &mut Bench<'_>,
    goal: &Goal,
    modes_max: usize,
    choice: Choice,
) -> Result<(), Stop> {
    let modes = bench.modes();
    let mut search = Search {
        bench,
        goal,
        lattice: Lattice::new(modes),
        left: modes_max,
        choice,
        late: Vec::new(),
    };
    search.run()
}

struct Search<'a, 'b, 'c> {
    bench: &'a mut Bench<'b>,
    goal: &'c Goal,
    lattice: Lattice<'b>,
    left: usize,
    choice: Choice,
    /// Modes within the power budget that did not keep up.
    late: Vec<usize>,
}

/// Two observed modes that differ in one knob.
type Pair = Option<(Observed, Observed)>;

impl Search<'_, '_, '_> {
    fn run(&mut self) -> Result<(), Stop> {
        let mut offers = Offer::of(self.bench.task(), self.goal.problem);
        match self.goal.problem {
            Problem::Training => {
                if let Some(offer) = offers.first().copied() {
                    self.bisect(&offer)?;
                }
            }
            Problem::Inference(_) => {
                // Smallest batch first; then the modes that only failed to keep up, at larger ones.
                for (at, offer) in offers.clone().iter().enumerate() {
                    let solved = if at == 0 {
                        self.bisect(offer)?
                    } else {
                        self.retry(offer)?
                    };
                    if solved || self.left == 0 {
                        break;
                    }
                }
            }
            Problem::TrainingInference(_) | Problem::TwoInferences => {
                // Largest batch first; those that even the top mode cannot serve are dropped.
                offers.reverse();
                for offer in &offers {
                    let top = self.lattice.top();
                    let Some(seen) = self.profile(&top, offer)? else {
                        continue;
                    };
                    if seen.is_in_time(&self.goal.demand)
                        && (seen.fits(&self.goal.demand) || self.bisect(offer)?)
                    {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Profiles the mode at a place under an offer; `None` if there is no such mode, or no profile
    /// left.
    fn profile(&mut self, at: &[usize; KNOBS], offer: &Offer) -> Result<Option<Observed>, Stop> {
        let Some(mode) = self.lattice.mode(at) else {
            return Ok(None);
        };
        let pool = self.bench.pool();
        if offer.slots().any(|slot| pool.cell(mode, slot).is_none()) {
            if self.left == 0 {
                return Ok(None);
            }
            self.left -= 1;
        }
        let seen = Observed::measure(self.bench, mode, offer)?;
        if let Some(seen) = &seen
            && seen.power_mw() <= self.goal.demand.power_mw.0
            && !seen.is_in_time(&self.goal.demand)
        {
            self.late.push(mode);
        }
        Ok(seen)
    }

    /// Whether some mode that was late answers at another batch size.
    fn retry(&mut self, offer: &Offer) -> Result<bool, Stop> {
        for mode in self.late.clone() {
            if self.left == 0 {
                return Ok(false);
            }
            self.left -= 1;
            let seen = Observed::measure(self.bench, mode, offer)?;
            if seen.is_some_and(|seen| seen.fits(&self.goal.demand)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The search at one offer; whether an answer was found.
    fn bisect(&mut self, offer: &Offer) -> Result<bool, Stop> {
        let mut walk = self.lattice.walk();
        let Some(middle) = self.profile(&walk.at, offer)? else {
            return Ok(false);
        };
        let mut solved = middle.fits(&self.goal.demand);
        let mut pairs: [Pair; KNOBS] = [None; KNOBS];
        let is_over = middle.power_mw() > self.goal.demand.power_mw.0;
        if self.choice == Choice::Steepest {
            for (knob, pair) in pairs.iter_mut().enumerate() {
                let at = walk.with_extreme(knob, !is_over);
                if let Some(seen) = self.profile(&at, offer)? {
                    solved |= seen.fits(&self.goal.demand);
                    *pair = Some((middle, seen));
                }
            }
        }
        let mut current = middle;
        let mut turn = 0;
        while self.left > 0 {
            let up = current.power_mw() <= self.goal.demand.power_mw.0;
            let Some(knob) = self.next_knob(&walk, &pairs, up, &mut turn) else {
                break;
            };
            walk.step(knob, up);
            let Some(seen) = self.profile(&walk.at, offer)? else {
                break;
            };
            solved |= seen.fits(&self.goal.demand);
            pairs[knob] = Some((current, seen));
            current = seen;
        }
        Ok(solved)
    }

    fn next_knob(
        &self,
        walk: &Walk,
        pairs: &[Pair; KNOBS],
        up: bool,
        turn: &mut usize,
    ) -> Option<usize> {
        let open = |knob: &usize| walk.can_step(*knob, up);
        if self.choice == Choice::RoundRobin {
            let next = (*turn..*turn + KNOBS).map(|turn| turn % KNOBS).find(open)?;
            *turn = next + 1;
            return Some(next);
        }
        (0..KNOBS)
            .filter(open)
            .map(|knob| (knob, self.slope(&pairs[knob])))
            .filter(|(_, slope)| *slope > 0.0)
            // Of equal slopes the first knob.
            .rev()
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .map(|(knob, _)| knob)
    }

    /// `|dt / dP|` of a pair, of the workload that dominates its power, in µs per mW.
    fn slope(&self, pair: &Pair) -> f64 {
        let both = |(one, other): &(Observed, Observed)| one.dominant().zip(other.dominant());
        let Some(((part, a), (_, b))) = pair.as_ref().and_then(both) else {
            return 0.0;
        };
        let smallest = match self.bench.task().workload_of(part.slot).role {
            Role::Infer => POWER_STEP_MIN_INFER_MW,
            Role::Train => POWER_STEP_MIN_MW,
        };
        let power = a.power_mw.0.abs_diff(b.power_mw.0);
        if power < smallest {
            return 0.0;
        }
        f64::from(a.time_us.0.abs_diff(b.time_us.0)) / f64::from(power)
    }
}
