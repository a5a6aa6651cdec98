//! Between the guard and the board: what the watcher read, what the guard asks for, and its execution.
//!
//! Reading sensors takes milliseconds (an INA3221 register 0.55 ms over I2C, jetson.md 1.8), so a thread of
//! its own reads them into [`Readings`]; the loop only looks at numbers. Changing the mode is done by the
//! loop itself, in a gap that is long enough: cores are never taken offline inside a latency window unless
//! a budget has been violated for a whole control period.

use crate::guard::{self, Change, Guard, Reading, Reason};
use crate::schedule::{Assignment, Bulk, Busy, Overload, Schedule, Switch};
use crate::serve::{Modes, Requests};
use fulcrum_plan::PlanTable;
use fulcrum_plan::PowerMode;
use fulcrum_plan::select::{Problem, Solution};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use heapless::spsc::{Consumer, Producer, Queue};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What the watcher reads and the loop looks at.
#[derive(Debug, Default)]
pub struct Readings {
    /// Board power in mW plus one; zero if absent.
    power: AtomicU64,
    over_current_events: AtomicU64,
    hot: AtomicBool,
    /// How often the board was found with other clocks than were set.
    drifts: AtomicU64,
    /// Row of the plan that is set; and how often that began or ended to change.
    row: AtomicUsize,
    changes: AtomicU64,
}

impl Readings {
    /// Nothing read yet, and a row that is set.
    #[must_use]
    pub fn new(row: usize) -> Self {
        Self {
            row: AtomicUsize::new(row),
            ..Self::default()
        }
    }

    /// Publishes sensors; absent ones are `None`.
    pub fn set(&self, power_mw: Option<MilliWatt>, over_current_events: Option<u64>, hot: bool) {
        let power = power_mw.map_or(0, |power| u64::from(power.0).saturating_add(1));
        self.power.store(power, Ordering::Relaxed);
        if let Some(events) = over_current_events {
            self.over_current_events.store(events, Ordering::Relaxed);
        }
        self.hot.store(hot, Ordering::Relaxed);
    }

    /// Board power as it was read last.
    #[must_use]
    pub fn power_mw(&self) -> Option<MilliWatt> {
        let power_mw = self.power.load(Ordering::Relaxed).checked_sub(1)?;
        Some(MilliWatt(u32::try_from(power_mw).unwrap_or(u32::MAX)))
    }

    /// The row that is set, with a ticket: it holds for what was read meanwhile if
    /// [`Readings::held`] says so afterwards. `None` while it changes.
    #[must_use]
    pub fn row(&self) -> Option<(usize, u64)> {
        let ticket = self.changes.load(Ordering::Acquire);
        ticket
            .is_multiple_of(2)
            .then(|| (self.row.load(Ordering::Acquire), ticket))
    }

    /// Another row is set, where no loop changes it.
    pub fn set_row(&self, row: usize) {
        self.row.store(row, Ordering::Release);
    }

    /// Whether the row has not changed since the ticket was given.
    #[must_use]
    pub fn held(&self, ticket: u64) -> bool {
        self.changes.load(Ordering::Acquire) == ticket
    }

    /// The board has other clocks than were set: they are to be set again.
    pub fn drifted(&self) {
        self.drifts.fetch_add(1, Ordering::Relaxed);
    }
}

/// Something that people should know, said once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Another row is in use.
    Changed {
        /// Why.
        reason: Reason,
        /// Its mode.
        mode: PowerMode,
        /// Requests per batch; 0 if nothing is served.
        batch: u16,
        /// Whether training goes on.
        trains: bool,
    },
    /// A change failed; the mode is that of before.
    Failed {
        /// Why it was wanted.
        reason: Reason,
    },
    /// Clocks that something else had changed were set again.
    Mended,
}

/// Slots of the ring of events; one stays empty.
const EVENT_SLOTS: usize = 64;

/// Events on their way from the loop to whoever logs them. When nobody takes them, the newest are lost.
#[derive(Debug, Default)]
pub struct Events(Queue<Event, EVENT_SLOTS>);

impl Events {
    /// The two ends.
    pub fn split(&mut self) -> (Producer<'_, Event>, Consumer<'_, Event>) {
        self.0.split()
    }
}

