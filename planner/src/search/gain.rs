//! What a cell not yet measured may gain, over the demands that users have.
//!
//! The *score* of an [`Offer`] is what a demand wants more of: background throughput, or
//! the inverse of the latency. The gain of an offer at a demand is the expected relative improvement
//! over the best observed answer, `E[max(1 - old/new, 0)]`; 1 where there was none, and [`FIRST_ANSWER`] where
//! there was none under any load: the expected improvement of Jones et al. (1998), DOI
//! 10.1023/A:1008306431147, integrated over demands, with the constraints' probability (Gardner et al.,
//! 2014, Bayesian Optimization with Inequality Constraints).

use crate::demand::{DemandGrid, Load};
use crate::offer::Offer;
use crate::surrogate::Prediction;
use crate::surrogate::normal;

/// Nodes and weights of Gauss-Hermite quadrature for a standard normal variable (Abramowitz and
/// Stegun, table 25.10, scaled).
const NODES: [(f64, f64); 5] = [
    (-2.856_970, 0.011_257),
    (-1.355_626, 0.222_076),
    (0.0, 0.533_334),
    (1.355_626, 0.222_076),
    (2.856_970, 0.011_257),
];

/// What a first answer to a power budget gains. More than an answer that is infinitely better than the last
/// one: whoever gets a slow answer is served, whoever gets none is not.
pub(super) const FIRST_ANSWER: f64 = 1.5;

/// Probabilities of meeting a power budget below this count as none.
const NEGLIGIBLE: f64 = 1e-3;

/// The score of an offer under a load with times in ms; `None` if it does not keep up or is late.
pub(super) fn score(offer: &Offer, load: &Load, serve_ms: f64, background_ms: f64) -> Option<f64> {
    let Some(serve) = offer.serve else {
        return Some(1.0 / background_ms);
    };
    let window_ms = f64::from(serve.batch) * 1e6 / f64::from(load.rate.0);
    let latency_ms = window_ms + serve_ms;
    if serve_ms > window_ms || latency_ms * 1e3 > f64::from(load.latency_us.0) {
        return None;
    }
    Some(match offer.background {
        None => 1.0 / latency_ms,
        Some(background) => {
            let steps = ((window_ms - serve_ms) / background_ms).floor();
            steps * f64::from(background.worth) / window_ms
        }
    })
}

/// Best observed score of every demand: by load, then by power.
#[derive(Clone, Debug)]
pub(super) struct Incumbents {
    scores: Vec<Option<f64>>,
    /// The smallest power budget with an answer under any load, as an index; beyond the last without one.
    first_served: usize,
    powers_w: Vec<f64>,
    loads: Vec<Load>,
}

impl Incumbents {
    pub(super) fn new(grid: &DemandGrid) -> Self {
        Self {
            scores: vec![None; grid.powers.len() * grid.loads.len()],
            first_served: grid.powers.len(),
            powers_w: grid.powers.iter().map(|mw| f64::from(mw.0) / 1e3).collect(),
            loads: grid.loads.clone(),
        }
    }

    /// Number of demands.
    pub(super) fn len(&self) -> usize {
        self.scores.len()
    }

    /// Takes in an observed answer.
    pub(super) fn observe(
        &mut self,
        offer: &Offer,
        serve: Option<(f64, f64)>,
        background: Option<(f64, f64)>,
    ) {
        let power_w = |cell: Option<(f64, f64)>| cell.map_or(0.0, |cell| cell.1);
        let time_ms = |cell: Option<(f64, f64)>| cell.map_or(0.0, |cell| cell.0);
        let power = power_w(serve).max(power_w(background));
        let first = self.powers_w.partition_point(|&budget| budget < power);
        let width = self.powers_w.len();
        for (at, load) in self.loads.iter().enumerate() {
            let Some(score) = score(offer, load, time_ms(serve), time_ms(background)) else {
                continue;
            };
            self.first_served = self.first_served.min(first);
            for old in &mut self.scores[at * width + first..(at + 1) * width] {
                if old.is_some_and(|old| old >= score) {
                    break;
                }
                *old = Some(score);
            }
        }
    }

    /// Writes the expected gain of an offer with believed cells to `gains`, one per demand, where it is
    /// larger than what stands there; whether there was any.
    pub(super) fn gains(
        &self,
        offer: &Offer,
        serve: Option<&Prediction>,
        background: Option<&Prediction>,
        gains: &mut [f64],
    ) -> bool {
        let width = self.powers_w.len();
        let fits = self.fit_probabilities(serve, background);
        let Some(first) = fits.iter().position(|&fit| fit > NEGLIGIBLE) else {
            return false;
        };
        let mut any = false;
        let time = |cell: Option<&Prediction>, z: f64| {
            cell.map_or(0.0, |cell| {
                libm::exp(cell.ln_time_ms + z * cell.ln_time_sigma)
            })
        };
        let times = NODES.map(|(z, weight)| (time(serve, z), time(background, z), weight));
        for (at, load) in self.loads.iter().enumerate() {
            let row = at * width;
            let mut scores = [(0.0, 0.0); NODES.len()];
            let mut best = f64::NEG_INFINITY;
            for (node, &(serve_ms, background_ms, weight)) in times.iter().enumerate() {
                if let Some(score) = score(offer, load, serve_ms, background_ms) {
                    scores[node] = (score, weight);
                    best = best.max(score);
                }
            }
            if best == f64::NEG_INFINITY {
                continue;
            }
            for power in first..width {
                let gain: f64 = match self.scores[row + power] {
                    None => {
                        let worth = if power < self.first_served {
                            FIRST_ANSWER
                        } else {
                            1.0
                        };
                        worth * scores.iter().map(|(_, weight)| weight).sum::<f64>()
                    }
                    // Incumbents do not fall with the budget: no gain here, none beyond.
                    Some(old) if old >= best => break,
                    Some(old) => scores
                        .iter()
                        .filter(|(score, _)| *score > old)
                        .map(|(score, weight)| weight * (1.0 - old / score))
                        .sum(),
                };
                let gain = gain * fits[power];
                gains[row + power] = gains[row + power].max(gain);
                any |= gain > 0.0;
            }
        }
        any
    }

