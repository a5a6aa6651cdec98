//! What a mode is for.

use fulcrum_plan::select::{Problem, Solution};
use fulcrum_plan::units::MicroSec;

/// What happens to requests when there are too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overload {
    /// Reject a request at once if it could not be answered in time, and serve everything that was admitted.
    #[default]
    RejectNewest,
    /// The same, and drop a request once it cannot be answered in time any more.
    DropLate,
    /// Answer late rather than not at all: only what a full queue cannot hold is rejected.
    AnswerLate,
}

/// What comes first where there is not enough time for everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What happens to requests when there are too many.
    pub overload: Overload,
    /// The least share of the time, in thousandths, that training gets even if requests have to be rejected for it.
    pub train_share_per_mille: u16,
}

/// What the present mode is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Inference, unless there is none.
    pub serving: Option<Serving>,
    /// Planned time of a training step; `None` if nothing is trained.
    pub train_ns: Option<u64>,
    /// Non-urgent inference; `None` if there is none.
    pub bulk: Option<Bulk>,
    /// What comes first.
    pub policy: Policy,
}

impl Assignment {
    /// What a selected row of the plan is for, at a latency budget. What runs in the gaps is training, or for
    /// [`Problem::TwoInferences`] the non-urgent inference.
    #[must_use]
    pub fn of(problem: Problem, solution: &Solution, budget_us: MicroSec, policy: Policy) -> Self {
        let background = solution.background;
        let (trained, bulk) = match problem {
            Problem::TwoInferences => (None, background),
            _ => (background, None),
        };
        Self {
            serving: solution.serving.map(|serving| Serving {
                batch: serving.batch,
                infer_ns: nanoseconds(serving.time_us),
                budget_ns: nanoseconds(budget_us),
            }),
            train_ns: trained.map(|step| nanoseconds(step.time_us)),
            bulk: bulk.map(|step| Bulk::new(step.batch, step.time_us)),
            policy,
        }
    }
}

const fn nanoseconds(time_us: MicroSec) -> u64 {
    (time_us.0 as u64).saturating_mul(1_000)
}

/// The non-urgent inference of an [`Assignment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// Requests per full batch; not zero.
    pub batch: u16,
    /// Planned time of a batch.
    pub infer_ns: u64,
}

impl Bulk {
    /// Batches of a size that take this long.
    #[must_use]
    pub const fn new(batch: u16, time_us: MicroSec) -> Self {
        Self {
            batch,
            infer_ns: nanoseconds(time_us),
        }
    }
}

/// The inference side of an [`Assignment`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Requests per full batch; not zero.
    pub batch: u16,
    /// Planned time of an inference batch.
    pub infer_ns: u64,
    /// From arrival to answer.
    pub budget_ns: u64,
}