/// What sets a mode.
pub trait SetMode {
    /// Sets it; false if it failed, and the board then has the mode of before. Does not allocate.
    fn set_mode(&mut self, mode: &PowerMode) -> bool;
}

/// What a run is there for, whatever row of the plan it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duty {
    /// What is decided.
    pub problem: Problem,
    /// Whether non-urgent inference runs beside training, in what is left of it.
    pub bulk: bool,
    /// Latency budget.
    pub budget_us: MicroSec,
    /// What happens to requests when there are too many.
    pub overload: Overload,
}

impl Duty {
    /// What a row is for. Beside training, non-urgent requests run in the batches of the row that answer the most
    /// per second and draw no more than the answer does; if all draw more, they wait for another row.
    #[must_use]
    pub fn assignment(&self, plan: &PlanTable, solution: &Solution) -> Assignment {
        let mut assignment = Assignment::of(self.problem, solution, self.budget_us, self.overload);
        if self.bulk && assignment.bulk.is_none() {
            let row = plan.rows.get(solution.row);
            let cells = plan
                .slots_infer(1)
                .filter_map(|(slot, batch)| Some((batch, row?.cell(slot)?)));
            let affordable = cells.filter(|(_, cell)| cell.power_mw <= solution.power_mw);
            let best = affordable.max_by_key(|(batch, cell)| {
                let scaled = u64::from(*batch).saturating_mul(1_000_000_000);
                scaled.checked_div(cell.time_us.0.into())
            });
            assignment.bulk = best.map(|(batch, cell)| Bulk::new(batch, cell.time_us));
        }
        assignment
    }
}

/// What is wanted of the board.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    change: Change,
    since_ns: u64,
    urgent: bool,
}

/// The guard with its hands: the loop's [`Modes`].
pub struct Control<'a, B> {
    guard: Guard,
    plan: &'a PlanTable,
    board: B,
    readings: &'a Readings,
    events: Producer<'a, Event>,
    duty: Duty,
    wanted: Option<Wanted>,
    over_current_seen: Option<u64>,
    drifts_seen: u64,
    busy_seen: Busy,
}

impl<'a, B: SetMode> Control<'a, B> {
    /// A guard over a plan and a board whose mode was just set.
    pub fn new(
        guard: Guard,
        plan: &'a PlanTable,
        board: B,
        readings: &'a Readings,
        events: Producer<'a, Event>,
        duty: Duty,
    ) -> Self {
        Self {
            guard,
            plan,
            board,
            readings,
            events,
            duty,
            wanted: None,
            over_current_seen: None,
            drifts_seen: 0,
            busy_seen: Busy::default(),
        }
    }

    /// The row in use.
    #[must_use]
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    fn say(&mut self, event: Event) {
        // Full: nobody has listened for 63 events, and an older one matters more than this.
        let _ = self.events.enqueue(event);
    }

    fn read(&mut self, schedule: &Schedule, requests: Requests) -> Reading {
        let events = self.readings.over_current_events.load(Ordering::Relaxed);
        // What was counted before the first look is not ours.
        let over_current = self.over_current_seen.is_some_and(|seen| events > seen);
        self.over_current_seen = Some(events);
        let serving = schedule.assignment().serving;
        let planned_ns = serving.map_or(0, |serving| serving.infer_ns);
        let measured = schedule.infer().is_measured();
        Reading {
            power_mw: self.readings.power_mw(),
            planned_mw: self.planned_mw(schedule),
            over_current,
            hot: self.readings.hot.load(Ordering::Relaxed),
            arrived: requests.arrived,
            missed: requests.missed,
            slowdown_per_mille: schedule
                .infer()
                .mean_ns()
                .saturating_mul(1_000)
                .checked_div(planned_ns)
                .filter(|_| measured),
        }
    }

