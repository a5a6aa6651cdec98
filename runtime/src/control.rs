//! Between the guard and the board: what the watcher read, what the guard asks for, and its execution.
//!
//! Reading sensors takes milliseconds (an INA3221 register 0.55 ms over I2C, jetson.md 1.8), so a thread of
//! its own reads them into [`Readings`]; the loop only looks at numbers. Changing the mode is done by the
//! loop itself, in a gap that is long enough: cores are never taken offline inside a latency window unless
//! a budget is still violated at the next look.

use crate::guard::{self, Change, Guard, Reading, Reason};
use crate::schedule::{Assignment, Bulk, Busy, Policy, Schedule, Switch};
use crate::serve::{Modes, Requests};
use fulcrum_plan::select::{Problem, Selector, Solution};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_plan::{Cell, PlanTable, PowerMode};
use heapless::spsc::{Consumer, Producer, Queue};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Bits of the number of readings: a day's, ten a second. Only differences count.
const COUNT_BITS: u32 = 20;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// All readings of power so far, or those between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drawn {
    sum_mw: u64,
    count: u64,
}

/// What the watcher reads and the loop looks at.
#[derive(Debug, Default)]
pub struct Readings {
    /// Board power in mW plus one; zero if absent.
    power: AtomicU64,
    /// Sum of all readings of it in mW, and in the lowest [`COUNT_BITS`] their number, both without carry.
    drawn: AtomicU64,
    /// The changes of mode at the last reading.
    seen: AtomicU64,
    /// Since the mode was set for the first time.
    over_current_events: AtomicU64,
    hot: AtomicBool,
    /// How often the board was found with other clocks than were set.
    drifts: AtomicU64,
    /// Row of the plan that is set; and how often that began or ended to change.
    row: AtomicUsize,
    changes: AtomicU64,
}

impl Drawn {
    const fn unpack(packed: u64) -> Self {
        Self {
            sum_mw: packed >> COUNT_BITS,
            count: packed & COUNT_MASK,
        }
    }

    /// What was read since.
    const fn since(self, before: Self) -> Self {
        Self {
            sum_mw: self.sum_mw.wrapping_sub(before.sum_mw) & (u64::MAX >> COUNT_BITS),
            count: self.count.wrapping_sub(before.count) & COUNT_MASK,
        }
    }

    /// Number of readings.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.count
    }

    /// Their mean; `None` if there are none.
    #[must_use]
    pub fn mean(self) -> Option<MilliWatt> {
        let mean_mw = self.sum_mw.checked_div(self.count)?;
        Some(MilliWatt(u32::try_from(mean_mw).unwrap_or(u32::MAX)))
    }
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

    /// Publishes sensors; power is `None` where it is absent. Over-current events count since the mode was set.
    pub fn set(&self, power_mw: Option<MilliWatt>, over_current_events: u64, hot: bool) {
        let power = power_mw.map_or(0, |power| u64::from(power.0).saturating_add(1));
        self.power.store(power, Ordering::Relaxed);
        let changes = self.changes.load(Ordering::Acquire);
        // A sensor averages over the time before: right after a change that was another row's.
        let changed = self.seen.swap(changes, Ordering::Relaxed) != changes;
        if let Some(power_mw) = power_mw.filter(|_| !changed) {
            let Drawn { sum_mw, count } = Drawn::unpack(self.drawn.load(Ordering::Relaxed));
            let sum_mw = sum_mw.wrapping_add(power_mw.0.into());
            let packed = (sum_mw << COUNT_BITS) | (count.wrapping_add(1) & COUNT_MASK);
            self.drawn.store(packed, Ordering::Release);
        }
        self.over_current_events
            .store(over_current_events, Ordering::Relaxed);
        self.hot.store(hot, Ordering::Relaxed);
    }

    /// Board power as it was read last.
    #[must_use]
    pub fn power_mw(&self) -> Option<MilliWatt> {
        let power_mw = self.power.load(Ordering::Relaxed).checked_sub(1)?;
        Some(MilliWatt(u32::try_from(power_mw).unwrap_or(u32::MAX)))
    }

    /// All readings of power so far, but those right after a change of mode.
    #[must_use]
    pub fn drawn(&self) -> Drawn {
        Drawn::unpack(self.drawn.load(Ordering::Acquire))
    }

    /// Those after `seen`, which is then up to date.
    pub fn drawn_since(&self, seen: &mut Drawn) -> Drawn {
        let drawn = self.drawn();
        drawn.since(core::mem::replace(seen, drawn))
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
    /// A step and a batch take longer than the latency budget, so that training cannot have the share it was promised.
    PromiseBroken,
}

/// As many looks in a row show that a promise cannot be kept: one might be a pause of the machine.
const BROKEN_LOOKS: u8 = 2;

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
    /// What comes first where there is not enough time for everything.
    pub policy: Policy,
}

