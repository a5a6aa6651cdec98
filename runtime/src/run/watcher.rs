//! The watcher: reads sensors, counts what they report, and looks for drift. Beside a loop it is a thread, so
//! that the loop need not wait for I2C; where a mode is only held, the holder asks it.

use crate::args::BoardOptions;
use crate::restore::discover;
use fulcrum_plan::PlanTable;
use fulcrum_plan::PowerMode;
use fulcrum_plan::units::MilliWatt;
use fulcrum_runtime::board::thermal::MilliCelsius;
use fulcrum_runtime::board::watch::{Reaction, Watch};
use fulcrum_runtime::board::{ApplyError, Drift, Jetson, NodeError};
use fulcrum_runtime::control::{Readings, SetMode};
use fulcrum_runtime::pin::Pin;
use fulcrum_runtime::serve::Clock;
use fulcrum_runtime::telemetry::Counter;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Time between two readings of power: one is off by 2 % (fulcrum.md, section 7), the mean of those between two
/// looks of the guard by less than half of that.
pub(crate) const EVERY: Duration = Duration::from_millis(100);
/// So many of them are between two readings of everything else: half a control period.
const READINGS_PER_LOOK: u32 = 5;
/// A zone this hot is close to throttling. An Orin throttles in software from 99 °C on (jetson.md 1.6).
const HOT: MilliCelsius = MilliCelsius(95_000);

/// What happened to the board during a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Over-current events.
    pub(crate) over_current_events: u64,
    /// Times that it became hot, or heat began to limit a clock.
    pub(crate) heat_events: u64,
    /// Looks that found other clocks than were set.
    pub(crate) drifts: u64,
}

/// Sensors at one instant; power is `None` where it is absent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sensed {
    pub(crate) power: Option<MilliWatt>,
    /// Since the mode was set.
    pub(crate) over_current_events: u64,
    pub(crate) hot: bool,
}

/// Between two readings.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    pub(crate) seen: Seen,
    watch: Watch,
    /// As the board counts them.
    over_current_events: Option<u64>,
    hot: bool,
    readings: u32,
    /// What is told once, and again after it was over.
    blind: bool,
    unreadable: bool,
    contested: bool,
}

impl Watcher {
    /// Counts over-current events from those of before the mode was set.
    pub(crate) fn new(over_current_before: Option<u64>) -> Self {
        Self {
            over_current_events: over_current_before,
            ..Self::default()
        }
    }

    /// Reads the sensors, and says once when power cannot be read any more.
    pub(crate) fn sense(&mut self, board: &Jetson) -> Sensed {
        if self.readings.is_multiple_of(READINGS_PER_LOOK) {
            self.sense_events(board);
        }
        self.readings = self.readings.wrapping_add(1);
        let sensed = Sensed {
            power: board.power(),
            over_current_events: self.seen.over_current_events,
            hot: self.hot,
        };
        let blind = sensed.power.is_none();
        if blind && !self.blind {
            let why = match board.rails().is_stale() {
                true => "its sensors repeat one value",
                false => "a rail is missing or cannot be read",
            };
            log::warn!("the board's power is not known ({why}): its budget is not watched");
        }
        self.blind = blind;
        sensed
    }

    fn sense_events(&mut self, board: &Jetson) {
        let events = board.over_current_events();
        if let (Some(before), Some(now)) = (self.over_current_events, events) {
            let more = now.saturating_sub(before);
            self.seen.over_current_events = self.seen.over_current_events.saturating_add(more);
        }
        self.over_current_events = events.or(self.over_current_events);
        let hot = board.temperature_max().is_some_and(|zone| zone >= HOT)
            || board.is_heat_limited() == Some(true);
        self.seen.heat_events += u64::from(hot && !self.hot);
        self.hot = hot;
    }

    /// Whether it is time to look for drift.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        self.watch.is_due(now_ns)
    }

    /// Takes note of a look for drift; tells whether the mode is to be set again.
    pub(crate) fn drifted(&mut self, now_ns: u64, look: Result<Drift, NodeError>) -> bool {
        let drift = match look {
            Ok(drift) => drift,
            Err(error) => {
                if !self.unreadable {
                    self.unreadable = true;
                    log::warn!("other programs' changes of clocks are not noticed: {error}");
                }
                return false;
            }
        };
        self.unreadable = false;
        let reaction = self.watch.observe(now_ns, drift);
        self.seen.drifts += u64::from(drift.any());
        if reaction == Reaction::Contested && !self.contested {
            log::warn!(
                "another program keeps changing the {drift} (nvpmodel, jetson_clocks?): left alone for \
                 now; stop it, or expect other times and powers than the plan's"
            );
        }
        self.contested = reaction == Reaction::Contested;
        reaction == Reaction::Reapply
    }
}

/// The board as the control sets it.
pub(crate) struct Setter<'a> {
    pub(crate) board: &'a mut Jetson,
    pub(crate) pin: Option<&'a Pin>,
    pub(crate) unpinned: &'a Counter,
}

impl SetMode for Setter<'_> {
    fn set_mode(&mut self, mode: &PowerMode) -> bool {
        // The error names a file and a number; it is told by what the board reads back.
        let applied: Result<_, ApplyError> = self.board.apply(mode);
        // The core may be gone, also after a failure.
        if self.pin.is_some_and(|pin| pin.follow().is_err()) {
            self.unpinned.add(1);
        }
        applied.is_ok()
    }
}

/// Reads until `done`, with files of its own: the loop's are never waited for.
pub(crate) fn watch(
    mut watcher: Watcher,
    options: &BoardOptions,
    plan: &PlanTable,
    readings: &Readings,
    clock: &impl Clock,
    done: &AtomicBool,
) -> Seen {
    let mut board = match discover(options) {
        Ok(board) => board,
        Err(_) => {
            log::warn!("the board's sensors cannot be opened again; it runs unwatched");
            return watcher.seen;
        }
    };
    while !done.load(Ordering::Relaxed) {
        let sensed = watcher.sense(&board);
        readings.set(sensed.power, sensed.over_current_events, sensed.hot);
        if watcher.is_due(clock.now_ns()) {
            look(&mut board, plan, readings, &mut watcher, clock.now_ns());
        }
        thread::park_timeout(EVERY);
    }
    watcher.seen
}

/// Compares the board with the row that is set; nothing while that changes.
fn look(
    board: &mut Jetson,
    plan: &PlanTable,
    readings: &Readings,
    watcher: &mut Watcher,
    now_ns: u64,
) {
    let Some((row, ticket)) = readings.row() else {
        return;
    };
    let Some(mode) = plan.rows.get(row).map(|row| row.mode) else {
        return;
    };
    let drift = board.verify(&mode);
    if readings.held(ticket) && watcher.drifted(now_ns, drift) {
        readings.drifted();
    }
}
