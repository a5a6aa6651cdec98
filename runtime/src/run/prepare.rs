//! Everything before the board is touched: board, plan, selection, library, models, samples.

use crate::Failure;
use crate::args::{PlanSource, Run, Service};
use crate::restore::discover;
use fulcrum_plan::durable::read_limited;
use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, Solution, select};
use fulcrum_plan::store::{Store, StoreError};
use fulcrum_plan::units::{MicroSec, MilliRps};
use fulcrum_plan::wire::{self, DecodeError};
use fulcrum_plan::{Board, PlanTable};
use fulcrum_runtime::board::Jetson;
use fulcrum_runtime::data::{Batches, Records};
use fulcrum_runtime::engine::{
    Engine, InferenceSession, Library, Parameters, SessionOptions, TrainingSession, library,
};
use fulcrum_runtime::models::{HeldOut, Models};
use fulcrum_runtime::queue::CAPACITY;
use fulcrum_runtime::schedule::{Assignment, Serving};
use fulcrum_runtime::telemetry::Counter;
use std::path::Path;

/// A run that is ready to begin; nothing has been changed yet.
pub(crate) struct Prepared<'a> {
    pub(crate) board: Jetson,
    /// Where the plan is on trial, if it came from a folder.
    pub(crate) store: Option<Store>,
    pub(crate) plan: PlanTable,
    pub(crate) solution: Solution,
    pub(crate) library: Option<Library>,
    /// `None`: the mode is held, and something else does the work.
    pub(crate) workload: Option<Workload<'a>>,
}

/// What the loop does.
pub(crate) struct Workload<'a> {
    pub(crate) models: Models<'a>,
    pub(crate) assignment: Assignment,
}

/// Checks and loads everything that a run needs.
pub(crate) fn prepare<'a>(options: &Run, correct: &'a Counter) -> Result<Prepared<'a>, Failure> {
    let board = discover(&options.board)?;
    let identity = &board.identity().board;
    options.board.check(&identity.name)?;
    let (plan, store) = read_plan(&options.plan, identity)?;
    let solution = choose(options, &plan)?;
    let (library, workload) = if options.infer.is_some() || options.train.is_some() {
        let library = library::find(options.onnxruntime.as_deref()).map_err(Failure::trouble)?;
        let engine = Engine::start(&library).map_err(Failure::trouble)?;
        let models = load(options, &plan, &solution, &engine, correct)?;
        let assignment = assignment(options, &solution);
        (Some(library), Some(Workload { models, assignment }))
    } else {
        (None, None)
    };
    Ok(Prepared {
        board,
        store,
        plan,
        solution,
        library,
        workload,
    })
}

/// Reads the plan for this very board. A folder's trial does not begin yet.
fn read_plan(source: &PlanSource, board: &Board) -> Result<(PlanTable, Option<Store>), Failure> {
    let boards = std::slice::from_ref(board);
    match source {
        PlanSource::File(path) => {
            let in_file = |reason: &dyn std::fmt::Display| format!("{}: {reason}", path.display());
            let bytes = read_limited(path, wire::LEN_MAX)
                .map_err(|error| Failure::trouble(in_file(&error)))?;
            let plan = wire::decode(&bytes, boards)
                .map_err(|error| Failure::no(in_file(&for_this(board, &error))))?;
            Ok((plan, None))
        }
        PlanSource::Folder(folder) => {
            let store = Store::new(folder);
            let (plan, _) = store.peek(boards).map_err(|error| match error {
                StoreError::Plan(path, error) => {
                    Failure::no(format!("{}: {}", path.display(), for_this(board, &error)))
                }
                StoreError::Empty(_) | StoreError::Io(..) => Failure::trouble(error),
                other => Failure::no(other),
            })?;
            Ok((plan, Some(store)))
        }
    }
}

/// The reason with this board's name where it matters.
fn for_this(board: &Board, error: &DecodeError) -> String {
    match error {
        DecodeError::Board(_) => format!("{error}, this board is `{}`", board.name),
        _ => error.to_string(),
    }
}

