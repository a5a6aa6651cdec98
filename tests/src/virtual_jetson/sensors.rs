//! The sensors of a virtual board: power that follows clocks and load, over-current events as firmware
//! publishes them, and the ways in which sensors fail.

use super::kernel::State;
use fulcrum_plan::units::Khz;
use fulcrum_plan::{Board, PowerMode};
use fulcrum_planner::profile::synthetic::Synthetic;
use fulcrum_planner::profile::{ProfileSource, Run, Truth};
use fulcrum_planner::random::Random;
use fulcrum_planner::workload::Role;

const ENODEV: i32 = 19;
const EAGAIN: i32 = 11;

/// One register over I2C (jetson.md 1.8).
pub(super) const REGISTER_US: u64 = 554;
/// A new value of an INA3221.
const UPDATE_US: u64 = 1_000;
/// Firmware publishes over-current events in batches (jetson.md 1.7).
const PUBLISH_US: u64 = 2_000_000;
/// Power follows a change of load with this time constant: an average over some conversions. Invented.
const SETTLE_US: u64 = 300_000;
/// A board that does nothing draws this part of what its lightest workload draws. Invented.
const IDLE_PERCENT: u64 = 40;

/// How sensors fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SensorFault {
    /// The driver is gone.
    Vanished,
    /// The chip does not answer now.
    Again,
    /// The chip goes on answering with its last values.
    Stale,
}

/// The sensors.
#[derive(Debug)]
pub(super) struct Sensors {
    model: Synthetic,
    gpu_khz: Vec<Khz>,
    load: Option<Run>,
    /// When the load began or ended.
    since_us: u64,
    /// Power at that time.
    before_mw: u64,
    fault: Option<SensorFault>,
    /// When a chip stopped measuring.
    stale_us: u64,
    events: u64,
    events_unpublished: u64,
    events_us: u64,
}

impl Sensors {
    pub(super) fn new(board: &Board) -> Self {
        Self {
            model: Synthetic::new(board, 0).without_noise(),
            gpu_khz: board
                .gpu_khz
                .first()
                .into_iter()
                .flatten()
                .copied()
                .collect(),
            load: None,
            since_us: 0,
            before_mw: 0,
            fault: None,
            stale_us: 0,
            events: 0,
            events_unpublished: 0,
            events_us: 0,
        }
    }

    /// A workload begins to run, or ends.
    pub(super) fn set_load(&mut self, load: Option<Run>, mode: &PowerMode, now_us: u64) {
        // From what was steady: a load begins the same way whatever ran before it.
        self.before_mw = self.steady_mw(self.load.as_ref(), mode);
        self.since_us = now_us;
        self.load = load;
    }

    pub(super) const fn is_loaded(&self) -> bool {
        self.load.is_some()
    }

    pub(super) fn set_fault(&mut self, fault: Option<SensorFault>, now_us: u64) {
        self.fault = fault;
        self.stale_us = now_us;
    }

    pub(super) const fn over_current(&mut self, events: u64, now_us: u64) {
        self.events_unpublished += events;
        self.events_us = now_us;
    }

    /// Over-current events as they are published.
    pub(super) fn events(&mut self, now_us: u64) -> u64 {
        if now_us / PUBLISH_US > self.events_us / PUBLISH_US {
            self.events += std::mem::take(&mut self.events_unpublished);
        }
        self.events
    }

    /// Power in a mode: the model of `synthetic:BOARD`, whose GPU table is the board's first.
    fn steady_mw(&self, load: Option<&Run>, mode: &PowerMode) -> u64 {
        let nearest = |khz: &&Khz| khz.0.abs_diff(mode.gpu_khz.0);
        let mode = PowerMode {
            gpu_khz: self
                .gpu_khz
                .iter()
                .min_by_key(nearest)
                .copied()
                .unwrap_or_default(),
            ..*mode
        };
        let power = |run: &Run| {
            let run = Run {
                mode,
                ..run.clone()
            };
            self.model
                .truth(&run)
                .map(|cell| u64::from(cell.power_mw.0))
        };
        match load {
            Some(run) => power(run).unwrap_or(0),
            None => {
                let runs = self.model.workloads().iter().filter_map(|workload| {
                    Some(Run {
                        mode,
                        role: workload.role,
                        workload: workload.name.clone(),
                        batch: *workload.batches.first()?,
                    })
                });
                runs.filter_map(|run| power(&run)).min().unwrap_or(0) * IDLE_PERCENT / 100
            }
        }
    }

    /// Power now: on its way from what it was to what the load draws.
    fn power_mw(&self, mode: &PowerMode, now_us: u64) -> u64 {
        let target_mw = self.steady_mw(self.load.as_ref(), mode) as f64;
        let elapsed = now_us.saturating_sub(self.since_us) as f64 / SETTLE_US as f64;
        let way = (-elapsed).exp();
        (target_mw + (self.before_mw as f64 - target_mw) * way) as u64
    }

    /// Current of one of `summed` rails, or of one beside them, at a bus voltage.
    ///
    /// # Errors
    /// A sensor that fails.
    pub(super) fn current_ma(
        &self,
        state: &State,
        rail: (u8, u8),
        summed: Option<u64>,
        mv: u64,
        now_us: u64,
    ) -> Result<u64, i32> {
        let at_us = match self.fault {
            Some(SensorFault::Vanished) => return Err(ENODEV),
            Some(SensorFault::Again) => return Err(EAGAIN),
            Some(SensorFault::Stale) => self.stale_us,
            None => now_us,
        };
        let mode = state.mode();
        let share_mw = self.power_mw(&mode, at_us) / summed.unwrap_or(8).max(1);
        let clean_ma = share_mw * 1000 / mv.max(1);
        // Noise of about one step of 8 mA, anew with every value of the chip. It repeats with the load.
        let update = at_us.saturating_sub(self.since_us) / UPDATE_US;
        let load = self.load.as_ref().map(Run::to_string).unwrap_or_default();
        let parts = [load.as_bytes(), &update.to_le_bytes(), &[rail.0, rail.1]];
        let noise_ma = (Random::new(1, &parts).normal() * 8.0) as i64;
        Ok(clean_ma.saturating_add_signed(noise_ma).max(1))
    }
}

/// A run for `Sensors::set_load`.
#[must_use]
pub fn load(role: Role, workload: &str, batch: u16) -> Run {
    Run {
        mode: PowerMode::default(),
        role,
        workload: workload.to_owned(),
        batch,
    }
}
