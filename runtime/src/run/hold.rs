//! A mode that is only held: other programs do the work, and the board is guarded all the same.

use super::choice::demand;
use super::job::Job;
use super::outcome::Outcome;
use super::pages::Pages;
use super::reporter::{CONFIRM_AFTER, confirm, log_event, tell};
use super::threads::{Monotonic, WAIT_MAX, hand_out};
use super::watcher::{EVERY, Sensed, Watcher};
use fulcrum_plan::PowerMode;
use fulcrum_plan::select::Selector;
use fulcrum_plan::units::MilliRps;
use fulcrum_runtime::board::Jetson;
use fulcrum_runtime::control::{Drawn, Event, Readings};
use fulcrum_runtime::guard::{Change, Guard, Reading, Reason};
use fulcrum_runtime::notify::Notifier;
use fulcrum_runtime::serve::Clock;
use fulcrum_runtime::status::http::Listener;
use log::Level;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

/// Holds the mode until a signal or the end of the duration: sets it again when something else changed it,
/// and goes to another row of the plan when power, over-current or heat demand it.
pub(crate) fn hold(
    job: &Job<'_>,
    status: Option<Listener>,
    board: &mut Jetson,
    notifier: &mut Notifier,
) -> Outcome {
    let readings = Readings::new(job.solution.row);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        if let Some(listener) = &status {
            scope.spawn(|| hand_out(listener, Pages::new(job, None, None, &readings), &done));
        }
        let outcome = hold_until(job, &readings, board, notifier);
        done.store(true, Ordering::Relaxed);
        outcome
    })
}

fn hold_until(
    job: &Job<'_>,
    readings: &Readings,
    board: &mut Jetson,
    notifier: &mut Notifier,
) -> Outcome {
    let clock = Monotonic::start();
    let elapsed = || Duration::from_nanos(clock.now_ns());
    let mut holder = Holder {
        board,
        guard: Guard::new(job.problem, demand(job.options), job.solution, 0),
        selector: Selector::new(job.plan),
        watcher: Watcher::new(job.over_current_before),
        drawn: readings.drawn(),
        readings,
    };
    let mut confirmed = false;
    let mut next = Duration::ZERO;
    while !job.stop.load(Ordering::Relaxed) && job.options.duration.is_none_or(|d| elapsed() < d) {
        if !confirmed && elapsed() >= CONFIRM_AFTER {
            confirmed = true;
            confirm(job.store);
        }
        notifier.alive(clock.now_ns());
        if elapsed() >= next {
            next = elapsed() + EVERY;
            holder.look(job, clock.now_ns());
        }
        thread::sleep(WAIT_MAX);
    }
    Outcome {
        elapsed: elapsed(),
        seen: holder.watcher.seen,
        ..Outcome::default()
    }
}

struct Holder<'a> {
    board: &'a mut Jetson,
    guard: Guard,
    selector: Selector<'a>,
    watcher: Watcher,
    readings: &'a Readings,
    /// What was read up to the last look.
    drawn: Drawn,
}

impl Holder<'_> {
    fn look(&mut self, job: &Job<'_>, now_ns: u64) {
        let before = self.watcher.seen;
        let sensed = self.watcher.sense(self.board);
        self.readings
            .set(sensed.power, sensed.over_current_events, sensed.hot);
        let over_current = self.watcher.seen.over_current_events > before.over_current_events;
        if self.guard.is_due(now_ns) || over_current {
            let reading = self.reading(&sensed, over_current, demand(job.options).rate, now_ns);
            if let Some(change) = self.guard.step(now_ns, &self.selector, &reading) {
                self.change(job, now_ns, change);
            }
        }
        if self.watcher.is_due(now_ns) {
            let mode = self.guard.current().mode;
            let drift = self.board.verify(&mode);
            if self.watcher.drifted(now_ns, drift) && self.set(&mode, Reason::Drift) {
                log_event(job, &Event::Mended);
            }
        }
    }

    /// What the guard is told. Whoever does the work tells nothing of it: as many requests are taken to come as
    /// were asked for, and all to be answered in time; and as much to be drawn as the plan says.
    fn reading(
        &mut self,
        sensed: &Sensed,
        over_current: bool,
        rate: MilliRps,
        now_ns: u64,
    ) -> Reading {
        let arrived = u128::from(rate.0) * u128::from(now_ns) / 1_000_000_000_000;
        let read = self.readings.drawn_since(&mut self.drawn);
        Reading {
            power_mw: read.mean(),
            readings: read.count(),
            planned_mw: Some(self.guard.current().power_mw),
            peak_mw: Some(self.guard.current().power_mw),
            busy_ns: 0,
            over_current,
            hot: sensed.hot,
            arrived: u64::try_from(arrived).unwrap_or(u64::MAX),
            missed: 0,
            slowdown_per_mille: None,
        }
    }

    fn change(&mut self, job: &Job<'_>, now_ns: u64, Change { solution, reason }: Change) {
        let same_mode = solution.mode == self.guard.current().mode;
        if same_mode || self.set(&solution.mode, reason) {
            self.guard.done(now_ns, solution);
            self.drawn = self.readings.drawn();
            self.readings.set_row(solution.row);
            tell(job, Level::Warn, format!("{reason}: now {}", solution.mode));
        }
    }

    fn set(&mut self, mode: &PowerMode, reason: Reason) -> bool {
        let applied = self.board.apply(mode);
        if let Err(error) = &applied {
            log::error!("{reason}: {error}");
        }
        applied.is_ok()
    }
}
