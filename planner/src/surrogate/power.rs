//! What is believed of power: one Gaussian process over all workloads and batch sizes of a board.
//!
//! Its mean is a `V^2 f` model that is linear in its coefficients (fulcrum.md section 9), so they are
//! part of the covariance: what the board draws at its clocks is common to all workloads, what a
//! workload draws while a unit is busy is partly its own. How busy a unit is comes from the
//! [`TimeModel`](super::time::TimeModel). What remains is a residual, partly common to all workloads.
//!
//! The time of a minibatch does not tell all of it: where a slow CPU cannot *feed* the GPU, the median
//! minibatch hardly slows, but the GPU waits between minibatches and the power falls by up to a third.
//! So each workload has a feed, the time that preparing a minibatch takes at the top of the cube as a
//! share of the minibatch's own, which grows as the CPU slows; the longer of the two times is the
//! period in which the units are busy once. The likelihood of the powers chooses it.

use super::clocks::{Clocks, Point};
use super::gp::{Kernel, Process, matern52};
use super::roofline::Shares;
use super::soft_max::soft_max;

const FEATURES: usize = 8;
/// Standard deviation of each coefficient over boards and workloads, in W per unit of the feature:
/// constant, memory clock, GPU, busy GPU, busy memory, CPU, busy CPU, GPU voltage.
const COEFFICIENT: [f64; FEATURES] = [12.0, 0.8, 2.0, 5.0, 6.0, 0.06, 2.3, 2.8];
/// Share of a coefficient's deviation that is a slot's own.
const OWN: [f64; FEATURES] = [0.08, 0.3, 0.3, 0.6, 0.6, 0.3, 0.6, 0.3];
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
/// What the feed of a workload may be ([`PowerModel::feeds`]); the likelihood chooses.
const FEEDS: [f64; 9] = [0.0, 0.03, 0.06, 0.1, 0.15, 0.22, 0.33, 0.5, 0.75];
/// Sharpness of the corner between a rate that the GPU limits and one that the feed limits.
const FEED_SHARPNESS: f64 = 4.0;

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
    slot: usize,
    workload: usize,
    point: Point,
    gpu_lead: f64,
    /// `f V^2` of GPU and of all cores, `f` of the memory, `V^2` of the GPU.
    gpu: f64,
    cpu: f64,
    emc: f64,
    vg2: f64,
    shares: Shares,
    /// Busy time of a core in ms.
    core_ms: f64,
    /// What a feed of 1 takes.
    feed_ms: f64,
}

impl Input {
    /// The cell of a slot in a mode, in which a minibatch spends its time on `shares`. `feed_ms` is the
    /// time of a minibatch at the top of the cube times the slowness of this mode's host, which is what
    /// a feed of 1 takes.
    #[must_use]
    pub fn new(
        clocks: &Clocks,
        slot: usize,
        workload: usize,
        shares: Shares,
        feed_ms: f64,
    ) -> Self {
        let vg2 = voltage_gpu(clocks.gpu_ghz) * voltage_gpu(clocks.gpu_ghz);
        let vc2 = voltage_cpu(clocks.cpu_ghz) * voltage_cpu(clocks.cpu_ghz);
        Self {
            slot,
            workload,
            point: clocks.point,
            gpu_lead: clocks.gpu_lead,
            gpu: clocks.gpu_ghz * vg2,
            cpu: clocks.cores * clocks.cpu_ghz * vc2,
            emc: clocks.emc_ghz,
            vg2,
            core_ms: shares.host_ms / clocks.cores,
            shares,
            feed_ms,
        }
    }

    fn cell(&self, feeds: &[f64]) -> Cell {
        let feed_ms = feeds[self.workload] * self.feed_ms;
        let period_ms = soft_max(self.shares.total_ms, feed_ms, FEED_SHARPNESS);
        let busy = |ms: f64| (ms / period_ms).min(1.0);
        let busy_gpu = busy(self.shares.gpu_ms) * self.gpu;
        Cell {
            features: [
                1.0,
                self.emc,
                self.gpu,
                busy_gpu,
                busy(self.shares.memory_ms) * self.emc,
                self.cpu,
                busy(self.core_ms) * self.cpu,
                self.vg2,
            ],
            point: self.point,
            slot: self.slot,
            gpu_noise: busy_gpu * libm::exp(NOISE_GROWTH * self.gpu_lead),
        }
    }
}

/// An input under given feeds.
#[derive(Clone, Copy, Debug)]
struct Cell {
    features: [f64; FEATURES],
    point: Point,
    slot: usize,
    /// Size of the GPU's noise.
    gpu_noise: f64,
}

#[derive(Clone, Copy, Debug)]
struct BoardPower {
    noise_w: f64,
    noise_gpu: f64,
}

impl Kernel<Cell> for BoardPower {
    fn common(a: &Cell, b: &Cell) -> f64 {
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
    fn covariance(&self, _: &Cell, _: &Cell, common: f64) -> f64 {
        common
    }

    fn noise(&self, at: &Cell) -> f64 {
        let gpu_w = self.noise_gpu * at.gpu_noise;
        self.noise_w * self.noise_w + gpu_w * gpu_w
    }
}

/// Power of all slots.
#[derive(Clone, Debug)]
pub struct PowerModel {
    /// Of each workload: time that feeding a minibatch takes at the top of the cube, as a share of the
    /// time of the minibatch there.
    feeds: Vec<f64>,
    process: Process<Cell, BoardPower>,
}

impl PowerModel {
    /// The likeliest of some kernels under given feeds.
    fn with(
        feeds: Vec<f64>,
        kernels: impl IntoIterator<Item = BoardPower>,
        samples: &[(Input, f64)],
    ) -> Option<Self> {
        let cells = samples.iter().map(|(input, _)| input.cell(&feeds));
        let values: Vec<f64> = samples.iter().map(|sample| sample.1).collect();
        let process = Process::fit(kernels, cells.collect(), &values)?;
        Some(Self { feeds, process })
    }

