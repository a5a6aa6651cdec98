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
use crate::workload::Task;
use clocks::Clocks;
use fulcrum_plan::Cell;
use power::PowerModel;
use rayon::prelude::*;
use std::cmp::Reverse;
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

/// A mode, and what a minibatch took there in ms.
type Sample = (Clocks, f64);

/// Models of the slots that have samples.
#[derive(Clone, Debug)]
pub struct Surrogate {
    /// Of each slot; `None` where nothing is known.
    times: Vec<Option<TimeModel>>,
    power: PowerModel,
}

impl Surrogate {
    /// Fits what was observed; `None` before the first sample. `start` is the fit before the
    /// latest observations.
    #[must_use]
    pub fn fit(clocks: &[Clocks], pool: &Pool, start: Option<&Self>) -> Option<Self> {
        let alone = |samples: &[Vec<Sample>]| -> Vec<Option<TimeModel>> {
            let fit = |(slot, samples): (usize, &Vec<Sample>)| {
                TimeModel::fit(samples, time_of(start, slot), None)
            };
            samples.par_iter().enumerate().map(fit).collect()
        };
        Self::with(clocks, pool, alone)
    }

    /// The same for the slots of a task, where a batch size with few samples takes the shape of another one
    /// of its workload: for searches that measure few of them.
    #[must_use]
    pub fn fit_sharing(
        task: &Task,
        clocks: &[Clocks],
        pool: &Pool,
        start: Option<&Self>,
    ) -> Option<Self> {
        Self::with(clocks, pool, |samples| sharing(task, samples, start))
    }

    fn with(
        clocks: &[Clocks],
        pool: &Pool,
        times: impl FnOnce(&[Vec<Sample>]) -> Vec<Option<TimeModel>>,
    ) -> Option<Self> {
        let seen = pool.order().iter().filter_map(|&(mode, slot)| {
            let cell = pool.cell(mode, slot)?;
            Some((clocks[mode], slot, cell))
        });
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); pool.slot_count()];
        for (clocks, slot, cell) in seen.clone() {
            samples[slot].push((clocks, f64::from(cell.time_us.0) / 1e3));
        }
        let times = times(&samples);
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

    /// What is believed of the cell of a slot; `None` while nothing is known of its times.
    #[must_use]
    pub fn predict(&self, clocks: &Clocks, slot: usize) -> Option<Prediction> {
        let time = self.times[slot].as_ref()?;
        let shares = time.shares(clocks);
        let (ln_time_ms, ln_time_sigma) = time.predict(clocks, &shares);
        let input = power::Input::new(clocks, slot, &shares);
        let (power_w, power_sigma_w) = self.power.predict(&input);
        Some(Prediction {
            ln_time_ms,
            ln_time_sigma,
            power_w,
            power_sigma_w,
        })
    }
}

fn time_of(surrogate: Option<&Surrogate>, slot: usize) -> Option<&TimeModel> {
    surrogate?.times[slot].as_ref()
}

/// Times of every slot. Of a workload, the batch size with most samples comes first; it is the sibling of
/// those with fewer, too few to tell the parameters of a roofline.
fn sharing(
    task: &Task,
    samples: &[Vec<Sample>],
    start: Option<&Surrogate>,
) -> Vec<Option<TimeModel>> {
    let mut times: Vec<Option<TimeModel>> = vec![None; samples.len()];
    // Once a prior is left out, the slots behind the search's own are gone.
    let slots = &task.slots()[..samples.len()];
    for workload in 0..task.workloads().len() {
        let mut own: Vec<usize> = (0..slots.len())
            .filter(|&slot| slots[slot].workload == workload)
            .collect();
        own.sort_by_key(|&slot| Reverse(samples[slot].len()));
        let Some((&first, others)) = own.split_first() else {
            continue;
        };
        let model = TimeModel::fit(&samples[first], time_of(start, first), None);
        let ln_batch = |slot: usize| libm::log(f64::from(slots[slot].batch));
        for &slot in others {
            let sibling = model
                .as_ref()
                .filter(|_| samples[slot].len() < samples[first].len().min(roofline::PARAMETERS))
                .map(|model| (model, ln_batch(slot) - ln_batch(first)));
            times[slot] = TimeModel::fit(&samples[slot], time_of(start, slot), sibling);
        }
        times[first] = model;
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Observation;
    use crate::surrogate::clocks::Cube;
    use crate::workload::{Role, Workload};
    use fulcrum_plan::PowerMode;
    use fulcrum_plan::units::{Khz, MicroSec, MilliWatt};

    fn served(name: &str, batches: &[u16]) -> Workload {
        Workload {
            role: Role::Infer,
            name: name.into(),
            batches: batches.to_vec(),
        }
    }

    #[test]
    fn a_batch_size_without_a_sample_takes_the_shape_of_another_one() {
        let own = Task::new(None, vec![served("own", &[4, 16])]).unwrap();
        let modes = [500_000, 1_000_000, 2_000_000].map(|khz| PowerMode {
            cores: 4,
            cpu_khz: Khz(khz),
            gpu_khz: Khz(khz / 2),
            emc_khz: Khz(3_199_000),
        });
        let cube = Cube::of(&modes);
        let clocks = modes.map(|mode| cube.clocks(&mode));
        let mut pool = Pool::new(modes.len(), own.slots().len());
        for (mode, time_us) in [(0, 40_000), (2, 10_000)] {
            let cell = Cell {
                time_us: MicroSec(time_us),
                power_mw: MilliWatt(15_000),
            };
            pool.record(mode, 0, Observation::Seen(cell));
        }
        let alone = Surrogate::fit(&clocks, &pool, None).unwrap();
        assert_eq!(alone.predict(&clocks[1], 1), None);
        // With a prior that is left out, the task is larger than the pool.
        let all = own.followed_by(&[served("earlier", &[1])]);
        let sharing = Surrogate::fit_sharing(&all, &clocks, &pool, None).unwrap();
        assert_eq!(
            sharing.predict(&clocks[1], 0),
            alone.predict(&clocks[1], 0),
            "what has most samples borrows nothing"
        );
        let [slow, fast] = [0, 2].map(|mode| sharing.predict(&clocks[mode], 1).unwrap());
        let small = sharing.predict(&clocks[2], 0).unwrap();
        assert!(slow.ln_time_ms > fast.ln_time_ms + 0.7, "{slow:?} {fast:?}");
        let growth = (fast.ln_time_ms - small.ln_time_ms) / libm::log(4.0);
        assert!((0.7..0.8).contains(&growth), "{growth}");
        assert!(fast.ln_time_sigma > 0.3 && fast.ln_time_sigma > small.ln_time_sigma);
    }
}
