//! A board that replays a plan's times and powers on a clock that only work and waiting move.

use super::faults::{self, Kind};
use super::trace::Trace;
use super::{HOUR_NS, READING_NS, SECOND_NS};
use fulcrum_plan::units::MilliWatt;
use fulcrum_plan::{Cell, PlanTable, PowerMode};
use fulcrum_runtime::control::{Readings, SetMode};
use fulcrum_runtime::queue::Request;
use fulcrum_runtime::random::Random;
use fulcrum_runtime::serve::{Clock, GivenUp, Work, WorkError};
use std::cell::{Cell as Shared, RefCell};

/// One minibatch in so many takes half as long again (fulcrum.md, section 7).
const SPIKE_EVERY: u64 = 2_000;
/// Standard deviation of one reading of power, as a share of it (fulcrum.md, section 7).
const POWER_NOISE: f64 = 0.02;
/// A hot board slows down after so long, by so much.
const THROTTLES_AFTER_NS: u64 = 5 * SECOND_NS;
const THROTTLED_PACE: f64 = 1.3;
/// Over-current and heat are looked at every so many readings of power, clocks half as often, as in `fulcrumd`.
const READINGS_PER_LOOK: u64 = 5;
/// A sensor that repeats one value for so long is absent, as in `fulcrumd` (`board::stale`).
const STALE_AFTER_NS: u64 = 4 * SECOND_NS;

/// The board.
pub struct Board<'a> {
    plan: &'a PlanTable,
    trace: &'a Trace,
    now_ns: Shared<u64>,
    random: RefCell<Random>,
    /// Row whose clocks are set, and the row that was asked for.
    row: Shared<usize>,
    asked: Shared<usize>,
    /// Energy of every reading's time, in mW ns.
    energy: RefCell<Vec<f64>>,
    hot_since_ns: Shared<Option<u64>>,
    /// Readings so far, over-current events since the start, and the last power that was read.
    readings: Shared<u64>,
    events: Shared<u64>,
    read: Shared<Option<MilliWatt>>,
    drifted: Shared<usize>,
}

impl<'a> Board<'a> {
    /// A board at the begin of a trace.
    #[must_use]
    pub fn new(plan: &'a PlanTable, trace: &'a Trace) -> Self {
        // A minibatch may end after the hour.
        let windows = (HOUR_NS / READING_NS) as usize + 100;
        Self {
            plan,
            trace,
            now_ns: Shared::new(0),
            random: RefCell::new(Random::new(trace.seed ^ 0xb0a4d)),
            row: Shared::new(0),
            asked: Shared::new(0),
            energy: RefCell::new(vec![0.0; windows]),
            hot_since_ns: Shared::new(None),
            readings: Shared::new(0),
            events: Shared::new(0),
            read: Shared::new(None),
            drifted: Shared::new(0),
        }
    }

    /// A bell-shaped number of deviation 1, the same on every machine: three uniform numbers.
    fn bell(&self) -> f64 {
        let mut random = self.random.borrow_mut();
        (0..3).map(|_| random.unit() - 0.5).sum::<f64>() * 2.0
    }

    /// Lets time pass at a power.
    fn pass(&self, duration_ns: u64, power_mw: f64) {
        let mut energy = self.energy.borrow_mut();
        let (mut from_ns, until_ns) = (self.now_ns.get(), self.now_ns.get() + duration_ns);
        let power_mw = power_mw * faults::appetite(&self.trace.faults, from_ns);
        while from_ns < until_ns {
            let window = from_ns / READING_NS;
            let end_ns = ((window + 1) * READING_NS).min(until_ns);
            if let Some(energy) = energy.get_mut(window as usize) {
                *energy += power_mw * (end_ns - from_ns) as f64;
            }
            from_ns = end_ns;
        }
        self.now_ns.set(until_ns);
    }

    /// Lets time pass until an instant without work: at the power of whatever draws less.
    pub fn idle_until(&self, until_ns: u64) {
        let least = self.plan.rows[self.row.get()].power_min();
        let duration_ns = until_ns.saturating_sub(self.now_ns.get());
        self.pass(duration_ns, least.map_or(0.0, |power| f64::from(power.0)));
    }

    /// Nothing of ours runs until an instant.
    pub fn down_until(&self, until_ns: u64) {
        self.pass(until_ns.saturating_sub(self.now_ns.get()), 0.0);
        self.readings.set(self.now_ns() / READING_NS);
    }

    /// Sets a row before the loop begins: over-current events count from here.
    pub fn start(&self, row: usize) {
        self.events.set(0);
        self.row.set(row);
        self.asked.set(row);
    }

    fn spend(&self, cell: &Cell) {
        let throttled = self
            .hot_since_ns
            .get()
            .is_some_and(|since_ns| self.now_ns() >= since_ns + THROTTLES_AFTER_NS);
        let mut took_ns =
            f64::from(cell.time_us.0) * 1e3 * faults::pace(&self.trace.faults, self.now_ns());
        took_ns *= 1.0 + self.trace.noise * self.bell();
        if self.random.borrow_mut().below(SPIKE_EVERY) == 0 {
            took_ns *= 1.5;
        }
        if throttled {
            took_ns *= THROTTLED_PACE;
        }
        self.pass(took_ns.max(1.0) as u64, cell.power_mw.0.into());
    }

