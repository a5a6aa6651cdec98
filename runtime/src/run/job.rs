//! What the threads of a run share.

use super::report::Report;
use crate::args::Run;
use fulcrum_plan::PlanTable;
use fulcrum_plan::select::{Problem, Solution};
use fulcrum_plan::store::Store;
use fulcrum_runtime::pin::Pin;
use fulcrum_runtime::status::Recent;
use fulcrum_runtime::telemetry::Telemetry;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

/// One run, as its threads see it.
pub(crate) struct Job<'a> {
    pub(crate) options: &'a Run,
    pub(crate) plan: &'a PlanTable,
    pub(crate) problem: Problem,
    pub(crate) solution: Solution,
    /// Whether non-urgent inference runs beside training.
    pub(crate) bulk: bool,
    pub(crate) store: Option<&'a Store>,
    pub(crate) report: &'a Report,
    pub(crate) telemetry: &'a Telemetry,
    pub(crate) recent: &'a Recent,
    pub(crate) start: Instant,
    pub(crate) pin: Option<&'a Pin>,
    /// Over-current events counted before the mode was set.
    pub(crate) over_current_before: Option<u64>,
    pub(crate) stop: &'a AtomicBool,
}
