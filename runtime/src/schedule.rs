//! What to do next: one pure function, [`Schedule::step`].
//!
//! The device runs one minibatch at a time, and this module decides which (managed interleaving, Fulcrum
//! paper). It reads no clock, does no I/O, does not allocate and does not panic: time is an argument, and
//! the same function runs on a board and in the simulation.
//!
//! Terms:
//! - **budget**: the longest time from a request's arrival to its answer, the same for every request;
//! - **close**: to send what is pending as a batch. A batch closes when it is full, or when its oldest
//!   request cannot wait any longer ([`Schedule::close_by_ns`]);
//! - **gaps**: the time that inference leaves, for training steps and for batches of non-urgent requests (*bulk*),
//!   which have no latency budget;
//! - **tail**: the duration to reckon with, see [`Estimate`];
//! - **pause**: time that the machine takes from whatever runs, or from nothing.
//!
//! Rules, in this order:
//! 1. An urgent change of mode (the guard found a budget violated) comes first.
//! 2. Under [`Overload::DropLate`], a request that cannot be answered in time any more is dropped.
//! 3. A training step that is owed ([`Policy::train_share_per_mille`]) runs if the oldest request is in time after
//!    it; under [`Overload::AnswerLate`] also if that one is late anyway. Under the others the queue admits only as many
//!    requests as are in time beside such steps.
//!    Then a full batch runs; so does a batch whose oldest request cannot wait any longer.
//! 4. A change of mode that can wait runs when its cost fits (rule 5's test).
//! 5. A training step or a bulk batch runs if, with a tail on its side or on that of the batch after it, no pending
//!    request would be late, nor a request that arrives right after it began, nor the backlog to expect at
//!    the present rate. Where both have work they share the time evenly: whoever had less goes first, and the other
//!    one only where that does not fit. A bulk batch runs when it is full, when its oldest request
//!    has waited for [`BULK_PATIENCE_NS`], or when nothing is trained.
//!    A training step that does not fit may be tried while nothing waits, if it can be cancelled
//!    ([`Schedule::due`]); every loss doubles the time to the next try.
//! 6. If no step fits before a pending batch has to close, the batch closes now where that leaves more time
//!    for training: its time has to be spent anyway, and afterwards a step fits. (With the window fixed to
//!    `b / a`, as in the formula for `k`, the remainder of the window would be idle.)
//! 7. Otherwise wait, at most until the batch has to close.
#![deny(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "tests may compute freely")
)]

mod admission;
mod assignment;
mod estimate;
mod inputs;
mod promise;
mod spread;

pub use assignment::{Assignment, Bulk, Overload, Policy, Serving};
pub use estimate::Estimate;
use fulcrum_plan::units::MilliRps;
pub use inputs::{Inputs, Switch};
use promise::Promise;
use spread::Spread;

/// Share of the latency budget kept for what no estimate covers: waking up, copying, the answer's way
/// back. A guess, from wake-up delays of 50 to 500 µs and budgets of tens of ms.
const MARGIN_SHARE: u64 = 64;
/// Arrivals to expect beyond the mean, in standard deviations of a Poisson count. With three, one simulated hour in
/// fifty, of bursts, has more than one request in a thousand late (`tests/tests/hours.rs`).
const BURST_SIGMA: u64 = 4;
/// Nanoseconds per second times the thousandths in a rate.
const RATE_SCALE: u128 = 1_000_000_000_000;

/// How long a non-urgent request waits for its batch to fill while training has the gaps.
pub const BULK_PATIENCE_NS: u64 = 1_000_000_000;
/// How far one user of the gaps may get ahead of the other: what it had while the other had no work is not owed.
const LEAD_MAX_NS: i64 = 1_000_000_000;
/// Longest time between two tries of a step that does not fit.
const RETRY_MAX_NS: u64 = 60_000_000_000;
/// Until measured, a cancelled step is expected to end within this share of a step (ort.md, section 5: the longest
/// operator).
const CANCEL_SHARE: u64 = 2;