    /// What the watcher thread does: reads sensors, looks for drift.
    pub fn watch(&self, readings: &Readings) {
        let due = self.now_ns() / READING_NS;
        while self.readings.get() < due {
            let number = self.readings.get() + 1;
            self.readings.set(number);
            self.read(number, readings);
        }
    }

    /// The reading at the end of its time.
    fn read(&self, number: u64, readings: &Readings) {
        let now_ns = number * READING_NS;
        let faults = &self.trace.faults;
        let since = |kind: Kind| {
            let mut present = faults.iter().filter(|fault| fault.holds(now_ns));
            let fault = present.find(|fault| fault.kind == kind)?;
            Some(now_ns - fault.from_ns)
        };
        let power_mw = self.average_mw(number as usize - 1);
        let read_mw = power_mw * (1.0 + POWER_NOISE * self.bell());
        let stuck_ns = since(Kind::SensorStuck);
        if since(Kind::SensorAbsent).is_some() || stuck_ns.is_some_and(|ns| ns >= STALE_AFTER_NS) {
            self.read.set(None);
        } else if since(Kind::SensorSpike).is_some() {
            self.read.set(Some(MilliWatt((read_mw * 10.0) as u32)));
        } else if stuck_ns.is_none() {
            self.read.set(Some(MilliWatt(read_mw as u32)));
        }
        if number.is_multiple_of(READINGS_PER_LOOK) {
            self.look(number, now_ns);
        }
        if number.is_multiple_of(2 * READINGS_PER_LOOK) && self.row.get() != self.asked.get() {
            readings.drifted();
        }
        self.drift(now_ns);
        readings.set(
            self.read.get(),
            self.events.get(),
            self.hot_since_ns.get().is_some(),
        );
    }

    /// Over-current and heat, by the power since the look before.
    fn look(&self, number: u64, now_ns: u64) {
        let windows = number - READINGS_PER_LOOK..number;
        let sum_mw: f64 = windows.map(|window| self.average_mw(window as usize)).sum();
        let power_mw = sum_mw / READINGS_PER_LOOK as f64;
        let share = power_mw / f64::from(self.trace.demand.power_mw.0);
        let above = |of: fn(&Kind) -> Option<f64>| {
            let present = self.trace.faults.iter().filter(|fault| fault.holds(now_ns));
            let mut limits = present.filter_map(|fault| of(&fault.kind));
            limits.any(|limit| share > limit)
        };
        let hot = above(|kind| match kind {
            Kind::Heat(limit) => Some(*limit),
            _ => None,
        });
        self.hot_since_ns
            .set(hot.then(|| self.hot_since_ns.get().unwrap_or(now_ns)));
        let trips = above(|kind| match kind {
            Kind::OverCurrent(limit) => Some(*limit),
            _ => None,
        });
        self.events.set(self.events.get() + u64::from(trips));
    }

    /// Something else sets clocks; the watcher finds that out at its next look.
    fn drift(&self, now_ns: u64) {
        let faults = self.trace.faults.iter();
        let count = faults
            .filter(|fault| fault.kind == Kind::Drift && fault.from_ns <= now_ns)
            .count();
        if count > self.drifted.replace(count) {
            let row = self.random.borrow_mut().below(self.plan.rows.len() as u64);
            self.row.set(row as usize);
        }
    }

    /// Average power of one reading's time, without the sensor's noise.
    #[must_use]
    pub fn average_mw(&self, window: usize) -> f64 {
        self.energy
            .borrow()
            .get(window)
            .map_or(0.0, |energy| energy / READING_NS as f64)
    }
}

impl Clock for Board<'_> {
    fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }
}

impl Work for &Board<'_> {
    fn infer(&mut self, requests: &[Request]) -> Result<usize, WorkError> {
        let row = &self.plan.rows[self.row.get()];
        let mut cells = self
            .plan
            .slots_infer(0)
            .filter_map(|(slot, batch)| Some((batch, row.cell(slot)?)));
        let (batch, cell) = cells
            .find(|(batch, _)| usize::from(*batch) >= requests.len())
            .ok_or(WorkError::Failed { code: -1 })?;
        self.spend(cell);
        Ok(usize::from(batch))
    }

    fn train(&mut self) -> Result<f32, WorkError> {
        let row = &self.plan.rows[self.row.get()];
        let cell = self.plan.slot_train().and_then(|slot| row.cell(slot));
        self.spend(cell.ok_or(WorkError::Failed { code: -1 })?);
        Ok(1.0)
    }

    fn give_up(&mut self, _: &Request, _: GivenUp) {}
}

impl SetMode for &Board<'_> {
    fn set_mode(&mut self, mode: &PowerMode) -> bool {
        let Some(row) = self.plan.rows.iter().position(|row| row.mode == *mode) else {
            return false;
        };
        // Clocks 1 to 8 ms, cores tens of ms (jetson.md, 4.1).
        let same_cores = mode.cores == self.plan.rows[self.row.get()].mode.cores;
        let share = self.random.borrow_mut().unit();
        let cost_ms = if same_cores {
            1.0 + 7.0 * share
        } else {
            20.0 + 60.0 * share
        };
        self.idle_until(self.now_ns() + (cost_ms * 1e6) as u64);
        self.start(row);
        true
    }
}
