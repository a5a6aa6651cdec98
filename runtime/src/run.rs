//! `fulcrumd run`: everything that can fail is tried before the board is touched; then the mode is
//! applied, the loop runs, and the board gets its clocks back, whatever ended the loop.

mod choice;
mod hold;
mod job;
mod outcome;
mod pages;
mod prepare;
mod report;
mod reporter;
mod threads;
mod watcher;

use crate::Failure;
use crate::args::Run;
use fulcrum_runtime::engine::params::Progress;
use fulcrum_runtime::engine::residency;
use fulcrum_runtime::models::Models;
use fulcrum_runtime::notify::Notifier;
use fulcrum_runtime::status::Recent;
use fulcrum_runtime::telemetry::{Counter, Telemetry};
use fulcrum_runtime::validation::Labels;
use prepare::Prepared;
use report::{Checks, Report, Summary};
use std::time::Instant;

/// Runs until a signal, the end of the duration, or an engine that fails for good.
pub(crate) fn run(options: &Run) -> Result<(), Failure> {
    let stop = fulcrum_runtime::signal::install().map_err(Failure::trouble)?;
    let mut notifier = Notifier::from_environment().unwrap_or_else(|error| {
        log::warn!("{error}");
        Notifier::default()
    });
    let correct = Counter::default();
    let mut prepared = prepare::prepare(options, &correct)?;
    let accuracy_before = accuracy(&mut prepared)?;
    let report = Report::new(options, &prepared);
    let over_current_before = apply(&mut prepared)?;
    notifier.ready();
    // From here on the board is changed: `Jetson` puts its clocks back when it is dropped, so also when
    // something panics.
    report.started();
    if let Err(refused) = residency::keep() {
        log::warn!("{refused}");
    }
    let telemetry = Telemetry::default();
    let job = job::Job {
        options,
        plan: &prepared.plan,
        problem: prepared.problem,
        solution: prepared.solution,
        bulk: options.bulk.is_some(),
        store: prepared.store.as_ref(),
        report: &report,
        telemetry: &telemetry,
        recent: &Recent::default(),
        start: Instant::now(),
        pin: prepared.pin.as_ref(),
        over_current_before,
        stop,
    };
    let doors = threads::Doors {
        requests: prepared.listener.take(),
        requests_bulk: prepared.listener_bulk.take(),
        status: prepared.status.take(),
    };
    let board = &mut prepared.board;
    let outcome = match prepared.models.take() {
        Some(models) => {
            let (outcome, models) = threads::work(&job, doors, board, models, &mut notifier)
                .map_err(Failure::trouble)?;
            prepared.models = Some(models);
            outcome
        }
        None => hold::hold(&job, doors.status, board, &mut notifier),
    };
    notifier.stopping();
    let restored = prepared.board.restore();
    if let Some(error) = restored.as_ref().err() {
        log::error!("{error}; `fulcrumd restore` tries again");
    }
    if outcome.failure.is_none() && restored.is_ok() {
        // Also of a run too short for the reporter: an orderly end is no reason to go back to the plan before.
        reporter::confirm(prepared.store.as_ref());
    }
    let saved = checkpoint(options, &prepared);
    let summary = Summary {
        telemetry: &telemetry,
        correct: correct.get(),
        outcome: &outcome,
        steps_total: progress(&prepared).map(|progress| progress.steps),
        checks: checks(&prepared),
        accuracy_before,
        accuracy_after: accuracy(&mut prepared)?,
        restored: restored.is_ok(),
    };
    report.summary(&summary);
    saved?;
    restored.map_err(Failure::trouble)?;
    match outcome.failure {
        Some(error) => Err(Failure::trouble(format!(
            "inference failed {} times in a row: {error}",
            fulcrum_runtime::serve::FAILURES_MAX
        ))),
        None => Ok(()),
    }
}

fn accuracy(prepared: &mut Prepared<'_>) -> Result<Option<f64>, Failure> {
    let accuracy = prepared.models.as_mut().map(Models::accuracy);
    Ok(accuracy.transpose().map_err(Failure::trouble)?.flatten())
}

/// Takes the board, then the plan on trial, and sets the mode. Returns how many over-current events were counted before.
fn apply(prepared: &mut Prepared<'_>) -> Result<Option<u64>, Failure> {
    let board = &mut prepared.board;
    if board.recover().map_err(Failure::trouble)? {
        log::warn!("a process before this one was killed: its clocks were put back first");
    }
    // A board that another process has is no fault of the plan.
    board.take().map_err(Failure::trouble)?;
    if let Some(store) = &prepared.store {
        let boards = std::slice::from_ref(&board.identity().board);
        store.start(boards).map_err(Failure::trouble)?;
    }
    let over_current_before = board.over_current_events();
    let applied = board.apply(&prepared.solution.mode);
    let applied = applied.map_err(Failure::trouble)?;
    log::info!("mode applied: {}", applied.effective);
    Ok(over_current_before)
}

/// Where training stands.
fn progress(prepared: &Prepared<'_>) -> Option<Progress> {
    prepared.models.as_ref().and_then(Models::progress)
}

/// What became of trained weights, where they are checked before they serve.
fn checks(prepared: &Prepared<'_>) -> Option<Checks> {
    let models = prepared.models.as_ref()?;
    let validation = models.validation.as_ref()?;
    let (swaps, served) = (validation.swaps(), validation.served());
    Some(Checks {
        accepted: swaps.accepted.get(),
        refused: swaps.refused.get(),
        score: match validation.labels() {
            Labels::Classes => ("validated_accuracy", served.accuracy()),
            Labels::Values => ("validated_squared_error", served.mean_squared_error()),
        },
    })
}

/// Writes the last checkpoint, and the weights that serve if they are others, if asked to.
fn checkpoint(options: &Run, prepared: &Prepared<'_>) -> Result<(), Failure> {
    let (Some(path), Some(models)) = (&options.checkpoint, &prepared.models) else {
        return Ok(());
    };
    if let (Some(progress), Some(parameters)) = (models.progress(), &models.parameters) {
        let saved = parameters.save(path, Some(&progress));
        saved.map_err(Failure::trouble)?;
    }
    if let Some(served) = &models.served {
        let saved = served.save(&prepare::served_beside(path), None);
        saved.map_err(Failure::trouble)?;
    }
    Ok(())
}