/// When a step has to have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At this instant, for the sake of a request that waits.
    At(u64),
    /// So long after the arrival of the first request that comes while it runs.
    AfterArrival(u64),
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run an inference batch over the oldest `count` requests; not zero, at most the batch size.
    Infer {
        /// Requests to take.
        count: usize,
    },
    /// Run one training step.
    Train,
    /// Run a batch over the oldest `count` non-urgent requests; not zero, at most their batch size.
    Bulk {
        /// Requests to take.
        count: usize,
    },
    /// Drop the oldest request: it cannot be answered in time.
    Drop,
    /// Change the mode now.
    Reselect,
    /// Nothing to do until this instant, or until a request arrives. `None`: until a request arrives.
    Wait {
        /// When to ask again at the latest.
        until_ns: Option<u64>,
    },
}

/// The scheduler: an assignment, and what is known of the durations in it.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    assignment: Assignment,
    infer: Estimate,
    train: Estimate,
    bulk: Estimate,
    /// How late the loop woke up from its waits.
    waits: Spread,
    busy: Busy,
    /// Time that training had more of the gaps than bulk.
    lead_ns: i64,
    promise: Promise,
    trial: Trial,
}

/// Training steps that do not fit, and are tried because they can be cancelled.
#[derive(Clone, Copy, Debug)]
struct Trial {
    possible: bool,
    /// Longest time from a cancellation to the end of its step, lately.
    cancel_ns: Option<u64>,
    lost_in_row: u32,
    retry_ns: u64,
}

/// Time spent on each kind of work since the schedule began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// Inference in batches of the assignment's size.
    pub infer_ns: u64,
    /// Inference in smaller batches.
    pub partial_ns: u64,
    /// Training.
    pub train_ns: u64,
    /// Non-urgent inference.
    pub bulk_ns: u64,
}

impl Schedule {
    /// A scheduler for an assignment, at a time.
    #[must_use]
    pub fn new(assignment: Assignment, now_ns: u64) -> Self {
        let infer_ns = assignment.serving.map_or(0, |serving| serving.infer_ns);
        Self {
            assignment,
            infer: Estimate::planned(infer_ns, now_ns),
            train: Estimate::planned(assignment.train_ns.unwrap_or(0), now_ns),
            bulk: Estimate::planned(assignment.bulk.map_or(0, |bulk| bulk.infer_ns), now_ns),
            waits: Spread::new(now_ns),
            busy: Busy::default(),
            lead_ns: 0,
            promise: Promise::new(assignment.policy.train_share_per_mille, now_ns),
            trial: Trial {
                possible: false,
                cancel_ns: None,
                lost_in_row: 0,
                retry_ns: 0,
            },
        }
    }

    /// A scheduler for another assignment, at a time: what training is owed stays owed.
    #[must_use]
    pub fn after(&self, assignment: Assignment, now_ns: u64) -> Self {
        Self {
            promise: self.promise,
            ..Self::new(assignment, now_ns)
        }
    }

    /// The present assignment.
    #[must_use]
    pub const fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// Measured (at first: planned) duration of an inference batch.
    #[must_use]
    pub const fn infer(&self) -> &Estimate {
        &self.infer
    }

    /// Measured (at first: planned) duration of a training step.
    #[must_use]
    pub const fn train(&self) -> &Estimate {
        &self.train
    }

    /// Takes the measured duration of an inference batch of a size into account.
    pub fn observe_infer(&mut self, now_ns: u64, took_ns: u64, batch: usize) {
        let full = self
            .assignment
            .serving
            .map(|serving| usize::from(serving.batch));
        // A smaller batch than the assignment's says nothing about how long that takes.
        if full.is_none_or(|full| batch < full) {
            self.busy.partial_ns = self.busy.partial_ns.saturating_add(took_ns);
            return;
        }
        self.busy.infer_ns = self.busy.infer_ns.saturating_add(took_ns);
        self.infer.observe(now_ns, took_ns);
        self.reckon();
    }

    /// Takes the measured duration of a training step into account.
    pub fn observe_train(&mut self, now_ns: u64, took_ns: u64) {
        self.trial.lost_in_row = 0;
        self.train.observe(now_ns, took_ns);
        self.reckon();
        self.spent_training(now_ns, took_ns);
    }

