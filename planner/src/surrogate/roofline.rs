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
use super::soft_max::soft_max;

/// Parameters: `ln A, ln B, ln C, ln E, ln D`, `ln(w-1)`, `ln(q-1)`, `ln(s-1)`.
pub const PARAMETERS: usize = 8;

/// Centre of the scales, as multiples of the fastest time, and widths.
const SCALE_CENTRE: [f64; 5] = [0.8, 1.5, 0.5, 4.0, 0.05];
const SCALE_WIDTH: [f64; 5] = [1.5, 1.5, 2.0, 2.0, 1.5];
/// Centre and width of the shapes.
const SHAPE_CENTRE: [f64; 3] = [1.5, 2.0, 1.8];
const SHAPE_WIDTH: [f64; 3] = [0.7, 0.5, 0.7];
/// How the time of a minibatch grows with its samples: the exponent's centre and width over workloads.
/// Small batches grow little, large ones in proportion.
const BATCH_EXPONENT: f64 = 0.75;
const BATCH_EXPONENT_WIDTH: f64 = 0.25;
/// Widths of scales and shapes around those of another batch size of the same workload.
const SIBLING_SCALE_WIDTH: f64 = 0.4;
const SIBLING_SHAPE_WIDTH: f64 = 0.3;
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

/// A fit of another batch size of the same workload, of which more is known.
#[derive(Clone, Copy, Debug)]
pub struct Sibling<'a> {
    /// The fit.
    pub roofline: &'a Roofline,
    /// Logarithm of how many times as many samples a minibatch has here as there.
    pub ln_ratio: f64,
}

impl Sibling<'_> {
    /// Standard deviation of the logarithm of the time, by the exponent.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        BATCH_EXPONENT_WIDTH * self.ln_ratio.abs()
    }
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

/// The parameters themselves, in the order of their logarithms.
struct Values {
    scales: [f64; 5],
    shapes: [f64; 3],
}

impl Values {
    fn of(theta: &[f64; PARAMETERS]) -> Self {
        Self {
            scales: [0, 1, 2, 3, 4].map(|at| libm::exp(theta[at])),
            shapes: [5, 6, 7].map(|at| 1.0 + libm::exp(theta[at])),
        }
    }

    fn shares(&self, clocks: &Clocks) -> Shares {
        let [a, b, c, e, d] = self.scales;
        let [w, q, s] = self.shapes;
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
        let values = Values::of(theta);
        out.clear();
        out.extend(self.samples.iter().map(|(clocks, ln_time)| {
            (libm::log(values.shares(clocks).total_ms) - ln_time) / self.sigma
        }));
        out.extend((0..PARAMETERS).map(|at| (theta[at] - self.centre[at]) / self.width[at]));
    }
}

/// Centres and widths of the parameters, by the fastest of the samples.
fn anywhere(samples: &[(Clocks, f64)]) -> ([f64; PARAMETERS], [f64; PARAMETERS]) {
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
    (centre, width)
}

/// Centres and widths of the parameters, by another batch size.
fn near(sibling: &Sibling<'_>) -> ([f64; PARAMETERS], [f64; PARAMETERS]) {
    let mut centre = sibling.roofline.theta;
    let mut width = [SIBLING_SHAPE_WIDTH; PARAMETERS];
    for at in 0..5 {
        centre[at] += BATCH_EXPONENT * sibling.ln_ratio;
        width[at] = SIBLING_SCALE_WIDTH + sibling.sigma();
    }
    (centre, width)
}

