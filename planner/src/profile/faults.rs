//! Makes a source as unreliable as a board in the field (fulcrum.md section 7).
//!
//! - noise on time and power;
//! - a clock that stays at its old value: the measurement is that of another mode, and the clocks read
//!   back say so;
//! - over-current events, during which the board throttles itself;
//! - a board that stops answering after a number of profiles.
//!
//! `--faults` names them as a list, such as `time=0.75,power=0.5,stuck=4,over-current=1,lost=60`.
//!
//! Every fault depends on seed, run and attempt alone, so that a search repeats and resumes.

use crate::profile::{Measurement, ProfileError, ProfileSource, Run};
use crate::random::Random;
use crate::workload::Workload;
use fulcrum_plan::units::{Khz, MicroSec, MilliWatt};
use fulcrum_plan::{GpuMasks, PowerMode};
use std::collections::BTreeMap;
use std::str::FromStr;

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

/// Why a text names no faults.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultsError {
    /// An unknown name, or no value.
    #[error("`{0}` is no fault; allowed: {ALLOWED}")]
    Unknown(String),
    /// A value out of range.
    #[error("`{0}`: the value is out of range; allowed: {ALLOWED}")]
    Value(String),
}

const ALLOWED: &str = "time=PERCENT and power=PERCENT (deviation of noise, 0 to 50), stuck=PERCENT and \
    over-current=PERCENT (of the profiles, 0 to 100), lost=PROFILES; several with commas between";

impl FromStr for Faults {
    type Err = FaultsError;

    fn from_str(text: &str) -> Result<Self, FaultsError> {
        let mut faults = Self::default();
        for part in text.split(',') {
            let unknown = || FaultsError::Unknown(part.to_owned());
            let (name, value) = part.split_once('=').ok_or_else(unknown)?;
            let share = |percent_max: f64| {
                let percent: Option<f64> = value.parse().ok();
                let allowed = percent.filter(|percent| (0.0..=percent_max).contains(percent));
                let wrong = || FaultsError::Value(part.to_owned());
                allowed.map(|percent| percent / 100.0).ok_or_else(wrong)
            };
            match name {
                "time" => faults.time_sigma = share(50.0)?,
                "power" => faults.power_sigma = share(50.0)?,
                "stuck" => faults.stuck_clock = share(100.0)?,
                "over-current" => faults.over_current = share(100.0)?,
                "lost" => {
                    let profiles = value.parse().ok();
                    let wrong = || FaultsError::Value(part.to_owned());
                    faults.lost_after = Some(profiles.ok_or_else(wrong)?);
                }
                _ => return Err(unknown()),
            }
        }
        Ok(faults)
    }
}

impl std::fmt::Display for Faults {
    /// What changes measurements; a board that is lost leaves those before as they are.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |share: f64| 100.0 * share;
        write!(
            f,
            "faults time={},power={},stuck={},over-current={} seed {}",
            percent(self.time_sigma),
            percent(self.power_sigma),
            percent(self.stuck_clock),
            percent(self.over_current),
            self.seed
        )
    }
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
        format!("{} with {}", self.source.identity(), self.faults)
    }

    fn workloads(&self) -> &[Workload] {
        self.source.workloads()
    }

    fn modes(&self, workloads: &[Workload]) -> Vec<PowerMode> {
        self.source.modes(workloads)
    }

    fn gpu_masks(&self) -> GpuMasks {
        self.source.gpu_masks()
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
        let other = Run {
            mode: in_effect,
            ..run.clone()
        };
        let mut measurement = match self.source.profile(&other) {
            // A replay without this mode cannot show it: the clock is not stuck then.
            Err(ProfileError::NotMeasured { .. }) if other != *run => self.source.profile(run)?,
            measured => measured?,
        };
        self.gpu_khz = Some(measurement.mode_read_back.gpu_khz);
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
        // With a stuck clock it was another mode that the source measured.
        let in_effect = Run {
            mode: measurement.mode_read_back,
            ..run.clone()
        };
        self.source.replayed(&in_effect, measurement);
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

    #[test]
    fn faults_are_named_in_percent_and_bad_ones_say_what_is_allowed() {
        let faults: Faults = "time=0.75,power=0.5,stuck=4,over-current=1,lost=60"
            .parse()
            .unwrap();
        let expected = Faults {
            seed: 0,
            time_sigma: 0.0075,
            power_sigma: 0.005,
            stuck_clock: 0.04,
            over_current: 0.01,
            lost_after: Some(60),
        };
        assert_eq!(faults, expected);
        for bad in [
            "",
            "noise=1",
            "time",
            "time=-1",
            "stuck=101",
            "power=x",
            "lost=1.5",
            "time=NaN",
        ] {
            let message = bad.parse::<Faults>().unwrap_err().to_string();
            assert!(message.contains("over-current=PERCENT"), "{bad}: {message}");
        }
    }

    #[test]
    fn a_search_resumes_where_its_board_was_lost_with_the_same_identity() {
        let lost: Faults = "time=1,lost=9".parse().unwrap();
        let found: Faults = "time=1".parse().unwrap();
        assert_eq!(board(lost).identity(), board(found).identity());
        assert_ne!(board(lost).identity(), board(Faults::default()).identity());
    }
}
