//! The plan of a run, and what is chosen from it.

use crate::Failure;
use crate::args::{OtherMasks, PlanSource, Run, Service};
use fulcrum_plan::durable::read_limited;
use fulcrum_plan::masks::OtherMask;
use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, Solution, select};
use fulcrum_plan::store::{Store, StoreError};
use fulcrum_plan::units::{MicroSec, MilliRps};
use fulcrum_plan::wire::{self, DecodeError};
use fulcrum_plan::{Board, PlanTable};
use fulcrum_runtime::board::Jetson;
use std::fmt::Write as _;

/// Reads the plan for this very board. A folder's trial does not begin yet.
pub(super) fn read_plan(
    source: &PlanSource,
    board: &Board,
) -> Result<(PlanTable, Option<Store>), Failure> {
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

/// Whether the GPU is the one that the plan was measured on.
pub(super) fn check_masks(
    policy: OtherMasks,
    plan: &PlanTable,
    board: &Jetson,
) -> Result<(), Failure> {
    let live = &board.topology().gpu_masks;
    let Some(mask) = plan.provenance.gpu_masks.other(live) else {
        return Ok(());
    };
    let OtherMask {
        name,
        planned,
        live,
    } = mask;
    let what = format!("the GPU's {name} is {live}, and the plan was measured with {planned}");
    match policy {
        OtherMasks::Refuse => Err(Failure::no(format!(
            "{what}: its times and powers are those of another GPU; set the mask (nvpmodel and a reboot), \
             make a plan for this one, or give --other-masks warn"
        ))),
        OtherMasks::Warn => {
            log::warn!("{what}: expect other times and powers than the plan's");
            Ok(())
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

/// What is to be decided, by the models that are given.
pub(super) fn problem(options: &Run, plan: &PlanTable) -> Result<Problem, Failure> {
    let (serves, trains) = match (&options.infer, &options.train) {
        (None, None) => (options.service.is_some(), plan.train.is_some()),
        (infer, train) => (infer.is_some(), train.is_some()),
    };
    if trains && plan.train.is_none() {
        return Err(Failure::no("the plan has no training workload"));
    }
    if serves && plan.infer.is_empty() {
        return Err(Failure::no("the plan has no inference workload"));
    }
    if options.bulk.is_some() && plan.infer.len() < 2 {
        return Err(Failure::no(
            "a second --infer needs a plan with two inference workloads (`fulcrum plan --infer A --infer B`)",
        ));
    }
    match (serves, trains) {
        (true, false) if options.bulk.is_some() => Ok(Problem::TwoInferences),
        (true, true) => Ok(Problem::TrainingInference(0)),
        (true, false) => Ok(Problem::Inference(0)),
        (false, true) => Ok(Problem::Training),
        (false, false) => Err(Failure::trouble(
            "nothing to select a mode for: the plan trains nothing, and --latency-ms and --rate are \
             missing",
        )),
    }
}

/// The demand of the options.
pub(super) fn demand(options: &Run) -> Demand {
    let service = options.service;
    Demand {
        power_mw: options.power_mw,
        latency_us: service.map_or(MicroSec(u32::MAX), |service| service.latency_us),
        rate: service.map_or(MilliRps(0), |service| service.rate),
    }
}

/// The best row of the plan for what is asked.
pub(super) fn choose(
    options: &Run,
    plan: &PlanTable,
    problem: Problem,
) -> Result<Solution, Failure> {
    select(plan, problem, &demand(options)).ok_or_else(|| {
        let thousandths = |value: u32| f64::from(value) / 1e3;
        let mut asked = format!("{} W", thousandths(options.power_mw.0));
        let mut help = "raise --power or --latency-ms";
        if let Some(Service { latency_us, rate }) = options.service {
            let (latency_ms, per_s) = (thousandths(latency_us.0), thousandths(rate.0));
            let _ = write!(asked, ", {latency_ms} ms at {per_s} requests/s");
            // The plan reckons with a window of one request at least, though a batch closes before it is over.
            if latency_ms * per_s < 2e3 {
                help = "raise --rate (a mode for two requests per --latency-ms serves fewer, too), --power or \
                        --latency-ms";
            }
        }
        Failure::no(format!(
            "no solution: no mode of the plan was observed to fit {asked}; {help}, or plan with more modes \
             (`fulcrum show` lists them)"
        ))
    })
}
