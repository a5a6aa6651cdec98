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
mod soft_max;
pub mod time;

use crate::pool::Pool;
use crate::workload::Task;
use clocks::Clocks;
use fulcrum_plan::Cell;
use power::PowerModel;
use roofline::Shares;
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

/// Models of the slots of a task.
#[derive(Clone, Debug)]
pub struct Surrogate {
    /// Of each slot; `None` without a sample of its workload.
    times: Vec<Option<TimeModel>>,
    power: PowerModel,
    /// Of each slot, its workload.
    workloads: Vec<usize>,
    /// The fastest a mode can be.
    top: Clocks,
}

impl Surrogate {
    /// Fits what was observed; `None` before the first sample. A batch size with few samples takes the shape
    /// of another one of its workload. `start` is the fit before the latest observations.
    #[must_use]
    pub fn fit(task: &Task, clocks: &[Clocks], pool: &Pool, start: Option<&Self>) -> Option<Self> {
        let workloads: Vec<usize> = task.slots().iter().map(|slot| slot.workload).collect();
        let top = Clocks::top(clocks)?;
        let seen = pool.order().iter().filter_map(|&(mode, slot)| {
            let cell = pool.cell(mode, slot)?;
            Some((clocks[mode], slot, cell))
        });
        let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); pool.slot_count()];
        for (clocks, slot, cell) in seen.clone() {
            samples[slot].push((clocks, f64::from(cell.time_us.0) / 1e3));
        }
        let times = times(task, &samples, start);
        let powers: Vec<(power::Input, f64)> = seen
            .filter_map(|(clocks, slot, cell)| {
                let time = times[slot].as_ref()?;
                let (shares, workload) = (time.shares(&clocks), workloads[slot]);
                let input = input(time, &clocks, (slot, workload), shares, &top);
                Some((input, f64::from(cell.power_mw.0) / 1e3))
            })
            .collect();
        let before = start.map(|start| &start.power);
        let power = PowerModel::fit(&powers, task.workloads().len(), before)?;
        Some(Self {
            times,
            power,
            workloads,
            top,
        })
    }

    /// What is believed of the cell of a slot; `None` while its workload has no sample.
    #[must_use]
    pub fn predict(&self, clocks: &Clocks, slot: usize) -> Option<Prediction> {
        let time = self.times[slot].as_ref()?;
        let shares = time.shares(clocks);
        let (ln_time_ms, ln_time_sigma) = time.predict(clocks, &shares);
        let input = input(
            time,
            clocks,
            (slot, self.workloads[slot]),
            shares,
            &self.top,
        );
        let (power_w, power_sigma_w) = self.power.predict(&input);
        Some(Prediction {
            ln_time_ms,
            ln_time_sigma,
            power_w,
            power_sigma_w,
        })
    }
}

/// A cell of a slot and its workload as the power model sees it.
fn input(
    time: &TimeModel,
    clocks: &Clocks,
    (slot, workload): (usize, usize),
    shares: Shares,
    top: &Clocks,
) -> power::Input {
    let feed_ms = time.shares(top).total_ms * top.host_ghz() / clocks.host_ghz();
    power::Input::new(clocks, slot, workload, shares, feed_ms)
}

fn time_of(surrogate: Option<&Surrogate>, slot: usize) -> Option<&TimeModel> {
    surrogate?.times[slot].as_ref()
}

/// Times of every slot. Of a workload, the batch size with most samples comes first; it is the sibling of
/// those with fewer, too few to tell the parameters of a roofline.
fn times(
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
        let alone = Task::new(None, vec![served("own", &[4])]).unwrap();
        let mut pool_alone = Pool::new(modes.len(), 1);
        for &(mode, slot) in pool.order() {
            pool_alone.record(mode, slot, pool.observation(mode, slot));
        }
        let alone = Surrogate::fit(&alone, &clocks, &pool_alone, None).unwrap();
        // With a prior that is left out, the task is larger than the pool.
        let all = own.followed_by(&[served("earlier", &[1])]);
        let sharing = Surrogate::fit(&all, &clocks, &pool, None).unwrap();
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