    /// Takes a cancelled training step into account, and how long after the cancellation it ended.
    pub fn observe_cancelled(&mut self, now_ns: u64, took_ns: u64, cancel_ns: u64) {
        let known_ns = self.trial.cancel_ns.unwrap_or(0);
        // A longer one counts at once, shorter ones little by little.
        self.trial.cancel_ns = Some(cancel_ns.max(known_ns.saturating_sub(known_ns / 8)));
        self.trial.lost_in_row = self.trial.lost_in_row.saturating_add(1);
        let pause_ns = 1_u64
            .checked_shl(self.trial.lost_in_row)
            .and_then(|factor| factor.checked_mul(self.train.mean_ns()))
            .unwrap_or(RETRY_MAX_NS);
        self.trial.retry_ns = now_ns.saturating_add(pause_ns.min(RETRY_MAX_NS));
        // It would have taken longer; that it took so long already is known.
        self.observe_part(now_ns, took_ns);
    }

    /// Takes into account what ran in the place of a training step and was no whole one, as a piece of upkeep: if it took
    /// longer than a step, that place may take so long; if not, it tells nothing of steps.
    pub fn observe_part(&mut self, now_ns: u64, took_ns: u64) {
        if took_ns > self.train.mean_ns() {
            self.train.observe(now_ns, took_ns);
            self.reckon();
        }
        self.spent_training(now_ns, took_ns);
    }

    /// Takes a training step into account that failed: its time is gone, and says nothing about others.
    pub fn observe_failed(&mut self, now_ns: u64, took_ns: u64) {
        self.spent_training(now_ns, took_ns);
    }

    fn spent_training(&mut self, now_ns: u64, took_ns: u64) {
        self.promise.pay(now_ns, took_ns);
        self.busy.train_ns = self.busy.train_ns.saturating_add(took_ns);
        let took_ns = i64::try_from(took_ns).unwrap_or(i64::MAX);
        self.lead_ns = self.lead_ns.saturating_add(took_ns).min(LEAD_MAX_NS);
    }

    /// Takes the measured duration of a non-urgent batch of a size into account.
    pub fn observe_bulk(&mut self, now_ns: u64, took_ns: u64, batch: usize) {
        self.busy.bulk_ns = self.busy.bulk_ns.saturating_add(took_ns);
        let took = i64::try_from(took_ns).unwrap_or(i64::MAX);
        self.lead_ns = self
            .lead_ns
            .saturating_sub(took)
            .max(LEAD_MAX_NS.saturating_neg());
        let full = self.assignment.bulk.map(|bulk| usize::from(bulk.batch));
        if full.is_some_and(|full| batch >= full) {
            self.bulk.observe(now_ns, took_ns);
            self.reckon();
        }
    }

    /// A wait for an instant that lasted for `waited_ns` ended, `late_ns` of it after that instant.
    pub fn observe_wait(&mut self, now_ns: u64, waited_ns: u64, late_ns: u64) {
        self.waits.observe(now_ns, late_ns, waited_ns);
    }

    fn reckon(&mut self) {
        self.infer.reckon([&self.train, &self.bulk], &self.waits);
        self.train.reckon([&self.infer, &self.bulk], &self.waits);
        self.bulk.reckon([&self.infer, &self.train], &self.waits);
    }

    /// What the time went into.
    #[must_use]
    pub const fn busy(&self) -> Busy {
        self.busy
    }

    /// From now on only inference runs.
    pub const fn stop_training(&mut self) {
        self.assignment.train_ns = None;
    }

    /// From now on non-urgent requests are left alone.
    pub const fn stop_bulk(&mut self) {
        self.assignment.bulk = None;
    }

    /// From now on training steps can be cancelled, so that one that does not fit may be tried.
    pub const fn can_cancel(&mut self) {
        self.trial.possible = true;
    }

