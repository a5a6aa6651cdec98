//! What the planner believes about cells it has not paid for.
//!
//! - [`clocks`]: a mode as the models see it;
//! - [`roofline`], [`time`]: times of a workload;
//! - [`power`]: power of the board under every workload;
//! - [`mlp`]: the lab's network, a baseline;
//! - [`gp`], [`cholesky`], [`least_squares`], [`normal`]: the numerics.

pub mod cholesky;
pub mod clocks;
pub mod gp;
pub mod least_squares;
pub mod mlp;
pub mod normal;
pub mod power;
pub mod roofline;
pub mod time;

use crate::pool::Pool;
use clocks::Clocks;
use fulcrum_plan::Cell;
use power::PowerModel;
use rayon::prelude::*;
use time::TimeModel;

/// What is believed of one cell: normal in the logarithm of the time, and in the power.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Mean of the logarithm of the time in ms.
    pub ln_time_ms: f64,
    /// Its standard deviation.
    pub ln_time_sigma: f64,
    /// Mean of the power in W.
    pub power_w: f64,
    /// Its standard deviation.
    pub power_sigma_w: f64,
}

impl Prediction {
    /// The belief in a cell that was observed.
    #[must_use]
    pub fn certain(cell: &Cell) -> Self {
        Self {
            ln_time_ms: libm::log(f64::from(cell.time_us.0) / 1e3),
            ln_time_sigma: 0.0,
            power_w: f64::from(cell.power_mw.0) / 1e3,
            power_sigma_w: 0.0,
        }
    }
}

/// Models of the slots that have samples.
#[derive(Clone, Debug)]
pub struct Surrogate {
    /// Of each slot; `None` without a sample.
    times: Vec<Option<TimeModel>>,
    power: PowerModel,
}

impl Surrogate {
    /// Fits what was observed; `None` before the first sample. `start` is the fit before the
    /// latest observations.
    #[must_use]
    pub fn fit(clocks: &[Clocks], pool: &Pool, start: Option<&Self>) -> Option<Self> {
        let seen = pool.order().iter().filter_map(|&(mode, slot)| {
            let cell = pool.cell(mode, slot)?;
            Some((clocks[mode], slot, cell))
        });
        let mut samples: Vec<Vec<(Clocks, f64)>> = vec![Vec::new(); pool.slot_count()];
        for (clocks, slot, cell) in seen.clone() {
            samples[slot].push((clocks, f64::from(cell.time_us.0) / 1e3));
        }
        let times = samples
            .par_iter()
            .enumerate()
            .map(|(slot, samples)| {
                let start = start.and_then(|start| start.times[slot].as_ref());
                TimeModel::fit(samples, start)
            })
            .collect::<Vec<_>>();
        let powers: Vec<(power::Input, f64)> = seen
            .filter_map(|(clocks, slot, cell)| {
                let shares = times[slot].as_ref()?.shares(&clocks);
                let input = power::Input::new(&clocks, slot, &shares);
                Some((input, f64::from(cell.power_mw.0) / 1e3))
            })
            .collect();
        let power = PowerModel::fit(&powers)?;
        Some(Self { times, power })
    }

    /// What is believed of the cell of a slot; `None` while the slot has no sample.
    #[must_use]
    pub fn predict(&self, clocks: &Clocks, slot: usize) -> Option<Prediction> {
        let time = self.times[slot].as_ref()?;
        let (ln_time_ms, ln_time_sigma) = time.predict(clocks);
        let input = power::Input::new(clocks, slot, &time.shares(clocks));
        let (power_w, power_sigma_w) = self.power.predict(&input);
        Some(Prediction {
            ln_time_ms,
            ln_time_sigma,
            power_w,
            power_sigma_w,
        })
    }
}
