//! A Jetson to measure on.

use super::course::Minibatch;
use super::measure::{OnMinibatch, Rig};
use super::models::Models;
use super::serve::Trouble;
use crate::board::effective::Running;
use crate::board::topology::same_clock;
use crate::board::{ApplyError, Controls, Jetson, Sysfs};
use fulcrum_plan::PowerMode;
use fulcrum_plan::board::Clocks;
use fulcrum_plan::link::{Hello, L4t, Offer, Order, Reason};
use fulcrum_plan::units::{Khz, MilliWatt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Between two samples of power. An INA3221 gives a new value each `update_interval`; a full sample of
/// an AGX Orin takes 3.3 ms of I2C (jetson.md 1.8).
const SAMPLE_PERIOD: Duration = Duration::from_millis(100);

/// Between two measurements of the clocks that run: they wake the CPU and may log a line.
const CLOCKS_PERIOD: Duration = Duration::from_secs(1);

/// What a board runs while it is measured, and the time that passes on it: [`Models`], or a simulation.
pub trait Work<C: Controls> {
    /// What can be run.
    fn offers(&self) -> Vec<Offer>;

    /// Makes a workload ready, if it is not.
    ///
    /// # Errors
    /// It is not offered, or does not load.
    fn load(&mut self, order: &Order) -> Result<(), Trouble>;

    /// Runs minibatches, with the board's power sampled beside, until `on_minibatch` breaks. Tells the
    /// clocks that ran meanwhile, and whether heat limited them.
    ///
    /// # Errors
    /// The engine failed.
    fn run(
        &mut self,
        board: &Jetson<C>,
        order: &Order,
        on_minibatch: &mut OnMinibatch<'_>,
    ) -> Result<Running, Trouble>;

    /// Waits.
    fn wait(&mut self, pause: Duration);
}

/// A Jetson and its workloads.
#[derive(Debug)]
pub struct JetsonRig<C: Controls = Sysfs, W = Models> {
    /// The board; dropping it puts its clocks back.
    pub jetson: Jetson<C>,
    work: W,
    /// The clocks that ran during the last minibatches.
    running: Running,
}

impl<C: Controls, W: Work<C>> JetsonRig<C, W> {
    /// A rig of a board and the workloads that are measured on it.
    #[must_use]
    pub fn new(jetson: Jetson<C>, work: W) -> Self {
        Self {
            jetson,
            work,
            running: Running::default(),
        }
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
            gpu_masks: topology.gpu_masks,
            counts_over_current: self.jetson.over_current_events().is_some(),
            offers: self.work.offers().into_iter().collect(),
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

/// A board that does not tell is not known to throttle.
fn is_heat_limited<C: Controls>(board: &Jetson<C>) -> bool {
    board.is_heat_limited().unwrap_or(false)
}

impl<C: Controls, W: Work<C>> Rig for JetsonRig<C, W> {
    fn load(&mut self, order: &Order) -> Result<(), Trouble> {
        if self.jetson.power().is_none() {
            let words = "the board's power is not known: a rail of its total is missing or cannot \
                         be read; `fulcrumd doctor` lists them";
            return Err(Trouble::refused(Reason::Power, words));
        }
        self.work.load(order)
    }

    fn apply(&mut self, mode: &PowerMode) -> Result<(), Trouble> {
        self.running = Running::default();
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
        let ran = self.running.judge(asked);
        Ok(PowerMode {
            // As many, but others, is as wrong as another number.
            cores: match drift.cores && live.cores == asked.cores {
                true => 0,
                false => live.cores,
            },
            cpu_khz: reported(drift.cpu, ran.cpu_khz, live.cpu_khz),
            gpu_khz: reported(drift.gpu, ran.gpu_khz, live.gpu_khz),
            emc_khz: reported(drift.emc, asked.emc_khz, live.emc_khz),
        })
    }

    fn over_current_events(&mut self) -> Option<u64> {
        self.jetson.over_current_events()
    }

    fn is_throttled(&mut self) -> bool {
        self.running.heat_limited || is_heat_limited(&self.jetson)
    }

    fn run(&mut self, order: &Order, on_minibatch: &mut OnMinibatch<'_>) -> Result<(), Trouble> {
        self.running = self.work.run(&self.jetson, order, on_minibatch)?;
        if self.jetson.rails().is_stale() {
            let words = "the power sensors repeat one value; `fulcrumd doctor` lists them, and a reboot \
                         starts them anew";
            return Err(Trouble::failed(Reason::Power, words));
        }
        Ok(())
    }

    fn wait(&mut self, pause: Duration) {
        self.work.wait(pause);
    }
}

impl Work<Sysfs> for Models {
    fn offers(&self) -> Vec<Offer> {
        Self::offers(self).collect()
    }

    fn load(&mut self, order: &Order) -> Result<(), Trouble> {
        Self::load(self, order)
    }

    fn run(
        &mut self,
        board: &Jetson,
        order: &Order,
        on_minibatch: &mut OnMinibatch<'_>,
    ) -> Result<Running, Trouble> {
        let sampler = Sampler::default();
        thread::scope(|scope| {
            let thread = scope.spawn(|| sampler.sample_until_done(board));
            let done = Done(&sampler.done, thread.thread().clone());
            let begun = Instant::now();
            let mut power = Vec::new();
            loop {
                let from = Instant::now();
                self.minibatch(order)?;
                let time = from.elapsed();
                sampler.take(&mut power);
                let minibatch = Minibatch {
                    ended: begun.elapsed(),
                    time_us: microseconds(time),
                    power: &power,
                };
                if on_minibatch(&minibatch).is_break() {
                    break;
                }
            }
            drop(done);
            let clocks = thread.join().unwrap_or_default();
            Ok(Running::median(&clocks))
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
    /// Returns the clocks that ran.
    fn sample_until_done(&self, board: &Jetson) -> Vec<Running> {
        let mut clocks = Vec::new();
        let mut measured = Instant::now();
        while !self.done.load(Ordering::Relaxed) {
            let sample = board.power();
            self.samples
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(sample);
            if measured.elapsed() >= CLOCKS_PERIOD {
                measured = Instant::now();
                clocks.push(Running {
                    heat_limited: is_heat_limited(board),
                    ..board.running().measure()
                });
            }
            thread::park_timeout(SAMPLE_PERIOD);
        }
        clocks
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