    /// When a training step that begins now has to have ended: a batch after it, at its mean, has to be in time for
    /// the oldest request, also if the cancellation takes its time. A step that fits or is owed may take as long as
    /// its tail. And how long after a request's arrival any step has to be told to end, at the soonest. `None` without
    /// inference.
    #[must_use]
    pub fn due(&self, now_ns: u64, inputs: &Inputs) -> Option<(Due, u64)> {
        let patience_ns = self.cancel_after_ns()?;
        let times_ns = (self.train.mean_ns(), self.train.tail_ns());
        let at_least = |ns: u64, tail_ns: u64| {
            // Most of the time there is room for the tail anyway.
            let allowed = ns < tail_ns
                && (self.owes_step(now_ns, inputs) || self.fits(now_ns, times_ns, inputs));
            if allowed { tail_ns } else { ns }
        };
        let due = match inputs.oldest_waiting_ns() {
            Some(oldest_ns) => Due::At(at_least(
                oldest_ns.saturating_add(patience_ns).max(now_ns),
                now_ns.saturating_add(times_ns.1),
            )),
            None => Due::AfterArrival(at_least(patience_ns, times_ns.1)),
        };
        Some((due, patience_ns))
    }

    /// How long after a request's arrival a step has to be told to end, at the soonest; `None` without inference.
    fn cancel_after_ns(&self) -> Option<u64> {
        let serving = self.assignment.serving?;
        let guess_ns = self.train.mean_ns() / CANCEL_SHARE;
        let cancel_ns = self.trial.cancel_ns.unwrap_or(guess_ns);
        Some(self.free_by_ns(&serving).saturating_sub(cancel_ns))
    }

    /// How long after a request's arrival a batch, at its mean, has to start to be in time for it.
    fn free_by_ns(&self, serving: &Serving) -> u64 {
        serving
            .budget_ns
            .saturating_sub(self.infer.mean_ns())
            .saturating_sub(margin_ns(serving))
    }

    /// Lets old measurements fade; called whenever the loop waits.
    pub fn age(&mut self, now_ns: u64) {
        self.infer.age(now_ns);
        self.train.age(now_ns);
        self.bulk.age(now_ns);
        self.waits.age(now_ns);
        self.reckon();
    }

    /// The latest start of a batch whose oldest request arrived at `oldest_ns`, at an arrival rate; `None`
    /// without inference.
    #[must_use]
    pub fn close_by_ns(&self, oldest_ns: u64, rate: MilliRps) -> Option<u64> {
        let serving = self.assignment.serving?;
        Some(oldest_ns.saturating_add(self.patience_ns(&serving, rate)))
    }

    /// How long a request may wait before its batch starts: the budget without the tail of an inference
    /// batch. But never less than the window `b / a` that the plan reckons with, as long as the mean still
    /// meets the budget: batches that close half empty for fear of the tail would cost the time that makes
    /// everybody late.
    fn patience_ns(&self, serving: &Serving, rate: MilliRps) -> u64 {
        let careful_ns = serving
            .budget_ns
            .saturating_sub(self.infer.tail_ns())
            .saturating_sub(margin_ns(serving));
        let window = u128::from(serving.batch).saturating_mul(RATE_SCALE);
        let window_ns = window
            .checked_div(u128::from(rate.0))
            .and_then(|window_ns| u64::try_from(window_ns).ok())
            .unwrap_or(0);
        let bold_ns = serving.budget_ns.saturating_sub(self.infer.mean_ns());
        careful_ns.max(window_ns.min(bold_ns))
    }

