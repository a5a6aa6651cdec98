//! The loop: asks [`Schedule::step`] what to do, does it, and measures how long it took.
//!
//! One call of [`Loop::turn`] is one decision and its execution. The shell around it (a thread that parks,
//! or a simulation that moves its clock) does the waiting.
//!
//! **Invariant I5**: a turn does not allocate in Rust, on success and on every error path
//! (`tests/loop_allocation.rs`). What it needs is made by [`Loop::new`].

use crate::queue::{Admission, CAPACITY, Receiver, Request};
use crate::schedule::{Action, Assignment, Inputs, Schedule, Switch};
use crate::telemetry::Telemetry;
use crate::watchdog::Watchdog;
use fulcrum_plan::units::MilliRps;
use std::fmt;

/// Failures in a row of the same kind of work after which the loop gives it up, or with inference itself.
pub const FAILURES_MAX: u32 = 8;

/// A clock that never goes back. The loop's zero is the clock's.
pub trait Clock {
    /// Time since the clock's zero.
    fn now_ns(&self) -> u64;
}

/// What runs minibatches.
pub trait Work {
    /// Answers requests: at most one full batch. Returns the size of the batch that was run for them,
    /// which may be larger than what was asked for: shapes are static.
    ///
    /// # Errors
    /// No request was answered.
    fn infer(&mut self, requests: &[Request]) -> Result<usize, WorkError>;

    /// Does one training step and returns its loss.
    ///
    /// # Errors
    /// The parameters are those of before.
    fn train(&mut self) -> Result<f32, WorkError>;

    /// Does a piece of what training needs besides steps, if something is due: no longer than a step. It
    /// takes that step's place; whether it did.
    fn upkeep(&mut self) -> bool {
        false
    }

    /// Answers non-urgent requests, as [`Work::infer`] does urgent ones.
    ///
    /// # Errors
    /// No request was answered; so always where there is no non-urgent inference.
    fn infer_bulk(&mut self, requests: &[Request]) -> Result<usize, WorkError> {
        let _ = requests;
        Err(WorkError::Failed { code: -1 })
    }

    /// A request will not be answered.
    fn give_up(&mut self, request: &Request, why: GivenUp);

    /// The same of a non-urgent request; those that are played do not wait for answers.
    fn give_up_bulk(&mut self, request: &Request, why: GivenUp) {
        let _ = (request, why);
    }
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// It could not be answered in time any more.
    Dropped,
    /// Its inference failed.
    Failed,
}

impl<W: Work + ?Sized> Work for &mut W {
    fn infer(&mut self, requests: &[Request]) -> Result<usize, WorkError> {
        (**self).infer(requests)
    }

    fn train(&mut self) -> Result<f32, WorkError> {
        (**self).train()
    }

    fn upkeep(&mut self) -> bool {
        (**self).upkeep()
    }

    fn infer_bulk(&mut self, requests: &[Request]) -> Result<usize, WorkError> {
        (**self).infer_bulk(requests)
    }

    fn give_up(&mut self, request: &Request, why: GivenUp) {
        (**self).give_up(request, why);
    }

    fn give_up_bulk(&mut self, request: &Request, why: GivenUp) {
        (**self).give_up_bulk(request, why);
    }
}

/// What decides about the mode, and changes it. See [`crate::control`].
pub trait Modes {
    /// Looks at what was measured, if a control period is over.
    fn look(&mut self, now_ns: u64, schedule: &Schedule, requests: Requests);

    /// The change that is wanted, if any.
    fn wanted(&self) -> Option<Switch>;

    /// The arrival rate that the mode was chosen for.
    fn assumed_rate(&self) -> MilliRps;

    /// Carries the change out. `None` if nothing is different for the schedule: it failed, or the mode was
    /// set again.
    fn change(&mut self, now_ns: u64) -> Option<Assignment>;
}

/// Requests so far, as those see them who decide about the mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// All that came, admitted or not.
    pub arrived: u64,
    /// Those that were not answered in time: late, rejected, dropped or failed.
    pub missed: u64,
}

/// Why a minibatch was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkError {
    /// It was cancelled.
    Cancelled,
    /// The engine failed with this code; the engine keeps its text.
    Failed {
        /// The engine's code.
        code: i32,
    },
}

