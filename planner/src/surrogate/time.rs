//! What is believed of the times of one workload at one batch size: a roofline, and a Gaussian process
//! on the logarithm of what the roofline leaves over.

use super::clocks::{Clocks, Point};
use super::gp::{Kernel, Process, matern52};
use super::roofline::{Roofline, Shares, Sibling};

/// Length scales of the residual in the unit cube: cores, CPU, GPU, memory.
const LENGTH: Point = [0.8, 0.4, 0.6, 0.4];
/// What the residual's deviation and the noise may be where GPU and CPU clock are balanced, and how
/// fast both grow with the GPU clock's lead; the likelihood chooses.
const AMPLITUDES: [f64; 3] = [0.012, 0.03, 0.07];
const NOISES: [f64; 4] = [0.004, 0.012, 0.03, 0.08];
const GROWTHS: [f64; 3] = [0.0, 0.6, 1.2];

/// A mode as the residual sees it.
#[derive(Clone, Copy, Debug)]
struct Place {
    point: Point,
    /// By how much deviation and noise are larger than where the clocks are balanced, by growth.
    scales: [f64; GROWTHS.len()],
}

impl Place {
    fn of(clocks: &Clocks) -> Self {
        Self {
            point: clocks.point,
            scales: GROWTHS.map(|growth| libm::exp(growth * clocks.gpu_lead)),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Residual {
    amplitude: f64,
    noise: f64,
    /// Which one of the growths.
    growth: usize,
}

impl Kernel<Place> for Residual {
    fn common(a: &Place, b: &Place) -> f64 {
        let squares: f64 = (0..4)
            .map(|at| (a.point[at] - b.point[at]) / LENGTH[at])
            .map(|x| x * x)
            .sum();
        matern52(squares.sqrt())
    }

    fn covariance(&self, a: &Place, b: &Place, common: f64) -> f64 {
        let scales = [a, b].map(|at| at.scales[self.growth]);
        self.amplitude * self.amplitude * scales[0] * scales[1] * common
    }

    fn noise(&self, at: &Place) -> f64 {
        let sigma = self.noise * at.scales[self.growth];
        sigma * sigma
    }
}

/// Times of one workload at one batch size.
#[derive(Clone, Debug)]
pub struct TimeModel {
    roofline: Roofline,
    residual: Process<Place, Residual>,
    /// Standard deviation of the scale, where it is another batch size's.
    scale_sigma: f64,
}

impl TimeModel {
    /// Fits samples `(mode, time in ms)`. `start` is the fit before the latest samples, `sibling` that of
    /// another batch size of the workload, with how many times as many samples, as a logarithm, a
    /// minibatch has here; `None` without a sample of either.
    #[must_use]
    pub fn fit(
        samples: &[(Clocks, f64)],
        start: Option<&Self>,
        sibling: Option<(&Self, f64)>,
    ) -> Option<Self> {
        if samples.is_empty() && sibling.is_none() {
            return None;
        }
        let sibling = sibling.map(|(model, ln_ratio)| Sibling {
            roofline: &model.roofline,
            ln_ratio,
        });
        let samples: Vec<(Clocks, f64)> = samples
            .iter()
            .map(|(clocks, time_ms)| (*clocks, libm::log(*time_ms)))
            .collect();
        let roofline = Roofline::fit(&samples, start.map(|start| &start.roofline), sibling);
        let places = samples
            .iter()
            .map(|(clocks, _)| Place::of(clocks))
            .collect();
        let values: Vec<f64> = samples
            .iter()
            .map(|(clocks, ln_time)| ln_time - libm::log(roofline.shares(clocks).total_ms))
            .collect();
        let kernels = (0..GROWTHS.len()).flat_map(|growth| {
            AMPLITUDES.into_iter().flat_map(move |amplitude| {
                NOISES.map(|noise| Residual {
                    amplitude,
                    noise,
                    growth,
                })
            })
        });
        Some(Self {
            roofline,
            residual: Process::fit(kernels, places, &values)?,
            scale_sigma: match sibling {
                Some(sibling) if samples.is_empty() => sibling.sigma(),
                _ => 0.0,
            },
        })
    }

    /// What a minibatch spends its time on, by the roofline alone.
    #[must_use]
    pub fn shares(&self, clocks: &Clocks) -> Shares {
        self.roofline.shares(clocks)
    }

    /// Mean and standard deviation of the logarithm of the time in ms in a mode, where the roofline alone
    /// gives these shares.
    #[must_use]
    pub fn predict(&self, clocks: &Clocks, shares: &Shares) -> (f64, f64) {
        let (mean, sigma) = self.residual.predict(&Place::of(clocks));
        let ln_time_ms = libm::log(shares.total_ms) + mean;
        (ln_time_ms, libm::hypot(sigma, self.scale_sigma))
    }
}