    /// Decides. Pure: the same schedule, time and inputs give the same action.
    #[must_use]
    pub fn step(&self, now_ns: u64, inputs: &Inputs) -> Action {
        if inputs.switch.is_some_and(|switch| switch.urgent) {
            return Action::Reselect;
        }
        let closing = self
            .assignment
            .serving
            .as_ref()
            .zip(inputs.oldest_waiting_ns());
        if let Some((serving, oldest_ns)) = closing
            && self.is_lost(now_ns.saturating_sub(oldest_ns), serving)
        {
            return Action::Drop;
        }
        if self.owes_step(now_ns, inputs) {
            return Action::Train;
        }
        let mut close_by_ns = None;
        if let Some((serving, oldest_ns)) = closing {
            let by_ns = oldest_ns.saturating_add(self.patience_ns(serving, inputs.rate));
            let count = inputs.pending.min(usize::from(serving.batch));
            if count >= usize::from(serving.batch) || now_ns >= by_ns {
                return Action::Infer { count };
            }
            close_by_ns = Some(by_ns);
        }
        if let Some(switch) = inputs.switch
            && self.fits(now_ns, (switch.cost_ns, switch.cost_ns), inputs)
        {
            return Action::Reselect;
        }
        let (bulk, bulk_at_ns) = self.bulk_ready(now_ns, inputs);
        let train = self
            .assignment
            .train_ns
            .map(|_| (&self.train, Action::Train));
        let in_turn = match self.lead_ns > 0 {
            true => [bulk, train],
            false => [train, bulk],
        };
        for (work, action) in in_turn.into_iter().flatten() {
            if self.fits(now_ns, (work.mean_ns(), work.tail_ns()), inputs) {
                return action;
            }
        }
        if let Some((serving, _)) = closing
            && let Some((work, _)) = in_turn.into_iter().flatten().next()
            && self.gains_by_closing(serving, work, inputs.rate)
        {
            return Action::Infer {
                count: inputs.pending,
            };
        }
        let mut retry_ns = None;
        if inputs.pending == 0 && self.may_be_tried() {
            if now_ns >= self.trial.retry_ns {
                return Action::Train;
            }
            retry_ns = Some(self.trial.retry_ns);
        }
        let instants = [close_by_ns, bulk_at_ns, retry_ns];
        Action::Wait {
            until_ns: instants.into_iter().flatten().min(),
        }
    }

    /// The non-urgent batch to run, or when there will be one without further requests.
    fn bulk_ready(
        &self,
        now_ns: u64,
        inputs: &Inputs,
    ) -> (Option<(&Estimate, Action)>, Option<u64>) {
        let (Some(bulk), pending) = (self.assignment.bulk, inputs.bulk_pending) else {
            return (None, None);
        };
        let Some(oldest_ns) = inputs.bulk_oldest_ns.filter(|_| pending > 0) else {
            return (None, None);
        };
        let count = pending.min(usize::from(bulk.batch.max(1)));
        let at_ns = oldest_ns.saturating_add(BULK_PATIENCE_NS);
        let full = pending >= usize::from(bulk.batch);
        if full || now_ns >= at_ns || self.assignment.train_ns.is_none() {
            return (Some((&self.bulk, Action::Bulk { count })), None);
        }
        (None, Some(at_ns))
    }

    /// Whether a step that does not fit can be tried at all: it can be cancelled in time for whoever comes.
    fn may_be_tried(&self) -> bool {
        let time = self
            .cancel_after_ns()
            .is_some_and(|patience_ns| patience_ns > 0);
        self.trial.possible && self.assignment.train_ns.is_some() && time
    }

    /// Whether a request that has waited for so long cannot be answered in time any more, and that matters.
    fn is_lost(&self, waited_ns: u64, serving: &Serving) -> bool {
        self.assignment.policy.overload == Overload::DropLate && self.is_late(waited_ns, serving)
    }

    /// Whether a request that has waited for so long cannot be answered in time any more.
    const fn is_late(&self, waited_ns: u64, serving: &Serving) -> bool {
        waited_ns.saturating_add(self.infer.mean_ns()) > serving.budget_ns
    }

    /// Whether training gains if a batch closes as soon as no step fits before it.
    ///
    /// With a patience `P`, an inference batch of `I`, a step's tail `t`, and `i` idle at the end of a window
    /// (the tail, less half a step that fits on average): waiting trains `P - i` in every `P + I`, closing
    /// trains `P - i - I` in every `P - i`. The latter is more exactly if `i * (P - I - i) > I^2`. The tail
    /// stands in the bracket, because a step has to fit after the batch.
    fn gains_by_closing(&self, serving: &Serving, work: &Estimate, rate: MilliRps) -> bool {
        let infer_ns = self.infer.mean_ns();
        let tail_ns = work.tail_ns();
        let idle_ns = tail_ns.saturating_sub(work.mean_ns() / 2);
        let left_ns = self
            .patience_ns(serving, rate)
            .saturating_sub(infer_ns)
            .saturating_sub(tail_ns);
        let product = |one: u64, other: u64| u128::from(one).saturating_mul(u128::from(other));
        product(idle_ns, left_ns) > product(infer_ns, infer_ns)
    }

