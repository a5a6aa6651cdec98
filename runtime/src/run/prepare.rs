//! Everything before the board is touched: board, plan and selection ([`super::choice`]), library, models, samples.

use super::choice::{check_masks, choose, problem, read_plan};
use crate::Failure;
use crate::args::{Judges, Run, Served};
use crate::restore::discover;
use fulcrum_plan::PlanTable;
use fulcrum_plan::durable::{check_replaceable, remove_leftovers};
use fulcrum_plan::select::{Problem, Solution};
use fulcrum_plan::store::Store;
use fulcrum_runtime::board::Jetson;
use fulcrum_runtime::checkpoint::{Every, Keeper, Keeping};
use fulcrum_runtime::data::{Batches, HeldOut, LabelKind, Records};
use fulcrum_runtime::engine::params::Progress;
use fulcrum_runtime::engine::{
    Engine, InferenceSession, Library, ModelError, ModelProblem, Parameters, Provider,
    SessionOptions, TrainingSession, library,
};
use fulcrum_runtime::models::Models;
use fulcrum_runtime::pin::Pin;
use fulcrum_runtime::queue::CAPACITY;
use fulcrum_runtime::realtime;
use fulcrum_runtime::socket::{self, Bound};
use fulcrum_runtime::status::http::Listener;
use fulcrum_runtime::telemetry::Counter;
use fulcrum_runtime::validation::{Labels, Validation};
use std::path::{Path, PathBuf};

/// A run that is ready to begin; nothing has been changed yet.
pub(crate) struct Prepared<'a> {
    pub(crate) board: Jetson,
    /// Where the plan is on trial, if it came from a folder.
    pub(crate) store: Option<Store>,
    /// With the batch sizes only that the model can run.
    pub(crate) plan: PlanTable,
    pub(crate) problem: Problem,
    pub(crate) solution: Solution,
    /// The library, and what it computes on.
    pub(crate) library: Option<(Library, Provider)>,
    /// `None`: the mode is held, and something else does the work.
    pub(crate) models: Option<Models<'a>>,
    /// Where requests of other processes come in, and those that are not urgent.
    pub(crate) listener: Option<Bound>,
    pub(crate) listener_bulk: Option<Bound>,
    /// Where the status is asked for.
    pub(crate) status: Option<Listener>,
    /// What keeps the loop on a core.
    pub(crate) pin: Option<Pin>,
}

/// Checks and loads everything that a run needs.
pub(crate) fn prepare<'a>(options: &Run, correct: &'a Counter) -> Result<Prepared<'a>, Failure> {
    let board = discover(&options.board)?;
    let identity = &board.identity().board;
    options.board.check(&identity.name)?;
    let (mut plan, store) = read_plan(&options.plan, identity)?;
    check_masks(options.other_masks, &plan, &board)?;
    let problem = problem(options, &plan)?;
    let mut solution = choose(options, &plan, problem)?;
    check_checkpoint(options)?;
    let (library, models) = if options.infer.is_some() || options.train.is_some() {
        let library = library::find(options.onnxruntime.as_deref()).map_err(Failure::trouble)?;
        let engine = Engine::start(&library).map_err(Failure::trouble)?;
        let mut engine = engine
            .on_first(&options.providers)
            .map_err(Failure::trouble)?;
        if let Some(mib) = options.engine_memory_mib {
            engine = engine.within(mib).map_err(Failure::trouble)?;
        }
        let models = load(options, &plan, &solution, &engine, correct)?;
        if problem != Problem::Training {
            keep_batches(&mut plan, 0, &models.inference);
            if options.bulk.is_some() {
                keep_batches(&mut plan, 1, &models.bulk);
                keep_rows_with(&mut plan, 1);
            }
            solution = choose(options, &plan, problem)?;
        }
        (Some((library, engine.provider())), Some(models))
    } else {
        (None, None)
    };
    if options.realtime {
        let refused = |error| Failure::trouble(format!("--realtime: {error}"));
        realtime::check().map_err(refused)?;
    }
    let pin = options.pin.then(Pin::new).transpose();
    let pin = pin.map_err(|error| Failure::trouble(format!("--pin: {error}")))?;
    // Last: a socket that is there says that somebody serves.
    let listen = |served: &Option<Served>| {
        let path = served.as_ref().and_then(|served| served.listen.as_deref());
        let listener = path.map(|path| {
            socket::listen(path)
                .map_err(|error| Failure::trouble(format!("--listen {}: {error}", path.display())))
        });
        listener.transpose()
    };
    let listener = listen(&options.infer)?;
    let listener_bulk = listen(&options.bulk)?;
    let status = options.status.as_ref().map(|address| {
        let refused = |error| Failure::trouble(format!("--status {address}: {error}"));
        address.listen().map_err(refused)
    });
    Ok(Prepared {
        board,
        store,
        plan,
        problem,
        solution,
        library,
        models,
        listener,
        listener_bulk,
        status: status.transpose()?,
        pin,
    })
}

