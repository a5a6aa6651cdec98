//! `synthetic:BOARD`: a model of a board, with a known optimum and the noise of a real one.
//!
//! The model is that of fulcrum.md section 9: a roofline of GPU, memory and CPU for the time, and a
//! `V^2 f` model for the power, with parameters that we fitted to measured grids of an AGX Orin and
//! ship (`planner/synthetic/orin-agx.csv`). Other boards run the same model over their own cores and
//! clocks: plausible, not measured.
//!
//! Noise: the median over a profile's minibatches varies by 0.2 to 1.3 % between profiles, power by
//! 0.5 % (fulcrum.md section 7). It depends on seed, run and attempt alone, not on the order of calls.

use crate::profile::{Measurement, ProfileError, ProfileSource, Run, Truth};
use crate::random::Random;
use crate::workload::{Role, Workload};
use fulcrum_plan::units::{MicroSec, MilliWatt};
use fulcrum_plan::{Board, Cell, PowerMode};
use serde::Deserialize;
use std::collections::BTreeMap;

const PARAMETERS: &str = include_str!("../../synthetic/orin-agx.csv");

/// Relative standard deviation of a profile's median time: 0.75 %, the middle of 0.2 to 1.3 %.
const TIME_SIGMA: f64 = 0.0075;
/// Relative standard deviation of a profile's median power: 2 % per sample, some 20 samples.
const POWER_SIGMA: f64 = 0.005;

/// Parameters of one workload and batch size; names as in fulcrum.md section 9. Clocks in GHz, times
/// in ms, powers in W.
#[derive(Clone, Debug, Deserialize)]
#[expect(
    non_snake_case,
    reason = "the names of the formula and of the file's columns"
)]
struct Parameters {
    kind: Role,
    workload: String,
    batch: u16,
    A_gpu: f64,
    B_mem: f64,
    C_host: f64,
    E_prep: f64,
    D: f64,
    w: f64,
    q: f64,
    al: f64,
    p0: f64,
    p1: f64,
    p2: f64,
    p3: f64,
    p4: f64,
    p5: f64,
    p6: f64,
    p7: f64,
    vg: f64,
    vc: f64,
}

impl Parameters {
    /// Time in ms and power in W without noise.
    fn evaluate(&self, mode: &PowerMode) -> (f64, f64) {
        let ghz = |khz: fulcrum_plan::units::Khz| f64::from(khz.0) / 1e6;
        let (u, g, m) = (ghz(mode.cpu_khz), ghz(mode.gpu_khz), ghz(mode.emc_khz));
        let c = f64::from(mode.cores);
        let pow = libm::pow;
        let gpu_ms = pow(
            pow(self.A_gpu / g, self.q) + pow(self.B_mem / m, self.q),
            1.0 / self.q,
        );
        let prep_ms = self.E_prep / (u * c.min(1.0 + 4.0 * self.al));
        let busy_ms = pow(gpu_ms, self.w) + pow(self.C_host / u, self.w) + pow(prep_ms, self.w);
        let time_ms = pow(busy_ms, 1.0 / self.w) + self.D;

        let v_gpu = 0.55 + 0.45 * pow((g - 0.3).clamp(0.0, 1.0), self.vg);
        let v_cpu = 0.6 + 0.4 * pow(((u - 0.7) / 1.5).clamp(0.0, 1.0), self.vc);
        let gpu = g * v_gpu * v_gpu;
        let cpu = c * u * v_cpu * v_cpu;
        let power_w = self.p0
            + self.p1 * m
            + self.p2 * gpu
            + self.p3 * (gpu_ms / time_ms) * gpu
            + self.p4 * (self.B_mem / m / time_ms).min(1.0) * m
            + self.p5 * cpu
            + self.p6 * ((self.E_prep + self.C_host) / u / time_ms / c).min(1.0) * cpu
            + self.p7 * v_gpu * v_gpu;
        (time_ms, power_w)
    }
}

/// A simulated board.
#[derive(Clone, Debug)]
pub struct Synthetic {
    board: String,
    seed: u64,
    noise: bool,
    modes: Vec<PowerMode>,
    parameters: BTreeMap<(Role, String, u16), Parameters>,
    workloads: Vec<Workload>,
    attempts: BTreeMap<(PowerMode, Role, String, u16), u64>,
}

impl Synthetic {
    /// A board that measures with noise from `seed`.
    ///
    /// # Panics
    /// Never: the shipped parameters are read by a test.
    #[must_use]
    pub fn new(board: &Board, seed: u64) -> Self {
        let mut reader = csv::Reader::from_reader(PARAMETERS.as_bytes());
        let parameters: BTreeMap<_, _> = reader
            .deserialize::<Parameters>()
            .map(|row| row.expect("the shipped parameters are read by a test"))
            .map(|p| ((p.kind, p.workload.clone(), p.batch), p))
            .collect();
        let mut workloads: Vec<Workload> = Vec::new();
        for (role, name, batch) in parameters.keys() {
            match workloads.last_mut() {
                Some(last) if last.role == *role && last.name == *name => last.batches.push(*batch),
                _ => workloads.push(Workload {
                    role: *role,
                    name: name.clone(),
                    batches: vec![*batch],
                }),
            }
        }
        Self {
            board: board.name.as_str().to_owned(),
            seed,
            noise: true,
            modes: every_mode(board),
            parameters,
            workloads,
            attempts: BTreeMap::new(),
        }
    }

    /// The same board without noise.
    #[must_use]
    pub const fn without_noise(mut self) -> Self {
        self.noise = false;
        self
    }

