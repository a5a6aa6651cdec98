//! A Jetson to measure on.

use super::course::Minibatch;
use super::measure::{OnMinibatch, Rig};
use super::models::Models;
use super::serve::Trouble;
use crate::board::power::Rails;
use crate::board::topology::same_clock;
use crate::board::{ApplyError, Jetson};
use fulcrum_plan::PowerMode;
use fulcrum_plan::board::Clocks;
use fulcrum_plan::link::{Hello, L4t, Order, Reason};
use fulcrum_plan::units::{Khz, MilliWatt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Between two samples of power. An INA3221 gives a new value each `update_interval`; a full sample of
/// an AGX Orin takes 3.3 ms of I2C (jetson.md 1.8).
const SAMPLE_PERIOD: Duration = Duration::from_millis(100);

/// A Jetson and its workloads.
#[derive(Debug)]
pub struct JetsonRig {
    /// The board; dropping it puts its clocks back.
    pub jetson: Jetson,
    models: Models,
}

impl JetsonRig {
    /// A rig of a board and the workloads that are measured on it.
    #[must_use]
    pub fn new(jetson: Jetson, models: Models) -> Self {
        Self { jetson, models }
    }

    /// What it says about itself.
    #[must_use]
    pub fn hello(&self) -> Hello {
        let (identity, topology) = (self.jetson.identity(), self.jetson.topology());
        Hello {
            board: identity.board.name.clone(),
            module: identity.module.clone(),
            l4t: identity.l4t.map(|l4t| L4t {
                major: l4t.major,
                minor: l4t.minor,
                patch: l4t.patch,
            }),
            cores: topology.core_count(),
            cpu_khz: topology.cpu_khz.clone(),
            gpu_khz: topology.gpu_khz.clone(),
            emc_khz: as_described(&topology.emc_khz, &identity.board.emc_khz),
            counts_over_current: self.jetson.over_current_events().is_some(),
            offers: self.models.offers().collect(),
        }
    }
}

/// Memory clocks as the board's description writes them: 3199 and 3200 MHz are one clock.
fn as_described(live: &Clocks, described: &Clocks) -> Clocks {
    let spelt = |khz: &Khz| {
        let same = |other: &&Khz| same_clock(khz.0.into(), other.0.into());
        *described.iter().find(same).unwrap_or(khz)
    };
    live.iter().map(spelt).collect()
}

/// A clock as it is reported: one that has not drifted bears the name that was asked for; one whose
/// upper bound alone is right is not pinned.
fn reported(drifted: bool, asked: Khz, live: Khz) -> Khz {
    match drifted {
        false => asked,
        true if live != asked => live,
        true => Khz(0),
    }
}

impl Rig for JetsonRig {
    fn load(&mut self, order: &Order) -> Result<(), Trouble> {
        if self.jetson.power().is_none() {
            let words = "the board's power is not known: a rail of its total is missing or cannot \
                         be read; `fulcrumd doctor` lists them";
            return Err(Trouble::refused(Reason::Power, words));
        }
        self.models.load(order)
    }

    fn apply(&mut self, mode: &PowerMode) -> Result<(), Trouble> {
        // Whether the clocks are exact is for the planner to judge.
        self.jetson
            .apply(mode)
            .map(drop)
            .map_err(|error| match error {
                ApplyError::Unavailable(_) => Trouble::refused(Reason::Mode, error),
                ApplyError::Failed { .. } => Trouble::failed(Reason::Clocks, error),
                _ => Trouble::refused(Reason::Clocks, error),
            })
    }

    fn read_back(&mut self, asked: &PowerMode) -> Result<PowerMode, Trouble> {
        let failed = |error| Trouble::failed(Reason::Clocks, error);
        let drift = self.jetson.verify(asked).map_err(failed)?;
        let live = self.jetson.mode().map_err(failed)?;
        Ok(PowerMode {
            // As many, but others, is as wrong as another number.
            cores: match drift.cores && live.cores == asked.cores {
                true => 0,
                false => live.cores,
            },
            cpu_khz: reported(drift.cpu, asked.cpu_khz, live.cpu_khz),
            gpu_khz: reported(drift.gpu, asked.gpu_khz, live.gpu_khz),
            emc_khz: reported(drift.emc, asked.emc_khz, live.emc_khz),
        })
    }

    fn over_current_events(&mut self) -> Option<u64> {
        self.jetson.over_current_events()
    }

    fn is_throttled(&mut self) -> bool {
        // A board that does not tell is not known to throttle.
        self.jetson.is_heat_limited().unwrap_or(false)
    }

    fn run(&mut self, order: &Order, on_minibatch: &mut OnMinibatch<'_>) -> Result<(), Trouble> {
        let sampler = Sampler::default();
        let rails = self.jetson.rails();
        let models = &mut self.models;
        thread::scope(|scope| {
            let thread = scope.spawn(|| sampler.sample_until_done(rails));
            let _done = Done(&sampler.done, thread.thread().clone());
            let begun = Instant::now();
            let mut power = Vec::new();
            loop {
                let from = Instant::now();
                models.minibatch(order)?;
                let time = from.elapsed();
                sampler.take(&mut power);
                let minibatch = Minibatch {
                    ended: begun.elapsed(),
                    time_us: microseconds(time),
                    power: &power,
                };
                if on_minibatch(&minibatch).is_break() {
                    return Ok(());
                }
            }
        })
    }

    fn wait(&mut self, pause: Duration) {
        thread::sleep(pause);
    }
}

/// Rounded up.
fn microseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1000)).unwrap_or(u32::MAX)
}

/// Power, sampled by a thread of its own: between minibatches the board rests, and would be measured
/// resting.
#[derive(Debug, Default)]
struct Sampler {
    done: AtomicBool,
    samples: Mutex<Vec<Option<MilliWatt>>>,
}

impl Sampler {
    fn sample_until_done(&self, rails: &Rails) {
        while !self.done.load(Ordering::Relaxed) {
            let sample = rails.total();
            self.samples
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sample);
            thread::park_timeout(SAMPLE_PERIOD);
        }
    }

    /// Moves the samples since the last call into `taken`.
    fn take(&self, taken: &mut Vec<Option<MilliWatt>>) {
        taken.clear();
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        taken.append(&mut samples);
    }
}

/// Ends the sampler however its user ends.
struct Done<'a>(&'a AtomicBool, thread::Thread);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
        self.1.unpark();
    }
}
