//! The bench: where a search spends its profiles.
//!
//! It counts what is paid, measures again what had a fault, bars what keeps failing, and ends the
//! search at its limit. A search sees trusted cells only (invariant I7, test
//! `i7_no_faulty_measurement_reaches_the_pool`).

use crate::pool::{Observation, Pool};
use crate::prior::{Evidence, Prior};
use crate::profile::{Fault, Measurement, ProfileError, ProfileSource, Run};
use crate::surrogate::clocks::Cube;
use crate::workload::Task;
use fulcrum_plan::{Cell, PowerMode};

/// Attempts at one run before it is barred. Stuck clocks are rare and come apart (770 rows of some
/// 20,000 in the published data); three in a row are no accident.
const ATTEMPTS_MAX: u32 = 3;

/// Told after every profile: profiles paid, the limit, and the last run with what it showed.
pub type OnProfile<'a> = dyn FnMut(usize, usize, &Run, &Measurement) + 'a;

/// Why a search cannot go on.
#[derive(Debug)]
pub enum Stop {
    /// The limit of profiles is reached.
    Spent,
    /// The source failed.
    Failed(ProfileError),
}

/// A measurement that was thrown away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// What was asked.
    pub run: Run,
    /// Why it was not trusted.
    pub fault: Fault,
}

/// A source, what may be measured with it, and what has been.
pub struct Bench<'a> {
    source: &'a mut dyn ProfileSource,
    task: &'a Task,
    modes: &'a [PowerMode],
    prior: &'a Prior,
    limit: usize,
    spent: usize,
    pool: Pool,
    discarded: Vec<Discarded>,
    on_profile: &'a mut OnProfile<'a>,
}

impl<'a> Bench<'a> {
    /// A bench for `limit` profiles over candidate `modes`, with what is known of the board from before.
    pub fn new(
        source: &'a mut dyn ProfileSource,
        task: &'a Task,
        modes: &'a [PowerMode],
        prior: &'a Prior,
        limit: usize,
        on_profile: &'a mut OnProfile<'a>,
    ) -> Self {
        Self {
            source,
            task,
            modes,
            prior,
            limit,
            spent: 0,
            pool: Pool::new(modes.len(), task.slots().len()),
            discarded: Vec::new(),
            on_profile,
        }
    }

    /// The workloads.
    #[must_use]
    pub const fn task(&self) -> &'a Task {
        self.task
    }

    /// The candidate modes, ascending.
    #[must_use]
    pub const fn modes(&self) -> &'a [PowerMode] {
        self.modes
    }

    /// What the prior adds to what is observed here.
    #[must_use]
    pub fn evidence(&self) -> Evidence {
        Evidence::new(self.task, self.modes, &Cube::of(self.modes), self.prior)
    }

    /// What was observed so far.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Profiles paid, discarded ones included.
    #[must_use]
    pub const fn spent(&self) -> usize {
        self.spent
    }

    /// Profiles that may still be paid.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.limit - self.spent
    }

    /// Ends the session: the observations, the profiles paid, and what was thrown away.
    #[must_use]
    pub fn finish(self) -> (Pool, usize, Vec<Discarded>) {
        (self.pool, self.spent, self.discarded)
    }

    /// Measures a (mode, slot), unless it is known; `None` if no attempt could be trusted.
    ///
    /// # Errors
    /// [`Stop::Spent`] at the limit, [`Stop::Failed`] if the source fails.
    pub fn measure(&mut self, mode: usize, slot: usize) -> Result<Option<Cell>, Stop> {
        match self.pool.observation(mode, slot) {
            Observation::Seen(cell) => return Ok(Some(cell)),
            Observation::Barred => return Ok(None),
            Observation::Unknown => {}
        }
        let workload = self.task.workload_of(slot);
        let run = Run {
            mode: self.modes[mode],
            role: workload.role,
            workload: workload.name.clone(),
            batch: self.task.slots()[slot].batch,
        };
        for _ in 0..ATTEMPTS_MAX {
            if self.left() == 0 {
                return Err(Stop::Spent);
            }
            let measurement = self.source.profile(&run).map_err(Stop::Failed)?;
            self.spent += 1;
            (self.on_profile)(self.spent, self.limit, &run, &measurement);
            match measurement.fault(&run.mode) {
                None => {
                    let seen = Observation::Seen(measurement.cell);
                    self.pool.record(mode, slot, seen);
                    return Ok(Some(measurement.cell));
                }
                Some(fault) => self.discarded.push(Discarded {
                    run: run.clone(),
                    fault,
                }),
            }
        }
        self.pool.record(mode, slot, Observation::Barred);
        Ok(None)
    }

    /// Measures every slot of a mode; whether all of them are known now.
    ///
    /// # Errors
    /// As [`Bench::measure`].
    pub fn measure_all(&mut self, mode: usize) -> Result<bool, Stop> {
        let mut complete = true;
        for slot in 0..self.pool.slot_count() {
            complete &= self.measure(mode, slot)?.is_some();
        }
        Ok(complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::profile::faults::{Faults, Unreliable};
    use crate::profile::synthetic::Synthetic;
    use crate::profile::{Truth as _, find_workload};
    use crate::workload::Role;

    #[test]
    fn i7_no_faulty_measurement_reaches_the_pool() {
        let orin = boards::named("orin-agx").unwrap();
        let exact = Synthetic::new(orin, 1).without_noise();
        let lstm = find_workload(&exact, Role::Train, "lstm").unwrap();
        let task = Task::new(Some(lstm), vec![]).unwrap();
        let modes = exact.modes(&[]);
        let prior = Prior::default();
        for seed in 0..5 {
            let faults = Faults {
                seed,
                stuck_clock: 0.4,
                over_current: 0.2,
                ..Faults::default()
            };
            let mut source = Unreliable::new(exact.clone(), faults);
            let mut on_profile = |_: usize, _: usize, _: &Run, _: &Measurement| {};
            let mut bench = Bench::new(&mut source, &task, &modes, &prior, 200, &mut on_profile);
            let mut at = 0;
            while bench.measure(at * 7919 % modes.len(), 0).is_ok() {
                at += 1;
            }
            let (pool, spent, discarded) = bench.finish();
            assert_eq!(spent, 200, "seed {seed}");
            assert!(discarded.len() > 40, "seed {seed}: {}", discarded.len());
            assert_eq!(pool.order().len() + discarded.len(), 200, "seed {seed}");
            for &(mode, slot) in pool.order() {
                let run = Run {
                    mode: modes[mode],
                    role: Role::Train,
                    workload: "lstm".into(),
                    batch: 16,
                };
                assert_eq!(pool.cell(mode, slot), exact.truth(&run), "seed {seed}");
            }
        }
    }
}