    /// Probability of meeting each power budget. What the two powers of a mode deviate by is the luck of
    /// each (correlation 0.0 to 0.2 in the published grids), so the probabilities multiply.
    fn fit_probabilities(
        &self,
        serve: Option<&Prediction>,
        background: Option<&Prediction>,
    ) -> Vec<f64> {
        let fit = |cell: Option<&Prediction>, budget: f64| {
            cell.map_or(1.0, |cell| {
                normal::probability((budget - cell.power_w) / cell.power_sigma_w.max(1e-6))
            })
        };
        self.powers_w
            .iter()
            .map(|&budget| fit(serve, budget) * fit(background, budget))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offer::Part;
    use fulcrum_plan::Cell;
    use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};

    const TRAIN: Offer = Offer {
        serve: None,
        background: Some(Part {
            slot: 0,
            batch: 16,
            worth: 1,
        }),
    };
    const BOTH: Offer = Offer {
        serve: Some(Part {
            slot: 1,
            batch: 10,
            worth: 10,
        }),
        ..TRAIN
    };

    /// Budgets of 10, 20 and 30 W; ten requests in 100 ms, to be answered in 300 ms.
    fn incumbents() -> Incumbents {
        Incumbents::new(&DemandGrid {
            powers: [10_000, 20_000, 30_000].map(MilliWatt).to_vec(),
            loads: vec![Load {
                latency_us: MicroSec(300_000),
                rate: MilliRps(100_000),
            }],
        })
    }

    fn known(time_ms: u32, power_w: u32) -> Prediction {
        Prediction::certain(&Cell {
            time_us: MicroSec(time_ms * 1000),
            power_mw: MilliWatt(power_w * 1000),
        })
    }

    fn gains(
        incumbents: &Incumbents,
        offer: &Offer,
        serve: Option<&Prediction>,
        background: &Prediction,
    ) -> Vec<f64> {
        let mut gains = vec![0.0; incumbents.len()];
        incumbents.gains(offer, serve, Some(background), &mut gains);
        gains
    }

    fn assert_near(found: &[f64], expected: &[f64]) {
        let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-5;
        assert!(
            found.len() == expected.len() && found.iter().zip(expected).all(near),
            "{found:?}, expected {expected:?}"
        );
    }

    #[test]
    fn a_first_answer_gains_all_and_a_better_one_what_it_is_faster_by() {
        let mut incumbents = incumbents();
        let fast = known(50, 15);
        let all = [0.0, FIRST_ANSWER, FIRST_ANSWER];
        assert_near(&gains(&incumbents, &TRAIN, None, &fast), &all);
        incumbents.observe(&TRAIN, None, Some((100.0, 20.0)));
        assert_near(&gains(&incumbents, &TRAIN, None, &fast), &[0.0, 0.5, 0.5]);
        incumbents.observe(&TRAIN, None, Some((40.0, 30.0)));
        assert_near(&gains(&incumbents, &TRAIN, None, &fast), &[0.0, 0.5, 0.0]);
    }

    #[test]
    fn a_power_at_the_budget_counts_half_and_an_unsure_time_may_gain() {
        let mut incumbents = incumbents();
        let unsure = Prediction {
            power_sigma_w: 1.0,
            ..known(50, 20)
        };
        let expected = [0.0, 0.5 * FIRST_ANSWER, FIRST_ANSWER];
        assert_near(&gains(&incumbents, &TRAIN, None, &unsure), &expected);
        incumbents.observe(&TRAIN, None, Some((50.0, 9.0)));
        let equal = known(50, 5);
        assert_near(&gains(&incumbents, &TRAIN, None, &equal), &[0.0; 3]);
        let unsure = Prediction {
            ln_time_sigma: 0.1,
            ..equal
        };
        let found = gains(&incumbents, &TRAIN, None, &unsure);
        assert!(
            found.iter().all(|gain| (0.02..0.06).contains(gain)),
            "{found:?}"
        );
    }

    #[test]
    fn two_doubtful_powers_must_both_keep_the_budget() {
        let incumbents = incumbents();
        let unsure = |power_w| Prediction {
            power_sigma_w: 1.0,
            ..known(40, power_w)
        };
        let (serve, train) = (unsure(20), unsure(20));
        let expected = [0.0, 0.25 * FIRST_ANSWER, FIRST_ANSWER];
        let found = gains(&incumbents, &BOTH, Some(&serve), &train);
        assert_near(&found, &expected);
    }

    #[test]
    fn a_window_holds_whole_steps_and_the_hungrier_part_counts() {
        let mut incumbents = incumbents();
        incumbents.observe(&BOTH, Some((40.0, 12.0)), Some((55.0, 8.0)));
        // Two steps instead of one, but too hungry for the first budget.
        let found = gains(&incumbents, &BOTH, Some(&known(40, 8)), &known(29, 12));
        assert_near(&found, &[0.0, 0.5, 0.5]);
        // Still one step.
        let found = gains(&incumbents, &BOTH, Some(&known(40, 8)), &known(31, 9));
        assert_near(&found, &[FIRST_ANSWER, 0.0, 0.0]);
        // Does not keep up.
        let found = gains(&incumbents, &BOTH, Some(&known(101, 8)), &known(1, 9));
        assert_near(&found, &[0.0; 3]);
    }
}