    /// Whether work of this mean and tail can start now without making a request late: those that wait, one
    /// that arrives right after it began, and the backlog to expect.
    ///
    /// Two ways to be in time: the work ends, even at its tail, before the batch closes anyway; or either the
    /// work or the batch after it takes as long as its tail (that both do is not reckoned with).
    fn fits(&self, now_ns: u64, (mean_ns, tail_ns): (u64, u64), inputs: &Inputs) -> bool {
        let Some(serving) = self.assignment.serving else {
            return true;
        };
        let (infer_ns, infer_tail_ns) = (self.infer.mean_ns(), self.infer.tail_ns());
        let excess_ns = tail_ns
            .saturating_sub(mean_ns)
            .max(infer_tail_ns.saturating_sub(infer_ns));
        let reserve_ns = mean_ns
            .saturating_add(infer_ns)
            .saturating_add(excess_ns)
            .saturating_add(margin_ns(&serving));
        let waited_ns = inputs.waited_ns(now_ns);
        let delays_nobody =
            waited_ns.saturating_add(tail_ns) <= self.patience_ns(&serving, inputs.rate);
        let in_time = waited_ns.saturating_add(reserve_ns) <= serving.budget_ns;
        if !delays_nobody && !in_time {
            return false;
        }
        // Whoever arrives from now on waits for what is left of the work, and for the batches of those before.
        let ahead = self
            .crowd(&serving, inputs.rate, tail_ns)
            .saturating_add(inputs.pending as u64);
        let batches = ahead.div_ceil(u64::from(serving.batch.max(1)));
        let work_ns = tail_ns.saturating_add(batches.saturating_mul(infer_ns));
        work_ns <= serving.budget_ns
    }

    /// Requests to reckon with before, and with, the one that arrives at the worst moment after work of this duration
    /// began, as if it had arrived at once.
    ///
    /// With a rate `a`, a batch `b` in `I`, and [`BURST_SIGMA`] `s`, at most `a t + s √(a t)` requests arrive in `t`. The
    /// last of them waits for all of these, but begins to wait by `t` later, in which `t b / I` are served; so as if
    /// `s √(a t) - t (b / I - a)` were before it. That is largest, `s² / 4 · a / (b / I - a)`, at some `t`, and as long as
    /// the work lasts never more than `s √(a t)` of all its time. Where inference cannot keep up, everybody who arrives
    /// counts.
    fn crowd(&self, serving: &Serving, rate: MilliRps, duration_ns: u64) -> u64 {
        let scaled = |duration_ns: u64| u128::from(rate.0).saturating_mul(duration_ns.into());
        let arriving = scaled(duration_ns).div_ceil(RATE_SCALE);
        let arriving = u64::try_from(arriving).unwrap_or(u64::MAX);
        let deviation = BURST_SIGMA.saturating_mul(arriving.isqrt());
        let in_a_batch = scaled(self.infer.mean_ns());
        let spare = u128::from(serving.batch)
            .saturating_mul(RATE_SCALE)
            .saturating_sub(in_a_batch);
        let squared = u128::from(BURST_SIGMA.saturating_mul(BURST_SIGMA));
        let largest = in_a_batch
            .saturating_mul(squared)
            .checked_div(spare.saturating_mul(4));
        match largest.map(u64::try_from) {
            Some(Ok(largest)) => largest.min(deviation).saturating_add(1),
            _ => arriving.saturating_add(deviation),
        }
    }
}

/// What is kept of the budget for what no estimate covers.
const fn margin_ns(serving: &Serving) -> u64 {
    serving.budget_ns / MARGIN_SHARE
}

#[cfg(test)]
mod tests;
