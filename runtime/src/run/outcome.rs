//! What the loop's thread leaves behind for the summary.

use super::watcher::Seen;
use fulcrum_runtime::allocation;
use fulcrum_runtime::serve::WorkError;
use std::time::Duration;

/// How a run went, besides what the telemetry says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) elapsed: Duration,
    /// Requests that came, and those of them that were not admitted.
    pub(crate) arrived: u64,
    pub(crate) rejected: u64,
    /// The same of those that are not urgent.
    pub(crate) bulk_arrived: u64,
    pub(crate) bulk_rejected: u64,
    /// Checkpoints written while the loop ran.
    pub(crate) checkpoints: u64,
    /// What happened to the board.
    pub(crate) seen: Seen,
    /// Requests that still waited when the loop ended.
    pub(crate) waiting: u64,
    pub(crate) bulk_waiting: u64,
    /// Rust allocations and frees of the loop's thread while it looped.
    pub(crate) allocations: allocation::Count,
    /// Page faults of that thread in that time; `None` if the system does not tell.
    pub(crate) page_faults: Option<u64>,
    /// Why the loop gave up.
    pub(crate) failure: Option<WorkError>,
}
