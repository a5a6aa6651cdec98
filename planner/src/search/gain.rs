//! What a cell not yet measured may gain, over the demands that users have.
//!
//! The *score* of an [`Offer`] is what a demand wants more of: background throughput, or
//! the inverse of the latency. The gain of an offer at a demand is the expected relative improvement
//! over the best observed answer, `E[max(1 - old/new, 0)]`, and 1 where there was none: the expected
//! improvement of Jones et al. (1998), DOI 10.1023/A:1008306431147, integrated over demands, with the
//! constraints' probability (Gardner et al., 2014, Bayesian Optimization with Inequality Constraints).

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
    powers_w: Vec<f64>,
    loads: Vec<Load>,
}

impl Incumbents {
    pub(super) fn new(grid: &DemandGrid) -> Self {
        Self {
            scores: vec![None; grid.powers.len() * grid.loads.len()],
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
                    None => scores.iter().map(|(_, weight)| weight).sum(),
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

    /// Probability of meeting each power budget. The two powers of a mode rise and fall together, so
    /// the larger deviation decides.
    fn fit_probabilities(
        &self,
        serve: Option<&Prediction>,
        background: Option<&Prediction>,
    ) -> Vec<f64> {
        let margin = |cell: Option<&Prediction>, budget: f64| {
            cell.map_or(f64::INFINITY, |cell| {
                (budget - cell.power_w) / cell.power_sigma_w.max(1e-6)
            })
        };
        self.powers_w
            .iter()
            .map(|&budget| {
                normal::probability(margin(serve, budget).min(margin(background, budget)))
            })
            .collect()
    }
}