/// Whether what is trained can be kept: to be known before hours of training.
fn check_checkpoint(options: &Run) -> Result<(), Failure> {
    let Some(path) = &options.checkpoint else {
        return Ok(());
    };
    let served = options.validate.as_ref().map(|_| served_beside(path));
    for path in std::iter::once(path).chain(&served) {
        check_replaceable(path).map_err(|error| {
            Failure::trouble(format!(
                "--checkpoint {}: {error}; it has to be in a folder that can be written",
                path.display()
            ))
        })?;
    }
    Ok(())
}

/// Drops the batch sizes that no session runs, and the modes that are then of no use.
fn keep_batches(plan: &mut PlanTable, workload: usize, sessions: &[InferenceSession]) {
    let runs = |batch: u16| {
        let mut sessions = sessions.iter();
        sessions.any(|session| session.batch() == u32::from(batch))
    };
    let dropped: Vec<usize> = plan
        .slots_infer(workload)
        .filter(|(_, batch)| !runs(*batch))
        .map(|(slot, _)| slot)
        .collect();
    for row in &mut plan.rows {
        let cells = row.cells.iter().enumerate();
        row.cells = cells
            .filter(|(slot, _)| !dropped.contains(slot))
            .map(|(_, cell)| *cell)
            .collect();
    }
    if let Some(workload) = plan.infer.get_mut(workload) {
        workload.batches.retain(|batch| runs(*batch));
    }
    // Rows of a plan have a cell and are sorted by their smallest power.
    plan.rows.retain(|row| row.power_min().is_some());
    plan.rows
        .sort_unstable_by_key(|row| (row.power_min(), row.mode));
}

/// Leaves out the modes that were not measured with an inference workload: its requests would wait in
/// them for good.
fn keep_rows_with(plan: &mut PlanTable, workload: usize) {
    let slots: Vec<usize> = plan.slots_infer(workload).map(|(slot, _)| slot).collect();
    plan.rows.retain(|row| {
        let mut cells = slots.iter().filter_map(|&slot| row.cells.get(slot));
        cells.any(Option::is_some)
    });
}