    fn exact(&self, run: &Run) -> Option<(f64, f64)> {
        let key = (run.role, run.workload.clone(), run.batch);
        let parameters = self.parameters.get(&key)?;
        self.modes.binary_search(&run.mode).ok()?;
        Some(parameters.evaluate(&run.mode))
    }

    /// Counts this attempt at a run, from 0.
    fn attempt(&mut self, run: &Run) -> u64 {
        let key = (run.mode, run.role, run.workload.clone(), run.batch);
        let count = self.attempts.entry(key).or_default();
        *count += 1;
        *count - 1
    }
}

/// Every mode of a board with its first GPU table, ascending.
#[must_use]
pub fn every_mode(board: &Board) -> Vec<PowerMode> {
    let gpu = board.gpu_khz.first().map_or(&[][..], |table| table);
    let mut modes = Vec::new();
    for cores in 1..=board.cores {
        for &cpu_khz in &board.cpu_khz {
            for &gpu_khz in gpu {
                modes.extend(board.emc_khz.iter().map(|&emc_khz| PowerMode {
                    cores,
                    cpu_khz,
                    gpu_khz,
                    emc_khz,
                }));
            }
        }
    }
    modes
}

fn cell(time_ms: f64, power_w: f64) -> Option<Cell> {
    Some(Cell {
        time_us: MicroSec::measured_ms(time_ms)?,
        power_mw: MilliWatt::measured_w(power_w)?,
    })
}

impl ProfileSource for Synthetic {
    fn board(&self) -> &str {
        &self.board
    }

    fn identity(&self) -> String {
        let noise = if self.noise { "" } else { " without noise" };
        format!("synthetic {} seed {}{noise}", self.board, self.seed)
    }

    fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    fn modes(&self, _workloads: &[Workload]) -> Vec<PowerMode> {
        self.modes.clone()
    }

    fn profile(&mut self, run: &Run) -> Result<Measurement, ProfileError> {
        let attempt = self.attempt(run);
        let (mut time_ms, mut power_w) =
            self.exact(run).ok_or_else(|| ProfileError::NotMeasured {
                run: run.clone(),
                source_name: self.identity(),
            })?;
        if self.noise {
            let mut random = Random::new(
                self.seed,
                &[
                    b"synthetic",
                    run.to_string().as_bytes(),
                    &attempt.to_le_bytes(),
                ],
            );
            time_ms *= libm::exp(TIME_SIGMA * random.normal());
            power_w *= libm::exp(POWER_SIGMA * random.normal());
        }
        let cell = cell(time_ms, power_w).ok_or_else(|| ProfileError::NotMeasured {
            run: run.clone(),
            source_name: self.identity(),
        })?;
        Ok(Measurement::clean(run.mode, cell))
    }

    fn replayed(&mut self, run: &Run, _measurement: &Measurement) {
        self.attempt(run);
    }
}

impl Truth for Synthetic {
    fn truth(&self, run: &Run) -> Option<Cell> {
        let (time_ms, power_w) = self.exact(run)?;
        cell(time_ms, power_w)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use fulcrum_plan::units::Khz;

    fn run(mode: PowerMode) -> Run {
        Run {
            mode,
            role: Role::Train,
            workload: "resnet18".into(),
            batch: 16,
        }
    }

    const MAXN: PowerMode = PowerMode {
        cores: 12,
        cpu_khz: Khz(2_201_600),
        gpu_khz: Khz(1_300_500),
        emc_khz: Khz(3_199_000),
    };

    #[test]
    fn an_agx_orin_offers_its_18096_modes_and_the_fitted_workloads() {
        let board = Synthetic::new(boards::named("orin-agx").unwrap(), 1);
        assert_eq!(board.modes(&[]).len(), 18_096);
        assert_eq!(board.workloads().len(), 9);
        assert_eq!(board.workloads()[0].to_string(), "train/bert-base");
        let bert = board
            .workloads()
            .iter()
            .find(|w| w.name == "bert-large")
            .unwrap();
        assert_eq!(bert.batches, [1, 8, 32]);
    }

    /// Measured on the AGX Orin at its maximum: 58.7 ms and 51.3 W (the grids' README); the fit is
    /// good to some percent.
    #[test]
    fn the_model_is_near_the_measured_board() {
        let board = Synthetic::new(boards::named("orin-agx").unwrap(), 1);
        let cell = board.truth(&run(MAXN)).unwrap();
        assert!((55_000..63_000).contains(&cell.time_us.0), "{cell:?}");
        assert!((47_000..55_000).contains(&cell.power_mw.0), "{cell:?}");
    }

    #[test]
    fn noise_repeats_with_the_seed_and_goes_on_with_the_attempt() {
        let orin = boards::named("orin-agx").unwrap();
        let measure = |seed| Synthetic::new(orin, seed).profile(&run(MAXN)).unwrap();
        assert_eq!(measure(1), measure(1));
        assert_ne!(measure(1), measure(2));
        let mut board = Synthetic::new(orin, 1);
        let first = board.profile(&run(MAXN)).unwrap();
        let second = board.profile(&run(MAXN)).unwrap();
        assert_ne!(first, second);
        let mut resumed = Synthetic::new(orin, 1);
        resumed.replayed(&run(MAXN), &first);
        assert_eq!(resumed.profile(&run(MAXN)).unwrap(), second);
        let exact = board.truth(&run(MAXN)).unwrap().time_us.0;
        assert!(first.cell.time_us.0.abs_diff(exact) < exact / 25);
    }
}