impl Duty {
    /// What a row is for. Beside training, non-urgent requests run in the batches of the row that answer the most
    /// per second and draw no more than the answer does; if all draw more, they wait for another row.
    #[must_use]
    pub fn assignment(&self, plan: &PlanTable, solution: &Solution) -> Assignment {
        let mut assignment = Assignment::of(self.problem, solution, self.budget_us, self.policy);
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

/// What work draws by the plan.
#[derive(Clone, Copy, Debug)]
struct Planned {
    /// Averaged over its time.
    mean_mw: MilliWatt,
    peak_mw: MilliWatt,
    busy_ns: u64,
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
    selector: Selector<'a>,
    board: B,
    readings: &'a Readings,
    events: Producer<'a, Event>,
    duty: Duty,
    wanted: Option<Wanted>,
    over_current_seen: u64,
    drifts_seen: u64,
    busy_seen: Busy,
    drawn_seen: Drawn,
    /// Looks in a row that showed that training cannot have its share in this mode; more than [`BROKEN_LOOKS`] once that
    /// was said.
    broken_looks: u8,
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
            selector: Selector::new(plan),
            board,
            readings,
            events,
            duty,
            wanted: None,
            over_current_seen: 0,
            drifts_seen: 0,
            busy_seen: Busy::default(),
            drawn_seen: readings.drawn(),
            broken_looks: 0,
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

    /// Says once in a mode that training cannot have the share it was promised.
    fn check_promise(&mut self, schedule: &Schedule) {
        if self.broken_looks > BROKEN_LOOKS {
            return;
        }
        self.broken_looks = match schedule.can_keep_promise() {
            true => 0,
            false => self.broken_looks.saturating_add(1),
        };
        if self.broken_looks == BROKEN_LOOKS {
            self.broken_looks = self.broken_looks.saturating_add(1);
            self.say(Event::PromiseBroken);
        }
    }

    fn read(&mut self, schedule: &Schedule, requests: Requests) -> Reading {
        let events = self.readings.over_current_events.load(Ordering::Relaxed);
        let over_current = events > core::mem::replace(&mut self.over_current_seen, events);
        let serving = schedule.assignment().serving;
        let planned_ns = serving.map_or(0, |serving| serving.infer_ns);
        let measured = schedule.infer().is_measured();
        let read = self.readings.drawn_since(&mut self.drawn_seen);
        let planned = self.planned(schedule);
        Reading {
            power_mw: read.mean(),
            readings: read.count(),
            planned_mw: planned.map(|planned| planned.mean_mw),
            peak_mw: planned.map(|planned| planned.peak_mw),
            busy_ns: planned.map_or(0, |planned| planned.busy_ns),
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

    /// The work since the last look. Of smaller batches than the assignment's, the one that draws the most.
    fn planned(&mut self, schedule: &Schedule) -> Option<Planned> {
        let busy = schedule.busy();
        let before = core::mem::replace(&mut self.busy_seen, busy);
        let index = self.guard.current().row;
        let plan = self.selector.plan();
        let row = plan.rows.get(index)?;
        let Assignment { serving, bulk, .. } = schedule.assignment();
        let power_mw = |cell: Option<&Cell>| cell.map_or(0, |cell| cell.power_mw.0);
        let infer =
            |workload: usize, batch: u16| power_mw(guard::infer_cell(plan, index, workload, batch));
        let full = serving.map_or(0, |serving| serving.batch);
        let smaller = plan
            .slots_infer(0)
            .filter(|(_, batch)| *batch < full)
            .map(|(slot, _)| power_mw(row.cell(slot)));
        let train = power_mw(plan.slot_train().and_then(|slot| row.cell(slot)));
        let (mut energy, mut busy_ns, mut peak_mw) = (0_u128, 0_u64, 0);
        for (power_mw, ns, seen_ns) in [
            (infer(0, full), busy.infer_ns, before.infer_ns),
            (
                smaller.max().unwrap_or(0),
                busy.partial_ns,
                before.partial_ns,
            ),
            (train, busy.train_ns, before.train_ns),
            (
                bulk.map_or(0, |bulk| infer(1, bulk.batch)),
                busy.bulk_ns,
                before.bulk_ns,
            ),
        ] {
            // A new schedule counts from zero.
            let spent_ns = ns.checked_sub(seen_ns).unwrap_or(ns);
            energy = energy.saturating_add(u128::from(spent_ns).saturating_mul(power_mw.into()));
            busy_ns = busy_ns.saturating_add(spent_ns);
            if spent_ns > 0 {
                peak_mw = power_mw.max(peak_mw);
            }
        }
        let mean = energy.checked_div(busy_ns.into())?;
        Some(Planned {
            mean_mw: MilliWatt(u32::try_from(mean).ok()?),
            peak_mw: MilliWatt(peak_mw),
            busy_ns,
        })
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

    /// A change that still waits for a gap at the next look, while a budget is violated, waits no longer.
    fn press(&mut self, now_ns: u64) {
        if let Some(wanted) = &mut self.wanted {
            let waited_ns = now_ns.saturating_sub(wanted.since_ns);
            wanted.urgent |= wanted.change.reason.is_urgent() && waited_ns >= guard::LOOK_NS;
        }
    }
}

impl<B: SetMode> Modes for Control<'_, B> {
    fn look(&mut self, now_ns: u64, schedule: &Schedule, requests: Requests) {
        let drifts = self.readings.drifts.load(Ordering::Relaxed);
        if drifts > self.drifts_seen && self.wanted.is_none() {
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
        if !self.guard.is_due(now_ns) {
            return;
        }
        let reading = self.read(schedule, requests);
        if let Some(change) = self.guard.step(now_ns, &self.selector, &reading) {
            self.want(now_ns, change);
        }
        self.press(now_ns);
        self.check_promise(schedule);
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
        self.drawn_seen = self.readings.drawn();
        if reason == Reason::Drift {
            self.guard.mended();
            self.say(Event::Mended);
            return None;
        }
        self.guard.done(now_ns, solution);
        self.broken_looks = 0;
        self.busy_seen = Busy::default();
        self.say(Event::Changed {
            reason,
            mode: solution.mode,
            batch: solution.serving.map_or(0, |serving| serving.batch),
            trains: solution.background.is_some(),
        });
        Some(self.duty.assignment(self.selector.plan(), &solution))
    }
}

#[cfg(test)]
mod tests;