/// Loads and warms up the models, and checks that samples, models and plan fit each other.
fn load<'a>(
    options: &Run,
    plan: &PlanTable,
    solution: &Solution,
    engine: &Engine,
    correct: &'a Counter,
) -> Result<Models<'a>, Failure> {
    let data = options.data.as_deref().unwrap_or(Path::new(""));
    let open = |path: &Path| Records::open(path).map_err(Failure::trouble);
    let records = open(data)?;
    let (held_out, train_count) = match &options.held_out {
        Some(path) => (HeldOut::all(open(path)?), records.count()),
        None => {
            let held_out = HeldOut::last_fifth(open(data)?);
            let first = held_out.first();
            (held_out, first)
        }
    };
    let (judges, train_count) = judges(options, train_count)?;
    let mut batches = Batches::of_first(records, train_count, options.seed);
    let mut steps = 0;
    let (training, mut parameters) = match &options.train {
        None => (None, None),
        Some(step) => {
            let (session, mut parameters) = training(options, plan, engine, step)?;
            steps = resume(options, &session, &mut parameters, &mut batches)?;
            let (targets, records) = (LabelKind::of_target(session.target()), batches.records());
            records
                .expect_elements(session.sample_len(), data)
                .and_then(|()| records.expect_labels(targets, data))
                .and_then(|()| records.expect_classes(session.classes(), data))
                .map_err(Failure::trouble)?;
            (Some(session), Some(parameters))
        }
    };
    let mut served = None;
    let mut inference = Vec::new();
    if let (Some(Served { model, .. }), Some(serving)) = (&options.infer, solution.serving) {
        if let (Some(_), Some(parameters)) = (&judges, &parameters) {
            served = Some(serve_checked(options, engine, model, parameters)?);
        }
        let sizes = batch_sizes(plan, serving.batch)?;
        let read = served.as_ref().or(parameters.as_ref());
        let (sessions, trained) = sessions(options, engine, model, &sizes, read)?;
        let path = options.held_out.as_deref().unwrap_or(data);
        for session in &sessions {
            held_out
                .expect_elements(session.sample_len(), path)
                .map_err(Failure::trouble)?;
        }
        inference = sessions;
        parameters = parameters.or(trained);
    }
    let keeping = match (&options.checkpoint, &training, &parameters) {
        (Some(path), Some(_), Some(parameters)) => {
            let keeper = Keeper::new(path, options.checkpoint_every, parameters);
            Some(Keeping::new(keeper, steps))
        }
        _ => None,
    };
    let validation = validation(
        options,
        judges,
        &training,
        &mut inference,
        &served,
        &batches,
        steps,
    )?;
    let keeping_served = served.as_ref().zip(options.checkpoint.as_deref());
    let keeping_served = keeping_served.map(|(served, path)| {
        // Each acceptance is one to keep.
        Keeping::new(
            Keeper::new(&served_beside(path), Every::Steps(1), served),
            0,
        )
    });
    let bulk = bulk(options, plan, engine, parameters.as_ref())?;
    // Clients bring samples of their own.
    let served_bulk = options.bulk.as_ref();
    let plays = served_bulk.is_some_and(|served| served.listen.is_none());
    for session in bulk.iter().filter(|_| plays) {
        let path = options.held_out.as_deref().unwrap_or(data);
        held_out
            .expect_elements(session.sample_len(), path)
            .map_err(Failure::trouble)?;
    }
    Ok(Models {
        inference,
        bulk,
        training,
        parameters,
        served,
        validation,
        keeping_served,
        steps,
        keeping,
        batches,
        held_out,
        correct,
    })
}

/// The samples that judge trained weights, and how many are left to train on.
fn judges(options: &Run, train_count: u32) -> Result<(Option<HeldOut>, u32), Failure> {
    let open = |path: &Path| Records::open(path).map_err(Failure::trouble);
    Ok(match options.validate.as_ref().map(|asked| &asked.judges) {
        None => (None, train_count),
        Some(Judges::File(path)) => (Some(HeldOut::all(open(path)?)), train_count),
        Some(Judges::Share(share)) => {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a count is one"
            )]
            let count = ((f64::from(train_count) * share) as u32).max(1);
            let data = options.data.as_deref().unwrap_or(Path::new(""));
            let judges = HeldOut::last_of(open(data)?, train_count, count);
            let first = judges.first();
            (Some(judges), first)
        }
    })
}

/// Where the weights that passed their check are kept.
pub(crate) fn served_beside(checkpoint: &Path) -> PathBuf {
    let mut path = checkpoint.as_os_str().to_owned();
    path.push(".served");
    path.into()
}

