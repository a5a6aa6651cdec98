//! How the time of a minibatch depends on the clocks: a roofline with soft corners.
//!
//! ```text
//! T_gpu  = ((A/g)^q + (B/m)^q)^(1/q)                      compute or memory bound
//! T_prep = E / (u * softmin(c, s))                        parallel host work, at most s cores' worth
//! T      = (T_gpu^w + (C/u)^w + T_prep^w)^(1/w) + D       serial host work C, constant D
//! ```
//! with clocks in GHz and times in ms (fulcrum.md section 9). The minimum of cores is soft, so that the
//! model is smooth in `s`.
//!
//! Fitted as a maximum a posteriori: every parameter has a broad log-normal prior, the times' scale is
//! taken from the fastest sample. The priors' centres and widths are ours, chosen so that the fits to
//! the published grids and the shipped synthetic parameters lie within two widths.

use super::clocks::Clocks;
use super::least_squares::{self, Problem};

/// Parameters: `ln A, ln B, ln C, ln E, ln D`, `ln(w-1)`, `ln(q-1)`, `ln(s-1)`.
pub const PARAMETERS: usize = 8;

/// Centre of the scales, as multiples of the fastest time, and widths.
const SCALE_CENTRE: [f64; 5] = [0.8, 1.5, 0.5, 4.0, 0.05];
const SCALE_WIDTH: [f64; 5] = [1.5, 1.5, 2.0, 2.0, 1.5];
/// Centre and width of the shapes.
const SHAPE_CENTRE: [f64; 3] = [1.5, 2.0, 1.8];
const SHAPE_WIDTH: [f64; 3] = [0.7, 0.5, 0.7];
/// Sharpness of the soft minimum of cores.
const CORES_SHARPNESS: f64 = 4.0;

/// Relative deviation of the samples that the fit assumes at least: below this, structure that the
/// roofline does not have would bend its parameters.
const SIGMA_MIN: f64 = 0.02;

/// A fitted roofline.
#[derive(Clone, Debug, PartialEq)]
pub struct Roofline {
    theta: [f64; PARAMETERS],
}

/// What a minibatch spends its time on, in ms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Whole minibatch.
    pub total_ms: f64,
    /// GPU, compute and memory.
    pub gpu_ms: f64,
    /// Memory traffic.
    pub memory_ms: f64,
    /// Host work of all cores together, in core-ms.
    pub host_ms: f64,
}

fn power(base: f64, exponent: f64) -> f64 {
    libm::exp(exponent * libm::log(base))
}

/// `(x^p + y^p)^(1/p)` without overflow.
fn soft_max(x: f64, y: f64, p: f64) -> f64 {
    let (high, low) = if x > y { (x, y) } else { (y, x) };
    high * power(1.0 + power(low / high, p), 1.0 / p)
}

fn shares(theta: &[f64; PARAMETERS], clocks: &Clocks) -> Shares {
    let [a, b, c, e, d] = [0, 1, 2, 3, 4].map(|at| libm::exp(theta[at]));
    let [w, q, s] = [5, 6, 7].map(|at| 1.0 + libm::exp(theta[at]));
    let memory_ms = b / clocks.emc_ghz;
    let gpu_ms = soft_max(a / clocks.gpu_ghz, memory_ms, q);
    let serial_ms = c / clocks.cpu_ghz;
    let cores = 1.0 / soft_max(1.0 / clocks.cores, 1.0 / s, CORES_SHARPNESS);
    let prep_ms = e / (clocks.cpu_ghz * cores);
    let total_ms = soft_max(soft_max(gpu_ms, serial_ms, w), prep_ms, w) + d;
    Shares {
        total_ms,
        gpu_ms,
        memory_ms,
        host_ms: (c + e) / clocks.cpu_ghz,
    }
}

/// The fit as a least-squares problem: one residual per sample, one per parameter's prior.
struct Fit<'a> {
    samples: &'a [(Clocks, f64)],
    centre: [f64; PARAMETERS],
    width: [f64; PARAMETERS],
    sigma: f64,
}

impl Problem<PARAMETERS> for Fit<'_> {
    fn residuals(&self, theta: &[f64; PARAMETERS], out: &mut Vec<f64>) {
        out.clear();
        out.extend(self.samples.iter().map(|(clocks, ln_time)| {
            (libm::log(shares(theta, clocks).total_ms) - ln_time) / self.sigma
        }));
        out.extend((0..PARAMETERS).map(|at| (theta[at] - self.centre[at]) / self.width[at]));
    }
}

impl Roofline {
    /// Fits samples `(mode, ln time in ms)`, which are not empty. `start` is an earlier fit of nearly
    /// the same samples.
    #[must_use]
    pub fn fit(samples: &[(Clocks, f64)], start: Option<&Self>) -> Self {
        let fastest = samples.iter().map(|s| s.1).fold(f64::INFINITY, f64::min);
        let mut centre = [0.0; PARAMETERS];
        let mut width = [0.0; PARAMETERS];
        for at in 0..5 {
            centre[at] = fastest + libm::log(SCALE_CENTRE[at]);
            width[at] = SCALE_WIDTH[at];
        }
        for at in 0..3 {
            centre[5 + at] = libm::log(SHAPE_CENTRE[at]);
            width[5 + at] = SHAPE_WIDTH[at];
        }
        let mut fit = Fit {
            samples,
            centre,
            width,
            sigma: SIGMA_MIN,
        };
        let mut theta = start.map_or(centre, |start| start.theta);
        theta = least_squares::minimize(&fit, theta);
        // Once more with the deviation that was found, so that noisy samples do not outvote the prior.
        let squares: f64 = samples
            .iter()
            .map(|(clocks, y)| libm::log(shares(&theta, clocks).total_ms) - y)
            .map(|residual| residual * residual)
            .sum();
        let freedom = samples.len().saturating_sub(PARAMETERS / 2).max(1);
        fit.sigma = (squares / freedom as f64).sqrt().clamp(SIGMA_MIN, 0.2);
        if fit.sigma > 1.5 * SIGMA_MIN {
            theta = least_squares::minimize(&fit, theta);
        }
        Self { theta }
    }

    /// What a minibatch spends its time on.
    #[must_use]
    pub fn shares(&self, clocks: &Clocks) -> Shares {
        shares(&self.theta, clocks)
    }
}