impl fmt::Display for WorkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled => f.write_str("cancelled"),
            Self::Failed { code } => write!(f, "the engine failed with code {code}"),
        }
    }
}

impl std::error::Error for WorkError {}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A minibatch; ask again at once.
    Worked,
    /// A training step failed [`FAILURES_MAX`] times in a row: from now on only inference runs.
    TrainingStopped(WorkError),
    /// Non-urgent inference failed [`FAILURES_MAX`] times in a row: from now on those requests wait.
    BulkStopped(WorkError),
    /// Nothing to do until this instant, or until a request arrives.
    Wait {
        /// When to ask again at the latest.
        until_ns: Option<u64>,
    },
}

/// The loop's state.
pub struct Loop<'a, C, W> {
    clock: &'a C,
    work: W,
    requests: Receiver<'a>,
    bulk: Option<Receiver<'a>>,
    telemetry: &'a Telemetry,
    schedule: Schedule,
    rate: MilliRps,
    batch: Vec<Request>,
    infer_failures: u32,
    train_failures: u32,
    bulk_failures: u32,
    training_stopped: bool,
    bulk_stopped: bool,
    watchdog: Option<&'a Watchdog>,
    /// Since when, and until when, the loop waits.
    waiting: Option<(u64, u64)>,
    modes: Option<&'a mut dyn Modes>,
}

impl<'a, C: Clock, W: Work> Loop<'a, C, W> {
    /// A loop that works on an assignment at an expected arrival rate.
    pub fn new(
        clock: &'a C,
        work: W,
        requests: Receiver<'a>,
        telemetry: &'a Telemetry,
        assignment: Assignment,
        rate: MilliRps,
    ) -> Self {
        let schedule = Schedule::new(assignment, clock.now_ns());
        let idle = Action::Wait { until_ns: None };
        requests.admit(schedule.admission(clock.now_ns(), idle, &Inputs::default()));
        Self {
            clock,
            work,
            requests,
            bulk: None,
            telemetry,
            schedule,
            rate,
            batch: Vec::with_capacity(CAPACITY),
            infer_failures: 0,
            train_failures: 0,
            bulk_failures: 0,
            training_stopped: false,
            bulk_stopped: false,
            watchdog: None,
            waiting: None,
            modes: None,
        }
    }

    /// Lets the mode change while the loop runs.
    #[must_use]
    pub fn with_modes(mut self, modes: &'a mut dyn Modes) -> Self {
        self.modes = Some(modes);
        self
    }

    /// Non-urgent requests come from here.
    #[must_use]
    pub fn with_bulk(mut self, requests: Receiver<'a>) -> Self {
        self.bulk = Some(requests);
        self
    }

    /// Training steps are cancelled by this watchdog's thread.
    #[must_use]
    pub const fn with_watchdog(mut self, watchdog: &'a Watchdog) -> Self {
        self.watchdog = Some(watchdog);
        self.schedule.can_cancel();
        self
    }

    /// The scheduler, with what was measured.
    #[must_use]
    pub const fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// What runs minibatches.
    #[must_use]
    pub const fn work(&self) -> &W {
        &self.work
    }