/// The weights that inference begins with, where trained ones are checked first: those that passed the last
/// check of an earlier run, or the training's.
fn serve_checked(
    options: &Run,
    engine: &Engine,
    model: &Path,
    parameters: &Parameters,
) -> Result<Parameters, Failure> {
    let session_options = SessionOptions {
        batch: None,
        intra_op_threads: options.intra_op_threads,
    };
    let names = InferenceSession::parameter_names(engine, model, session_options);
    let names = names.map_err(Failure::trouble)?;
    let mut served = parameters.twin(&names).map_err(Failure::trouble)?;
    if let Some(path) = options.checkpoint.as_deref().map(served_beside) {
        remove_leftovers(&path);
        if path.exists() {
            served.restore(&path, None).map_err(Failure::trouble)?;
            log::info!(
                "{}: these weights serve until others are no worse",
                path.display()
            );
        }
    }
    Ok(served)
}

/// The check of trained weights, after one of those that serve.
fn validation(
    options: &Run,
    judges: Option<HeldOut>,
    training: &Option<TrainingSession>,
    inference: &mut [InferenceSession],
    served: &Option<Parameters>,
    batches: &Batches,
    steps: u64,
) -> Result<Option<Validation>, Failure> {
    let (Some(judges), Some(asked), Some(training)) = (judges, &options.validate, training) else {
        return Ok(None);
    };
    let (Some(inference), Some(served)) = (inference.first_mut(), served) else {
        return Ok(None);
    };
    let path = match &asked.judges {
        Judges::File(path) => path.as_path(),
        Judges::Share(_) => options.data.as_deref().unwrap_or(Path::new("")),
    };
    let kind = LabelKind::of_target(training.target());
    judges
        .expect_elements(inference.sample_len(), path)
        .and_then(|()| judges.records().expect_labels(kind, path))
        .and_then(|()| judges.records().expect_classes(training.classes(), path))
        .map_err(Failure::trouble)?;
    let epoch = u64::from(batches.count()).div_ceil(u64::from(training.batch().max(1)));
    let when = (asked.every_steps.unwrap_or(epoch), steps);
    let labels = match kind {
        LabelKind::Class(_) => Labels::Classes,
        LabelKind::Values(_) => Labels::Values,
        LabelKind::Classes(_) => {
            return Err(Failure::trouble(
                "--validate: a step with several classes per sample is not judged; leave it out",
            ));
        }
    };
    Validation::new(judges, labels, when, inference, served)
        .map(Some)
        .map_err(Failure::trouble)
}

/// Sessions of the model that is not urgent, by ascending batch.
fn bulk(
    options: &Run,
    plan: &PlanTable,
    engine: &Engine,
    parameters: Option<&Parameters>,
) -> Result<Vec<InferenceSession>, Failure> {
    let Some(Served { model, .. }) = &options.bulk else {
        return Ok(Vec::new());
    };
    let batches = plan.slots_infer(1).map(|(_, batch)| batch);
    let batches: Vec<u16> = batches
        .filter(|batch| usize::from(*batch) <= CAPACITY)
        .collect();
    let (sessions, _) = sessions(options, engine, model, &batches, parameters)?;
    Ok(sessions)
}

/// The batch sizes to load: the selected one first.
fn batch_sizes(plan: &PlanTable, selected: u16) -> Result<Vec<u16>, Failure> {
    if usize::from(selected) > CAPACITY {
        return Err(Failure::no(format!(
            "the plan's batch of {selected} is larger than the queue of {CAPACITY} requests"
        )));
    }
    let others = plan.slots_infer(0).map(|(_, batch)| batch);
    let others = others.filter(|batch| *batch != selected && usize::from(*batch) <= CAPACITY);
    Ok(std::iter::once(selected).chain(others).collect())
}