    /// Fits samples `(cell, power in W)` of a number of workloads; `None` if there are none. `start`
    /// is the fit before the latest samples.
    #[must_use]
    pub fn fit(samples: &[(Input, f64)], workloads: usize, start: Option<&Self>) -> Option<Self> {
        if samples.is_empty() {
            return None;
        }
        let (feeds, kernel) = match start {
            Some(start) => (start.feeds.clone(), *start.process.kernel()),
            None => {
                let kernel = BoardPower {
                    noise_w: NOISES_W[1],
                    noise_gpu: NOISES_GPU[1],
                };
                (vec![0.0; workloads], kernel)
            }
        };
        let mut best = Self::with(feeds, [kernel], samples)?;
        for workload in 0..workloads {
            for feed in FEEDS {
                let mut feeds = best.feeds.clone();
                feeds[workload] = feed;
                let model = Self::with(feeds, [kernel], samples)?;
                if model.process.ln_likelihood() > best.process.ln_likelihood() {
                    best = model;
                }
            }
        }
        let kernels = NOISES_W.map(|noise_w| BoardPower { noise_w, ..kernel });
        let best = Self::with(best.feeds, kernels, samples)?;
        let kernel = *best.process.kernel();
        let kernels = NOISES_GPU.map(|noise_gpu| BoardPower {
            noise_gpu,
            ..kernel
        });
        Self::with(best.feeds, kernels, samples)
    }

    /// Mean and standard deviation in W.
    #[must_use]
    pub fn predict(&self, input: &Input) -> (f64, f64) {
        self.process.predict(&input.cell(&self.feeds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surrogate::clocks::Cube;
    use fulcrum_plan::PowerMode;
    use fulcrum_plan::units::Khz;

    /// Cells of a workload that computes for 100 GHz·ms and is fed at a speed of 1.5 GHz, on a board
    /// that draws 10 W, and 20 W more in a busy GPU at 1.3 GHz.
    fn starved() -> Vec<(Input, f64)> {
        let mut modes = Vec::new();
        for cpu in [400, 700, 1_000, 1_300, 1_600, 1_900, 2_200] {
            for gpu in [300, 500, 700, 900, 1_100, 1_300] {
                modes.push(PowerMode {
                    cores: 8,
                    cpu_khz: Khz(cpu * 1_000),
                    gpu_khz: Khz(gpu * 1_000),
                    emc_khz: Khz(3_199_000),
                });
            }
        }
        let cube = Cube::of(&modes);
        let cell = |mode: &PowerMode| {
            let clocks = cube.clocks(mode);
            let total_ms = 100.0 / clocks.gpu_ghz;
            let shares = Shares {
                total_ms,
                gpu_ms: total_ms,
                memory_ms: 1.0,
                host_ms: 1.0,
            };
            let at_top_ms = 100.0 / 1.3;
            let input = Input::new(&clocks, 0, 0, shares, at_top_ms * 2.2 / clocks.cpu_ghz);
            let fed = (total_ms / (at_top_ms * 1.5 / clocks.cpu_ghz)).min(1.0);
            let busy = clocks.gpu_ghz * voltage_gpu(clocks.gpu_ghz) * voltage_gpu(clocks.gpu_ghz);
            (input, 10.0 + 15.0 * fed * busy)
        };
        modes.iter().map(cell).collect()
    }

    #[test]
    fn a_gpu_that_waits_for_its_cpu_is_told_by_its_power() {
        let cells = starved();
        let (known, unknown): (Vec<_>, Vec<_>) =
            cells.iter().enumerate().partition(|(at, _)| at % 2 == 0);
        let samples: Vec<(Input, f64)> = known.into_iter().map(|(_, cell)| *cell).collect();
        let model = PowerModel::fit(&samples, 1, None).unwrap();
        let feed = model.feeds[0];
        assert!((0.5..=0.75).contains(&feed), "{feed}");
        let fed = PowerModel::with(vec![0.0], [*model.process.kernel()], &samples).unwrap();
        let squares = |model: &PowerModel| -> f64 {
            let error = |(input, power_w): &(Input, f64)| model.predict(input).0 - power_w;
            unknown
                .iter()
                .map(|(_, cell)| error(cell) * error(cell))
                .sum()
        };
        let (with, without) = (squares(&model), squares(&fed));
        assert!(with < 0.5 * without, "{with} {without}");
    }

    #[test]
    fn another_workload_of_the_board_needs_fewer_samples() {
        // Those with a CPU that feeds the GPU.
        let cells = starved().split_off(24);
        let other = |cell: &(Input, f64)| {
            let input = Input {
                slot: 1,
                workload: 1,
                ..cell.0
            };
            (input, cell.1)
        };
        let two = [other(&cells[0]), other(&cells[17])];
        let error = |samples: &[(Input, f64)]| -> f64 {
            let model = PowerModel::fit(samples, 2, None).unwrap();
            let errors = cells.iter().map(other).map(|(input, power_w)| {
                let error = model.predict(&input).0 - power_w;
                error * error
            });
            errors.sum()
        };
        let both: Vec<(Input, f64)> = cells.iter().copied().chain(two).collect();
        let (both, two) = (error(&both), error(&two));
        assert!(both < two, "{both} {two}");
    }

    #[test]
    fn without_samples_there_is_no_model() {
        assert!(PowerModel::fit(&[], 1, None).is_none());
    }
}
