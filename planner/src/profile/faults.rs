//! Makes a source as unreliable as a board in the field (fulcrum.md section 7).
//!
//! - noise on time and power;
//! - a clock that stays at its old value: the measurement is that of another mode, and the clocks read
//!   back say so;
//! - over-current events, during which the board throttles itself;
//! - a board that stops answering after a number of profiles.
//!
//! Every fault depends on seed, run and attempt alone, so that a search repeats and resumes.

use crate::profile::{Measurement, ProfileError, ProfileSource, Run};
use crate::random::Random;
use crate::workload::Workload;
use fulcrum_plan::PowerMode;
use fulcrum_plan::units::{Khz, MicroSec, MilliWatt};
use std::collections::BTreeMap;

/// How a source fails.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Seed of the faults.
    pub seed: u64,
    /// Relative standard deviation of the time.
    pub time_sigma: f64,
    /// Relative standard deviation of the power.
    pub power_sigma: f64,
    /// Probability that the GPU clock stays where the run before left it.
    pub stuck_clock: f64,
    /// Probability of over-current events during a run; the run takes 1.5 times as long.
    pub over_current: f64,
    /// The board is lost after this many profiles.
    pub lost_after: Option<u64>,
}

/// A source with faults.
#[derive(Clone, Debug)]
pub struct Unreliable<S> {
    source: S,
    faults: Faults,
    profiles: u64,
    gpu_khz: Option<Khz>,
    attempts: BTreeMap<String, u64>,
}

impl<S: ProfileSource> Unreliable<S> {
    /// Adds faults to a source.
    pub const fn new(source: S, faults: Faults) -> Self {
        Self {
            source,
            faults,
            profiles: 0,
            gpu_khz: None,
            attempts: BTreeMap::new(),
        }
    }

    fn random(&mut self, run: &Run) -> Random {
        let name = run.to_string();
        let attempt = self.attempts.entry(name.clone()).or_default();
        let random = Random::new(
            self.faults.seed,
            &[b"faults", name.as_bytes(), &attempt.to_le_bytes()],
        );
        *attempt += 1;
        random
    }
}

fn times(value: u32, factor: f64) -> u32 {
    (f64::from(value) * factor)
        .round()
        .clamp(1.0, f64::from(u32::MAX)) as u32
}

impl<S: ProfileSource> ProfileSource for Unreliable<S> {
    fn board(&self) -> &str {
        self.source.board()
    }

    fn identity(&self) -> String {
        format!("{} with {:?}", self.source.identity(), self.faults)
    }

    fn workloads(&self) -> &[Workload] {
        self.source.workloads()
    }

    fn modes(&self, workloads: &[Workload]) -> Vec<PowerMode> {
        self.source.modes(workloads)
    }

    fn profile(&mut self, run: &Run) -> Result<Measurement, ProfileError> {
        if self
            .faults
            .lost_after
            .is_some_and(|limit| self.profiles >= limit)
        {
            return Err(ProfileError::Lost {
                reason: format!("no answer after {} profiles", self.profiles),
            });
        }
        self.profiles += 1;
        let mut random = self.random(run);
        let is_stuck = random.uniform() < self.faults.stuck_clock;
        let in_effect = PowerMode {
            gpu_khz: self
                .gpu_khz
                .filter(|_| is_stuck)
                .unwrap_or(run.mode.gpu_khz),
            ..run.mode
        };
        self.gpu_khz = Some(in_effect.gpu_khz);
        let mut measurement = self.source.profile(&Run {
            mode: in_effect,
            ..run.clone()
        })?;
        let mut time = libm::exp(self.faults.time_sigma * random.normal());
        let power = libm::exp(self.faults.power_sigma * random.normal());
        if random.uniform() < self.faults.over_current {
            measurement.over_current_events += 1;
            time *= 1.5;
        }
        measurement.cell.time_us = MicroSec(times(measurement.cell.time_us.0, time));
        measurement.cell.power_mw = MilliWatt(times(measurement.cell.power_mw.0, power));
        Ok(measurement)
    }

    fn replayed(&mut self, run: &Run, measurement: &Measurement) {
        self.profiles += 1;
        let _ = self.random(run);
        self.gpu_khz = Some(measurement.mode_read_back.gpu_khz);
        self.source.replayed(run, measurement);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::profile::Fault;
    use crate::profile::synthetic::Synthetic;
    use crate::workload::Role;

    fn runs() -> Vec<Run> {
        let board = Synthetic::new(boards::named("orin-agx").unwrap(), 1);
        let modes = board.modes(&[]);
        let run = |at: usize| Run {
            mode: modes[at * 7919 % modes.len()],
            role: Role::Train,
            workload: "lstm".into(),
            batch: 16,
        };
        (0..300).map(run).collect()
    }

    fn board(faults: Faults) -> Unreliable<Synthetic> {
        let board = Synthetic::new(boards::named("orin-agx").unwrap(), 1).without_noise();
        Unreliable::new(board, faults)
    }

    #[test]
    fn a_stuck_clock_gives_the_time_of_another_mode_and_reads_back() {
        let mut source = board(Faults {
            stuck_clock: 0.3,
            seed: 4,
            ..Faults::default()
        });
        let mut exact = board(Faults::default());
        let mut stuck = 0;
        for run in runs() {
            let seen = source.profile(&run).unwrap();
            let in_effect = Run {
                mode: seen.mode_read_back,
                ..run.clone()
            };
            assert_eq!(seen.cell, exact.profile(&in_effect).unwrap().cell);
            stuck += usize::from(seen.fault(&run.mode) == Some(Fault::Clocks));
        }
        assert!((40..140).contains(&stuck), "{stuck} of 300");
    }

    #[test]
    fn over_current_is_reported_and_a_lost_board_stays_lost() {
        let faults = Faults {
            over_current: 0.5,
            lost_after: Some(20),
            seed: 9,
            ..Faults::default()
        };
        let mut source = board(faults);
        let seen: Vec<_> = runs().iter().map(|run| source.profile(run)).collect();
        let counted = seen
            .iter()
            .flatten()
            .zip(runs())
            .filter(|(m, run)| m.fault(&run.mode) == Some(Fault::OverCurrent))
            .count();
        assert!((4..17).contains(&counted), "{counted} of 20");
        assert!(seen[..20].iter().all(Result::is_ok));
        assert!(
            seen[20..]
                .iter()
                .all(|r| matches!(r, Err(ProfileError::Lost { .. })))
        );
    }
}
