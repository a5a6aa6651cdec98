//! The reporter: a thread that says how the run goes, logs what the loop has to say, and confirms the plan.

use super::job::Job;
use fulcrum_plan::store::Store;
use fulcrum_runtime::control::Event;
use fulcrum_runtime::queue::Counts;
use heapless::spsc::Consumer;
use log::Level;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Distance of progress reports.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// A change of mode that fails is tried again at every look of the guard, and told so often.
const FAILED_EVERY: Duration = Duration::from_secs(60);
/// A plan on trial is confirmed once its loop has run this long, or when it ends before that and nothing failed.
pub(crate) const CONFIRM_AFTER: Duration = Duration::from_secs(2);

/// Reports every second, and confirms the plan once the loop has run for a while.
pub(crate) fn report_until(
    job: &Job<'_>,
    counts: Counts<'_>,
    events: &mut Consumer<'_, Event>,
    done: &AtomicBool,
) {
    let start = Instant::now();
    let mut next = REPORT_EVERY;
    let mut confirmed = false;
    let mut told = Told::default();
    while !done.load(Ordering::Relaxed) {
        thread::park_timeout(next.saturating_sub(start.elapsed()));
        if start.elapsed() < next {
            continue;
        }
        // What was missed while the process was stopped is not reported.
        next = (next + REPORT_EVERY).max(start.elapsed());
        tell_news(job, events, &mut told);
        job.report.progress(start.elapsed(), job.telemetry, counts);
        if !confirmed && start.elapsed() >= CONFIRM_AFTER {
            confirmed = true;
            confirm(job.store);
        }
    }
    tell_news(job, events, &mut told);
}

/// What was told up to now.
#[derive(Default)]
struct Told {
    /// Counts of the last time.
    counts: [u64; 3],
    /// When it was last told that a change of mode failed, if none went well since.
    failed: Option<Instant>,
}

/// Tells what the loop has to say since the last time.
fn tell_news(job: &Job<'_>, events: &mut Consumer<'_, Event>, told: &mut Told) {
    while let Some(event) = events.dequeue() {
        let failed = matches!(event, Event::Failed { .. });
        let again = told
            .failed
            .is_some_and(|told| told.elapsed() < FAILED_EVERY);
        if failed && again {
            continue;
        }
        told.failed = failed.then(Instant::now);
        log_event(job, &event);
    }
    let telemetry = job.telemetry;
    let counted = [
        (
            &telemetry.unpinned,
            Level::Warn,
            "--pin: the loop could not be put on a core after the mode changed",
        ),
        (
            &telemetry.training_stopped,
            Level::Error,
            "training failed repeatedly and was stopped; inference goes on",
        ),
        (
            &telemetry.bulk_stopped,
            Level::Error,
            "inference that is not urgent failed repeatedly and was stopped: its requests are rejected; the rest goes on",
        ),
    ];
    for ((counter, level, message), told) in counted.into_iter().zip(&mut told.counts) {
        let count = counter.get();
        if count > *told {
            *told = count;
            tell(job, level, message.to_owned());
        }
    }
}

/// Logs it, and remembers it for those who ask later.
pub(crate) fn tell(job: &Job<'_>, level: Level, message: String) {
    log::log!(level, "{message}");
    job.recent.push(job.start.elapsed(), message);
}

pub(crate) fn log_event(job: &Job<'_>, event: &Event) {
    match event {
        Event::Changed {
            reason,
            mode,
            batch,
            trains,
        } => {
            let training = if *trains { "on" } else { "off" };
            let message = format!("{reason}: now {mode}, batch {batch}, training {training}");
            let level = if reason.is_urgent() {
                Level::Warn
            } else {
                Level::Info
            };
            tell(job, level, message);
        }
        Event::Failed { reason } => {
            let message = format!("{reason}: the mode could not be changed; it is that of before");
            tell(job, Level::Error, message);
        }
        Event::Mended => {
            let message = "something else changed the clocks; they were set again";
            tell(job, Level::Warn, message.to_owned());
        }
        Event::PromiseBroken => {
            let message = "--train-share: in this mode a training step and a batch take longer than --latency-ms, so that \
                           training only gets gaps; make steps shorter (docs/loop.md)";
            tell(job, Level::Warn, message.to_owned());
        }
    }
}

/// Confirms the plan on trial.
pub(crate) fn confirm(store: Option<&Store>) {
    if let Some(store) = store
        && let Err(error) = store.confirm()
    {
        log::warn!("the plan could not be confirmed: {error}");
    }
}