    /// The queue's end.
    #[must_use]
    pub const fn requests(&self) -> &Receiver<'a> {
        &self.requests
    }

    /// Non-urgent requests that wait.
    #[must_use]
    pub fn bulk_pending(&self) -> usize {
        self.bulk.as_ref().map_or(0, Receiver::pending)
    }

    /// Ends the loop and hands back what runs minibatches, and the queue's end with whoever still waits.
    pub fn into_parts(self) -> (W, Receiver<'a>) {
        (self.work, self.requests)
    }

    /// Decides once and does it. Does not allocate.
    ///
    /// # Errors
    /// Inference failed [`FAILURES_MAX`] times in a row: nobody is served any more.
    pub fn turn(&mut self) -> Result<Turn, WorkError> {
        let now_ns = self.clock.now_ns();
        if let Some((since_ns, until_ns)) = self.waiting.take()
            && let Some(late_ns) = now_ns.checked_sub(until_ns)
        {
            let waited_ns = now_ns.saturating_sub(since_ns);
            self.schedule.observe_wait(now_ns, waited_ns, late_ns);
        }
        let mut switch = None;
        if let Some(modes) = &mut self.modes {
            let (counts, telemetry) = (self.requests.counts(), self.telemetry);
            let unanswered = counts.rejected() + telemetry.dropped.get() + telemetry.failed.get();
            let requests = Requests {
                arrived: counts.arrived(),
                missed: telemetry.late.get() + unanswered,
            };
            modes.look(now_ns, &self.schedule, requests);
            switch = modes.wanted();
            self.rate = modes.assumed_rate();
        }
        let bulk = self.bulk.as_ref();
        // Before the queue is looked at: whoever comes later is somebody new for the watchdog.
        let arrived = self.requests.counts().arrived();
        let inputs = Inputs {
            pending: self.requests.pending(),
            oldest_ns: self.requests.oldest_ns(),
            bulk_pending: self.bulk_pending(),
            bulk_oldest_ns: bulk.and_then(Receiver::oldest_ns),
            rate: self.rate,
            switch,
        };
        let action = self.schedule.step(now_ns, &inputs);
        self.requests
            .admit(self.schedule.admission(now_ns, action, &inputs));
        match action {
            Action::Infer { count } => self.infer(now_ns, count),
            Action::Train => {
                if let Some(watchdog) = self.watchdog
                    && let Some((due, least_ns)) = self.schedule.due(now_ns, &inputs)
                {
                    let mean_ns = self.schedule.train().mean_ns();
                    watchdog.begin(due, least_ns, arrived, mean_ns);
                }
                let turn = self.train(now_ns);
                if let Some(watchdog) = self.watchdog {
                    watchdog.end();
                }
                Ok(turn)
            }
            Action::Bulk { count } => Ok(self.infer_bulk(now_ns, count)),
            Action::Drop => {
                if let Some(request) = self.requests.take() {
                    self.work.give_up(&request, GivenUp::Dropped);
                    self.telemetry.dropped.add(1);
                }
                Ok(Turn::Worked)
            }
            Action::Reselect => {
                self.reselect(now_ns);
                Ok(Turn::Worked)
            }
            Action::Wait { until_ns } => {
                self.schedule.age(now_ns);
                self.waiting = until_ns.map(|until_ns| (now_ns, until_ns));
                Ok(Turn::Wait { until_ns })
            }
        }
    }

    fn reselect(&mut self, now_ns: u64) {
        let modes = self.modes.as_mut();
        let Some(mut assignment) = modes.and_then(|modes| modes.change(now_ns)) else {
            return;
        };
        if self.training_stopped {
            assignment.train_ns = None;
        }
        if self.bulk_stopped {
            assignment.bulk = None;
        }
        self.schedule = self.schedule.after(assignment, self.clock.now_ns());
        if self.watchdog.is_some() {
            self.schedule.can_cancel();
        }
        self.telemetry.switches.add(1);
    }

    fn infer(&mut self, start_ns: u64, count: usize) -> Result<Turn, WorkError> {
        take(&mut self.requests, count, &mut self.batch);
        let result = self.work.infer(&self.batch);
        let now_ns = self.clock.now_ns();
        let took_ns = now_ns.saturating_sub(start_ns);
        self.telemetry.infer.record(took_ns);
        self.telemetry.batches.add(1);
        match result {
            Ok(ran) => {
                self.schedule.observe_infer(now_ns, took_ns, ran);
                self.infer_failures = 0;
                self.count_answers(now_ns);
                Ok(Turn::Worked)
            }
            Err(error) => {
                for request in &self.batch {
                    self.work.give_up(request, GivenUp::Failed);
                }
                self.telemetry.failed.add(self.batch.len() as u64);
                // Its time is gone, and says nothing about others: as of a batch of nobody.
                self.schedule.observe_infer(now_ns, took_ns, 0);
                self.infer_failures += 1;
                if self.infer_failures >= FAILURES_MAX {
                    return Err(error);
                }
                Ok(Turn::Worked)
            }
        }
    }

    fn infer_bulk(&mut self, start_ns: u64, count: usize) -> Turn {
        let Some(requests) = &mut self.bulk else {
            return Turn::Worked;
        };
        take(requests, count, &mut self.batch);
        let result = self.work.infer_bulk(&self.batch);
        let now_ns = self.clock.now_ns();
        let took_ns = now_ns.saturating_sub(start_ns);
        let answered = self.batch.len() as u64;
        self.telemetry.bulk_batches.add(1);
        match result {
            Ok(ran) => {
                self.schedule.observe_bulk(now_ns, took_ns, ran);
                self.telemetry.bulk_served.add(answered);
                self.bulk_failures = 0;
                Turn::Worked
            }
            Err(error) => {
                for request in &self.batch {
                    self.work.give_up_bulk(request, GivenUp::Failed);
                }
                self.telemetry.bulk_failed.add(answered);
                self.schedule.observe_bulk(now_ns, took_ns, 0);
                self.bulk_failures += 1;
                if self.bulk_failures < FAILURES_MAX {
                    return Turn::Worked;
                }
                self.bulk_stopped = true;
                // Nobody waits for what does not come any more.
                requests.admit(Admission::at_most(0));
                while let Some(request) = requests.take() {
                    self.work.give_up_bulk(&request, GivenUp::Failed);
                    self.telemetry.bulk_failed.add(1);
                }
                self.schedule.stop_bulk();
                Turn::BulkStopped(error)
            }
        }
    }

    fn count_answers(&self, now_ns: u64) {
        let serving = self.schedule.assignment().serving;
        let budget_ns = serving.map_or(u64::MAX, |serving| serving.budget_ns);
        let mut late = 0;
        let latencies = self.batch.iter().map(|request| {
            let latency_ns = now_ns.saturating_sub(request.arrival_ns);
            late += u64::from(latency_ns > budget_ns);
            latency_ns
        });
        self.telemetry.latency.record_all(latencies);
        self.telemetry.served.add(self.batch.len() as u64);
        self.telemetry.late.add(late);
    }

    fn train(&mut self, start_ns: u64) -> Turn {
        if self.work.upkeep() {
            let now_ns = self.clock.now_ns();
            self.schedule
                .observe_part(now_ns, now_ns.saturating_sub(start_ns));
            return Turn::Worked;
        }
        let result = self.work.train();
        let now_ns = self.clock.now_ns();
        let took_ns = now_ns.saturating_sub(start_ns);
        match result {
            Ok(loss) => {
                self.schedule.observe_train(now_ns, took_ns);
                self.telemetry.train.record(took_ns);
                if self.telemetry.steps.get() == 0 {
                    self.telemetry.loss_first.set(loss);
                }
                self.telemetry.loss_last.set(loss);
                self.telemetry.steps.add(1);
                self.train_failures = 0;
                Turn::Worked
            }
            Err(error) => {
                self.telemetry.steps_lost.add(1);
                match (error, self.watchdog) {
                    // A cancelled step says nothing about the engine's health.
                    (WorkError::Cancelled, Some(watchdog)) => {
                        // Not longer than the step: one that comes late hits the step after the one it was for.
                        let cancel_ns = now_ns.saturating_sub(watchdog.cancelled_ns()).min(took_ns);
                        self.schedule.observe_cancelled(now_ns, took_ns, cancel_ns);
                    }
                    (WorkError::Cancelled, None) => {}
                    (WorkError::Failed { .. }, _) => {
                        self.schedule.observe_failed(now_ns, took_ns);
                        self.train_failures += 1;
                    }
                }
                if self.train_failures < FAILURES_MAX {
                    return Turn::Worked;
                }
                self.train_failures = 0;
                self.training_stopped = true;
                self.schedule.stop_training();
                Turn::TrainingStopped(error)
            }
        }
    }
}

/// Takes the oldest requests. Within the capacity that `new` reserved: the queue holds no more.
fn take(from: &mut Receiver<'_>, count: usize, into: &mut Vec<Request>) {
    into.clear();
    into.extend(std::iter::from_fn(|| from.take()).take(count.min(CAPACITY)));
}

#[cfg(test)]
mod tests;