/// Inference sessions by ascending batch: the first one given has to load, the others if the model's batch
/// is not fixed. Also parameters, where an earlier run's are served.
fn sessions(
    options: &Run,
    engine: &Engine,
    model: &Path,
    batches: &[u16],
    parameters: Option<&Parameters>,
) -> Result<(Vec<InferenceSession>, Option<Parameters>), Failure> {
    let mut sessions: Vec<InferenceSession> = Vec::new();
    let mut trained = None;
    for &batch in batches {
        let session_options = SessionOptions {
            batch: Some(batch.into()),
            intra_op_threads: options.intra_op_threads,
        };
        let loaded = match (&options.checkpoint, &options.train, &trained) {
            // Inference alone, with parameters that a run before this one trained.
            (Some(file), None, None) => {
                InferenceSession::load_with_file(engine, model, session_options, file).map(
                    |(session, parameters)| {
                        trained = Some(parameters);
                        session
                    },
                )
            }
            (_, _, trained) => {
                let parameters = trained.as_ref().or(parameters);
                InferenceSession::load(engine, model, session_options, parameters)
            }
        };
        match loaded {
            Ok(session) => sessions.push(session),
            Err(error) if sessions.is_empty() => return Err(refused(options, &error)),
            Err(error) if matches!(error.problem, ModelProblem::Shape { .. }) => {
                log::info!(
                    "the model's batch is fixed: only batches of {} are served",
                    batches[0]
                );
                break;
            }
            Err(error) => log::warn!("batches of {batch} are not served: {error}"),
        }
    }
    sessions.sort_unstable_by_key(InferenceSession::batch);
    Ok((sessions, trained))
}

/// What ONNX Runtime did not load or run.
fn refused(options: &Run, error: &ModelError) -> Failure {
    let by_runtime = matches!(
        error.problem,
        ModelProblem::Load { .. } | ModelProblem::WarmUp { .. }
    );
    match options.engine_memory_mib {
        Some(mib) if by_runtime => Failure::trouble(format!(
            "{error}; --engine-memory-mib {mib} may be too little"
        )),
        _ => Failure::trouble(error),
    }
}

/// Loads the training step with its initial parameters.
fn training(
    options: &Run,
    plan: &PlanTable,
    engine: &Engine,
    step: &Path,
) -> Result<(TrainingSession, Parameters), Failure> {
    let session_options = SessionOptions {
        batch: None,
        intra_op_threads: options.intra_op_threads,
    };
    let loaded = TrainingSession::load(engine, step, session_options);
    let (mut session, parameters) = loaded.map_err(|error| refused(options, &error))?;
    session.set_learning_rate(options.learning_rate);
    let planned = plan.train.as_ref().and_then(|train| train.batches.first());
    if let Some(&planned) = planned
        && u32::from(planned) != session.batch()
    {
        log::warn!(
            "{}: a step takes {} samples, the plan was measured with {planned}; its times are a start only",
            step.display(),
            session.batch()
        );
    }
    Ok((session, parameters))
}

/// Goes on from the checkpoint, if there is one; returns the steps done before.
fn resume(
    options: &Run,
    session: &TrainingSession,
    parameters: &mut Parameters,
    batches: &mut Batches,
) -> Result<u64, Failure> {
    let Some(path) = &options.checkpoint else {
        return Ok(0);
    };
    remove_leftovers(path);
    if !path.exists() {
        return Ok(0);
    }
    let restored = parameters.restore(path, Some(session.sha256()));
    let Some(progress) = restored.map_err(Failure::trouble)? else {
        log::warn!(
            "{}: has parameters and no progress; training begins with them at step 0",
            path.display()
        );
        return Ok(0);
    };
    let Progress { steps, place, .. } = progress;
    if (progress.samples, progress.data) == (batches.count(), batches.checksum()) {
        batches.resume(place);
        log::info!(
            "{}: training goes on after step {steps}, in epoch {} with seed {}",
            path.display(),
            place.epoch,
            place.seed
        );
    } else {
        log::warn!(
            "{}: training goes on after step {steps}; the samples are others than before, their order \
             begins anew",
            path.display()
        );
    }
    Ok(steps)
}