    /// What the work since the last look draws by the plan, averaged over its time.
    fn planned_mw(&mut self, schedule: &Schedule) -> Option<MilliWatt> {
        let busy = schedule.busy();
        let before = core::mem::replace(&mut self.busy_seen, busy);
        let row = self.plan.rows.get(self.guard.current().row)?;
        let infer = |workload: usize, batch: Option<u16>| {
            let mut slots = self.plan.slots_infer(workload);
            let (slot, _) = slots.find(|(_, other)| Some(*other) == batch)?;
            row.cell(slot)
        };
        let Assignment { serving, bulk, .. } = schedule.assignment();
        let train = self.plan.slot_train().and_then(|slot| row.cell(slot));
        let (mut energy, mut time_ns) = (0_u128, 0_u64);
        for (cell, ns, seen_ns) in [
            (
                infer(0, serving.map(|serving| serving.batch)),
                busy.infer_ns,
                before.infer_ns,
            ),
            (train, busy.train_ns, before.train_ns),
            (
                infer(1, bulk.map(|bulk| bulk.batch)),
                busy.bulk_ns,
                before.bulk_ns,
            ),
        ] {
            // A new schedule counts from zero.
            let spent_ns = ns.checked_sub(seen_ns).unwrap_or(ns);
            let power_mw = cell.map_or(0, |cell| cell.power_mw.0);
            energy = energy.saturating_add(u128::from(spent_ns).saturating_mul(power_mw.into()));
            time_ns = time_ns.saturating_add(spent_ns);
        }
        let average = energy.checked_div(time_ns.into())?;
        u32::try_from(average).ok().map(MilliWatt)
    }

    fn want(&mut self, now_ns: u64, change: Change) {
        let same_cores = change.solution.mode.cores == self.guard.current().mode.cores;
        // Asked again while the first still waits: the violation lasts since then.
        let waiting = self
            .wanted
            .filter(|wanted| wanted.change.reason.is_urgent());
        self.wanted = Some(Wanted {
            change,
            since_ns: waiting.map_or(now_ns, |wanted| wanted.since_ns),
            urgent: change.reason.is_urgent() && same_cores,
        });
    }

    /// A change that waits for a gap for a whole period while a budget is violated waits no longer.
    fn press(&mut self, now_ns: u64) {
        if let Some(wanted) = &mut self.wanted {
            let waited_ns = now_ns.saturating_sub(wanted.since_ns);
            wanted.urgent |= wanted.change.reason.is_urgent() && waited_ns >= guard::PERIOD_NS;
        }
    }
}

impl<B: SetMode> Modes for Control<'_, B> {
    fn look(&mut self, now_ns: u64, schedule: &Schedule, requests: Requests) {
        if !self.guard.is_due(now_ns) {
            return;
        }
        let reading = self.read(schedule, requests);
        let drifts = self.readings.drifts.load(Ordering::Relaxed);
        if let Some(change) = self.guard.step(now_ns, self.plan, &reading) {
            self.want(now_ns, change);
        } else if drifts > self.drifts_seen && self.wanted.is_none() {
            let solution = *self.guard.current();
            self.want(
                now_ns,
                Change {
                    solution,
                    reason: Reason::Drift,
                },
            );
        }
        self.drifts_seen = drifts;
        self.press(now_ns);
    }

    fn wanted(&self) -> Option<Switch> {
        let wanted = self.wanted.as_ref()?;
        Some(Switch {
            cost_ns: self.guard.cost_ns(&wanted.change.solution.mode),
            urgent: wanted.urgent,
        })
    }

    fn assumed_rate(&self) -> MilliRps {
        self.guard.assumed_rate()
    }

    fn change(&mut self, now_ns: u64) -> Option<Assignment> {
        let Change { solution, reason } = self.wanted.take()?.change;
        // Only the batch may differ: then there is nothing to set.
        let same_mode = reason != Reason::Drift && solution.mode == self.guard.current().mode;
        if !same_mode {
            self.readings.changes.fetch_add(1, Ordering::AcqRel);
            let set = self.board.set_mode(&solution.mode);
            if set {
                self.readings.row.store(solution.row, Ordering::Release);
            }
            self.readings.changes.fetch_add(1, Ordering::AcqRel);
            if !set {
                self.say(Event::Failed { reason });
                return None;
            }
        }
        if reason == Reason::Drift {
            self.say(Event::Mended);
            return None;
        }
        self.guard.done(now_ns, solution);
        self.say(Event::Changed {
            reason,
            mode: solution.mode,
            batch: solution.serving.map_or(0, |serving| serving.batch),
            trains: solution.background.is_some(),
        });
        Some(self.duty.assignment(self.plan, &solution))
    }
}

#[cfg(test)]
mod tests;
