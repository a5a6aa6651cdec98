//! What is believed of power: one Gaussian process over all workloads and batch sizes of a board.
//!
//! Its mean is a `V^2 f` model that is linear in its coefficients (fulcrum.md section 9), so they are
//! part of the covariance: what the board draws at its clocks is common to all workloads, what a
//! workload draws while a unit is busy is partly its own. How busy a unit is comes from the
//! [`TimeModel`](super::time::TimeModel). What remains is a residual, partly common to all workloads.

use super::clocks::{Clocks, Point};
use super::gp::{Kernel, Process, matern52};
use super::roofline::Shares;

const FEATURES: usize = 12;
/// Standard deviation of each coefficient over boards and workloads, in W per unit of the feature:
/// constant, memory clock, GPU, busy GPU, busy memory, CPU, busy CPU, GPU voltage; then GPU and memory
/// while a slow CPU starves them, twice.
const COEFFICIENT: [f64; FEATURES] = [12.0, 0.8, 2.0, 5.0, 6.0, 0.06, 2.3, 2.8, 6.0, 6.0, 2.0, 2.0];
/// Share of a coefficient's deviation that is a slot's own.
const OWN: [f64; FEATURES] = [0.08, 0.3, 0.3, 0.6, 0.6, 0.3, 0.6, 0.3, 0.7, 0.7, 0.7, 0.7];
/// Length scales of the residual in the unit cube: cores, CPU, GPU, memory.
const LENGTH: Point = [1.5, 0.5, 0.5, 0.5];
/// Standard deviation in W of the residual that all workloads share, and of a slot's own.
const COMMON_W: f64 = 0.5;
const OWN_W: f64 = 0.7;
/// What the noise may be in W, and in W of busy GPU where GPU and CPU clock are balanced; the
/// likelihood chooses.
const NOISES_W: [f64; 2] = [0.12, 0.3];
const NOISES_GPU: [f64; 5] = [0.0, 0.2, 0.6, 1.4, 3.0];
/// How fast the GPU's noise grows with the lead of its clock.
const NOISE_GROWTH: f64 = 0.8;
/// Leads of the GPU clock at which half of the starved power is missing, and the width of the
/// transition. Where a CPU starves its GPU depends on the workload; two places span it.
const STARVED_LEADS: [f64; 2] = [0.4, 1.0];
const STARVED_WIDTH: f64 = 0.2;

/// Exponents and limits of the voltage curves (fulcrum.md section 9).
fn voltage_gpu(ghz: f64) -> f64 {
    let x = (ghz - 0.3).clamp(0.0, 1.0);
    0.55 + 0.45 * x * x
}

fn voltage_cpu(ghz: f64) -> f64 {
    let x = ((ghz - 0.7) / 1.5).clamp(0.0, 1.0);
    0.6 + 0.4 * x * x
}

/// A cell as the power model sees it.
#[derive(Clone, Copy, Debug)]
pub struct Input {
    features: [f64; FEATURES],
    point: Point,
    slot: usize,
    /// Size of the GPU's noise.
    gpu_noise: f64,
}

impl Input {
    /// The cell of a slot in a mode, in which a minibatch spends its time on `shares`.
    #[must_use]
    pub fn new(clocks: &Clocks, slot: usize, shares: &Shares) -> Self {
        let vg2 = voltage_gpu(clocks.gpu_ghz) * voltage_gpu(clocks.gpu_ghz);
        let vc2 = voltage_cpu(clocks.cpu_ghz) * voltage_cpu(clocks.cpu_ghz);
        let gpu = clocks.gpu_ghz * vg2;
        let cpu = clocks.cores * clocks.cpu_ghz * vc2;
        let busy = |ms: f64| (ms / shares.total_ms).min(1.0);
        let busy_gpu = busy(shares.gpu_ms) * gpu;
        let busy_memory = busy(shares.memory_ms) * clocks.emc_ghz;
        let [early, late] = STARVED_LEADS
            .map(|lead| 1.0 / (1.0 + libm::exp((lead - clocks.gpu_lead) / STARVED_WIDTH)));
        Self {
            features: [
                1.0,
                clocks.emc_ghz,
                gpu,
                busy_gpu,
                busy_memory,
                cpu,
                (shares.host_ms / shares.total_ms / clocks.cores).min(1.0) * cpu,
                vg2,
                early * busy_gpu,
                late * busy_gpu,
                early * busy_memory,
                late * busy_memory,
            ],
            point: clocks.point,
            slot,
            gpu_noise: busy_gpu * libm::exp(NOISE_GROWTH * clocks.gpu_lead),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct BoardPower {
    noise_w: f64,
    noise_gpu: f64,
}

impl Kernel<Input> for BoardPower {
    fn common(a: &Input, b: &Input) -> f64 {
        let same = a.slot == b.slot;
        let mut sum = 0.0;
        for at in 0..FEATURES {
            let product = COEFFICIENT[at] * COEFFICIENT[at] * a.features[at] * b.features[at];
            let own = if same { OWN[at] * OWN[at] } else { 0.0 };
            sum += product * (1.0 + own);
        }
        let squares: f64 = (0..4)
            .map(|at| (a.point[at] - b.point[at]) / LENGTH[at])
            .map(|x| x * x)
            .sum();
        let own = if same { OWN_W * OWN_W } else { 0.0 };
        sum + (COMMON_W * COMMON_W + own) * matern52(squares.sqrt())
    }

    /// Only the noise is chosen.
    fn covariance(&self, _: &Input, _: &Input, common: f64) -> f64 {
        common
    }

    fn noise(&self, at: &Input) -> f64 {
        let gpu_w = self.noise_gpu * at.gpu_noise;
        self.noise_w * self.noise_w + gpu_w * gpu_w
    }
}

/// Power of all slots.
#[derive(Clone, Debug)]
pub struct PowerModel(Process<Input, BoardPower>);

impl PowerModel {
    /// Fits samples `(cell, power in W)`; `None` if there are none.
    #[must_use]
    pub fn fit(samples: &[(Input, f64)]) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let inputs = samples.iter().map(|sample| sample.0).collect();
        let values: Vec<f64> = samples.iter().map(|sample| sample.1).collect();
        let kernels = NOISES_W
            .iter()
            .flat_map(|&noise_w| NOISES_GPU.map(|noise_gpu| BoardPower { noise_w, noise_gpu }));
        Process::fit(kernels, inputs, &values).map(Self)
    }

    /// Mean and standard deviation in W.
    #[must_use]
    pub fn predict(&self, input: &Input) -> (f64, f64) {
        self.0.predict(input)
    }
}
