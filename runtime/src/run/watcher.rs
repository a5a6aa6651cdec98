//! The watcher: a thread that reads sensors and looks for drift, so that the loop need not wait for I2C.

use crate::args::BoardOptions;
use crate::restore::discover;
use fulcrum_plan::{PlanTable, PowerMode};
use fulcrum_runtime::board::thermal::MilliCelsius;
use fulcrum_runtime::board::watch::{Reaction, Watch};
use fulcrum_runtime::board::{ApplyError, Jetson};
use fulcrum_runtime::control::{Readings, SetMode};
use fulcrum_runtime::serve::Clock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Time between two readings: half a control period, so that the guard never waits longer than one for
/// what it needs to know.
const EVERY: Duration = Duration::from_millis(500);
/// A zone this hot is close to throttling. An Orin throttles in software from 99 °C on (jetson.md 1.6).
const HOT: MilliCelsius = MilliCelsius(95_000);

/// The board as the control sets it.
pub(crate) struct Setter<'a>(pub(crate) &'a mut Jetson);

impl SetMode for Setter<'_> {
    fn set_mode(&mut self, mode: &PowerMode) -> bool {
        // The error names a file and a number; it is told by what the board reads back.
        let applied: Result<_, ApplyError> = self.0.apply(mode);
        applied.is_ok()
    }
}

/// Reads until `done`, with files of its own: the loop's are never waited for.
pub(crate) fn watch(
    options: &BoardOptions,
    plan: &PlanTable,
    readings: &Readings,
    clock: &impl Clock,
    done: &AtomicBool,
) {
    let mut board = match discover(options) {
        Ok(board) => board,
        Err(_) => {
            log::warn!("the board's sensors cannot be opened again; it runs unwatched");
            return;
        }
    };
    let mut watch = Watch::default();
    let mut contested = false;
    while !done.load(Ordering::Relaxed) {
        let hot = board.temperature_max().is_some_and(|zone| zone.0 >= HOT.0);
        readings.set(board.power(), board.over_current_events(), hot);
        if watch.is_due(clock.now_ns()) {
            let reaction = look(&mut board, plan, readings, &mut watch, clock.now_ns());
            match reaction {
                Some(Reaction::Reapply) => readings.drifted(),
                Some(Reaction::Contested) if !contested => {
                    contested = true;
                    log::warn!(
                        "another program keeps changing the clocks (nvpmodel, jetson_clocks?): they are \
                         left alone; stop it, or expect other times and powers than the plan's"
                    );
                }
                _ => {}
            }
        }
        thread::park_timeout(EVERY);
    }
}

/// Compares the board with the row that is set; nothing while that changes.
fn look(
    board: &mut Jetson,
    plan: &PlanTable,
    readings: &Readings,
    watch: &mut Watch,
    now_ns: u64,
) -> Option<Reaction> {
    let (row, ticket) = readings.row()?;
    let mode = plan.rows.get(row)?.mode;
    let drift = board.verify(&mode).ok()?;
    readings.held(ticket).then(|| watch.observe(now_ns, drift))
}