impl Roofline {
    /// Fits samples `(mode, ln time in ms)`, which are not empty unless there is a sibling. `start` is an
    /// earlier fit of nearly the same samples.
    #[must_use]
    pub fn fit(
        samples: &[(Clocks, f64)],
        start: Option<&Self>,
        sibling: Option<Sibling<'_>>,
    ) -> Self {
        let (centre, width) = match sibling {
            Some(sibling) => near(&sibling),
            None => anywhere(samples),
        };
        let mut fit = Fit {
            samples,
            centre,
            width,
            sigma: SIGMA_MIN,
        };
        let mut theta = start.map_or(centre, |start| start.theta);
        theta = least_squares::minimize(&fit, theta);
        // Once more with the deviation that was found, so that noisy samples do not outvote the prior.
        let values = Values::of(&theta);
        let squares: f64 = samples
            .iter()
            .map(|(clocks, y)| libm::log(values.shares(clocks).total_ms) - y)
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
        Values::of(&self.theta).shares(clocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surrogate::clocks::Cube;
    use fulcrum_plan::PowerMode;
    use fulcrum_plan::units::Khz;

    fn modes() -> Vec<Clocks> {
        let mut modes = Vec::new();
        for cores in [2, 4, 8] {
            for cpu in [500, 1_000, 2_000] {
                for gpu in [300, 600, 1_200] {
                    for emc in [700, 3_200] {
                        modes.push(PowerMode {
                            cores,
                            cpu_khz: Khz(cpu * 1_000),
                            gpu_khz: Khz(gpu * 1_000),
                            emc_khz: Khz(emc * 1_000),
                        });
                    }
                }
            }
        }
        let cube = Cube::of(&modes);
        modes.iter().map(|mode| cube.clocks(mode)).collect()
    }

    #[test]
    fn a_roofline_is_found_from_a_fifth_of_its_modes() {
        let scales = [20.0, 60.0, 10.0, 120.0, 2.0];
        for scale in [0.1f64, 10.0] {
            let mut theta = [0.0; PARAMETERS];
            for at in 0..5 {
                theta[at] = libm::log(scale * scales[at]);
            }
            let truth = Roofline { theta };
            let modes = modes();
            let ln_time = |at: &Clocks| libm::log(truth.shares(at).total_ms);
            let samples: Vec<(Clocks, f64)> = modes
                .iter()
                .step_by(5)
                .map(|at| (*at, ln_time(at)))
                .collect();
            let fitted = Roofline::fit(&samples, None, None);
            for at in &modes {
                let error = libm::log(fitted.shares(at).total_ms) - ln_time(at);
                assert!(error.abs() < 0.15, "scale {scale}: {error} at {at:?}");
            }
        }
    }

    #[test]
    fn a_sibling_tells_the_shape_that_one_sample_does_not() {
        let small = Roofline {
            theta: [20.0f64, 60.0, 10.0, 120.0, 2.0, 1.5, 2.0, 1.8].map(libm::log),
        };
        let mut large = small.clone();
        for scale in &mut large.theta[..5] {
            *scale += 0.9 * libm::log(4.0);
        }
        let modes = modes();
        let ln_time = |at: &Clocks| libm::log(large.shares(at).total_ms);
        let top = modes[modes.len() - 1];
        let sibling = Sibling {
            roofline: &small,
            ln_ratio: libm::log(4.0),
        };
        let worst = |fitted: &Roofline| {
            let error = |at: &Clocks| (libm::log(fitted.shares(at).total_ms) - ln_time(at)).abs();
            modes.iter().map(error).fold(0.0, f64::max)
        };
        let known = [(top, ln_time(&top))];
        let alone = worst(&Roofline::fit(&known, None, None));
        let one = worst(&Roofline::fit(&known, None, Some(sibling)));
        let none = worst(&Roofline::fit(&[], None, Some(sibling)));
        assert!(one < 0.2 && one < 0.5 * alone, "{one} {alone}");
        assert!(none < 2.0 * sibling.sigma(), "{none}");
    }

    #[test]
    fn a_faster_knob_never_slows_and_one_sample_is_enough() {
        let modes = modes();
        let (slow, fast) = (modes[0], modes[modes.len() - 1]);
        let fitted = Roofline::fit(&[(fast, libm::log(50.0))], None, None);
        let (slow, fast) = (fitted.shares(&slow), fitted.shares(&fast));
        assert!(fast.total_ms > 10.0 && fast.total_ms < 100.0, "{fast:?}");
        assert!(
            slow.total_ms > fast.total_ms && slow.gpu_ms > fast.gpu_ms,
            "{slow:?}"
        );
    }
}
