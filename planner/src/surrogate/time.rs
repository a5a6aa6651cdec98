//! What is believed of the times of one workload at one batch size: a roofline, and a Gaussian process
//! on the logarithm of what the roofline leaves over.

use super::clocks::Clocks;
use super::gp::{Kernel, Process, matern52};
use super::roofline::{Roofline, Shares};

/// Length scales of the residual in the unit cube: cores, CPU, GPU, memory.
const LENGTH: [f64; 4] = [0.8, 0.4, 0.6, 0.4];
/// What the residual's deviation and the noise may be where GPU and CPU clock are balanced, and how
/// fast both grow with the GPU clock's lead; the likelihood chooses.
const AMPLITUDES: [f64; 3] = [0.012, 0.03, 0.07];
const NOISES: [f64; 4] = [0.004, 0.012, 0.03, 0.08];
const GROWTHS: [f64; 3] = [0.0, 0.6, 1.2];

#[derive(Clone, Copy, Debug)]
struct Residual {
    amplitude: f64,
    noise: f64,
    growth: f64,
}

impl Residual {
    fn scale(&self, at: &Clocks) -> f64 {
        libm::exp(self.growth * at.gpu_lead)
    }
}

impl Kernel<Clocks> for Residual {
    fn covariance(&self, a: &Clocks, b: &Clocks) -> f64 {
        let squares: f64 = (0..4)
            .map(|at| (a.point[at] - b.point[at]) / LENGTH[at])
            .map(|x| x * x)
            .sum();
        let variance = self.amplitude * self.amplitude * self.scale(a) * self.scale(b);
        variance * matern52(squares.sqrt())
    }

    fn noise(&self, at: &Clocks) -> f64 {
        let sigma = self.noise * self.scale(at);
        sigma * sigma
    }
}

/// Times of one workload at one batch size.
#[derive(Clone, Debug)]
pub struct TimeModel {
    roofline: Roofline,
    residual: Process<Clocks, Residual>,
}

impl TimeModel {
    /// Fits samples `(mode, time in ms)`; `None` without a sample. `start` is the fit before the
    /// latest samples.
    #[must_use]
    pub fn fit(samples: &[(Clocks, f64)], start: Option<&Self>) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let samples: Vec<(Clocks, f64)> = samples
            .iter()
            .map(|(clocks, time_ms)| (*clocks, libm::log(*time_ms)))
            .collect();
        let roofline = Roofline::fit(&samples, start.map(|start| &start.roofline));
        let inputs: Vec<Clocks> = samples.iter().map(|sample| sample.0).collect();
        let values: Vec<f64> = samples
            .iter()
            .map(|(clocks, ln_time)| ln_time - libm::log(roofline.shares(clocks).total_ms))
            .collect();
        let mut best: Option<Process<Clocks, Residual>> = None;
        for growth in GROWTHS {
            for amplitude in AMPLITUDES {
                for noise in NOISES {
                    let kernel = Residual {
                        amplitude,
                        noise,
                        growth,
                    };
                    let process = Process::fit(kernel, inputs.clone(), &values);
                    let held = best.as_ref().map(Process::ln_likelihood);
                    if held.is_none_or(|held| process.ln_likelihood() > held) {
                        best = Some(process);
                    }
                }
            }
        }
        Some(Self {
            roofline,
            residual: best?,
        })
    }

    /// What a minibatch spends its time on, by the roofline alone.
    #[must_use]
    pub fn shares(&self, clocks: &Clocks) -> Shares {
        self.roofline.shares(clocks)
    }

    /// Mean and standard deviation of the logarithm of the time in ms.
    #[must_use]
    pub fn predict(&self, clocks: &Clocks) -> (f64, f64) {
        let roofline = libm::log(self.shares(clocks).total_ms);
        let (mean, sigma) = self.residual.predict(clocks);
        (roofline + mean, sigma)
    }
}