/// The best row of the plan for what is asked.
fn choose(options: &Run, plan: &PlanTable) -> Result<Solution, Failure> {
    let trains = match (&options.infer, &options.train) {
        (None, None) => plan.train.is_some(),
        (_, train) => train.is_some(),
    };
    let problem = match (options.service.is_some(), trains) {
        (false, _) => Problem::Training,
        (true, true) => Problem::TrainingInference(0),
        (true, false) => Problem::Inference(0),
    };
    if trains && plan.train.is_none() {
        return Err(Failure::no("the plan has no training workload"));
    }
    if options.service.is_some() && plan.infer.is_empty() {
        return Err(Failure::no("the plan has no inference workload"));
    }
    let service = options.service;
    let demand = Demand {
        power_mw: options.power_mw,
        latency_us: service.map_or(MicroSec(u32::MAX), |service| service.latency_us),
        rate: service.map_or(MilliRps(0), |service| service.rate),
    };
    select(plan, problem, &demand).ok_or_else(|| {
        let asked = match service {
            Some(Service { latency_us, rate }) => {
                format!("{}, {latency_us} at {rate}", options.power_mw)
            }
            None => options.power_mw.to_string(),
        };
        Failure::no(format!(
            "no solution: no mode of the plan was observed to fit {asked}; raise --power or \
             --latency-ms, or plan with more modes (`fulcrum show` lists them)"
        ))
    })
}

const fn nanoseconds(time_us: MicroSec) -> u64 {
    time_us.0 as u64 * 1000
}

/// What the scheduler is told of the answer.
fn assignment(options: &Run, solution: &Solution) -> Assignment {
    let serving = solution.serving.zip(options.service);
    Assignment {
        serving: serving
            .filter(|_| options.infer.is_some())
            .map(|(serving, service)| Serving {
                batch: serving.batch,
                infer_ns: nanoseconds(serving.time_us),
                budget_ns: nanoseconds(service.latency_us),
            }),
        train_ns: solution
            .background
            .filter(|_| options.train.is_some())
            .map(|background| nanoseconds(background.time_us)),
        overload: options.overload,
    }
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
    let (training, mut parameters) = match &options.train {
        None => (None, None),
        Some(step) => {
            let (mut session, parameters) = training(options, plan, engine, step)?;
            let elements = session.x_mut().len() / session.batch().max(1) as usize;
            records
                .expect_elements(elements, data)
                .map_err(Failure::trouble)?;
            (Some(session), Some(parameters))
        }
    };
    let inference = match (&options.infer, solution.serving) {
        (Some(model), Some(serving)) => {
            if usize::from(serving.batch) > CAPACITY {
                return Err(Failure::no(format!(
                    "the plan's batch of {} is larger than the queue of {CAPACITY} requests",
                    serving.batch
                )));
            }
            let session_options = SessionOptions {
                batch: Some(serving.batch.into()),
                intra_op_threads: options.intra_op_threads,
            };
            let session = match (&options.checkpoint, &options.train) {
                // Inference alone, with parameters that a run before this one trained.
                (Some(file), None) => {
                    let loaded =
                        InferenceSession::load_with_file(engine, model, session_options, file);
                    let (session, trained) = loaded.map_err(Failure::trouble)?;
                    parameters = Some(trained);
                    session
                }
                _ => InferenceSession::load(engine, model, session_options, parameters.as_ref())
                    .map_err(Failure::trouble)?,
            };
            let path = options.held_out.as_deref().unwrap_or(data);
            held_out
                .expect_elements(session.sample_len(), path)
                .map_err(Failure::trouble)?;
            Some(session)
        }
        _ => None,
    };
    Ok(Models {
        inference,
        training,
        parameters,
        batches: Batches::of_first(records, train_count, options.seed),
        held_out,
        correct,
    })
}

/// Loads the training step, and the parameters that an earlier run left.
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
    let (mut session, mut parameters) = loaded.map_err(Failure::trouble)?;
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
    if let Some(path) = options.checkpoint.as_deref().filter(|path| path.exists()) {
        parameters.restore(path).map_err(Failure::trouble)?;
        log::info!("{}: training goes on from here", path.display());
    }
    Ok((session, parameters))
}
