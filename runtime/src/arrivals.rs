//! Arrival processes: when the next request comes.
//!
//! Open loop: arrivals do not wait for answers, so that a slow answer is not hidden by requests that were
//! not sent (coordinated omission). From one seed the same arrivals, on every machine.

use crate::random::Random;
use fulcrum_plan::units::MilliRps;

/// How requests arrive. All but the first arrive independently of each other, at a rate that may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// At equal distances.
    Constant,
    /// At one rate: exponential distances.
    Poisson,
    /// The rate swings by half around its mean once an hour.
    Diurnal,
    /// A second at twice the mean rate, a second without any.
    Bursts,
    /// Half a minute at twice the mean rate, half a minute without any.
    Dying,
}

const SECOND_NS: u64 = 1_000_000_000;
const HOUR_NS: u64 = 3_600 * SECOND_NS;

impl Process {
    /// Every process with its name at the command line.
    pub const NAMES: [(&'static str, Self); 5] = [
        ("constant", Self::Constant),
        ("poisson", Self::Poisson),
        ("diurnal", Self::Diurnal),
        ("bursts", Self::Bursts),
        ("dying", Self::Dying),
    ];

    /// The process of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, process)| *process)
    }

    /// The highest rate over the mean one.
    #[must_use]
    pub const fn peak(self) -> f64 {
        match self {
            Self::Constant | Self::Poisson => 1.0,
            Self::Diurnal => 1.5,
            Self::Bursts | Self::Dying => 2.0,
        }
    }

    /// Share of the highest rate at a time since the first arrival could come.
    #[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
    fn level(self, since_ns: u64) -> f64 {
        let second = since_ns / SECOND_NS;
        match self {
            Self::Constant | Self::Poisson => 1.0,
            Self::Diurnal => {
                let turn = since_ns as f64 / HOUR_NS as f64 * std::f64::consts::TAU;
                (1.0 + 0.5 * libm::sin(turn)) / 1.5
            }
            Self::Bursts => f64::from(u8::from(second.is_multiple_of(2))),
            Self::Dying => f64::from(u8::from(second % 60 < 30)),
        }
    }
}

/// The times at which requests arrive, without end.
#[derive(Clone, Debug)]
pub struct Arrivals {
    process: Process,
    /// Mean distance at the highest rate.
    gap_ns: f64,
    random: Random,
    start_ns: u64,
    since_ns: f64,
}

impl Arrivals {
    /// Arrivals at a mean rate, from `start_ns` on. `None` for a rate of zero.
    #[must_use]
    pub fn new(process: Process, rate: MilliRps, seed: u64, start_ns: u64) -> Option<Self> {
        (rate.0 > 0).then(|| Self {
            process,
            gap_ns: 1e12 / (f64::from(rate.0) * process.peak()),
            random: Random::new(seed),
            start_ns,
            since_ns: 0.0,
        })
    }
}

impl Iterator for Arrivals {
    type Item = u64;

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a sum of gaps that are not negative; a cast of a float saturates"
    )]
    fn next(&mut self) -> Option<u64> {
        loop {
            let gaps = match self.process {
                Process::Constant => 1.0,
                _ => self.random.exponential(),
            };
            self.since_ns += gaps * self.gap_ns;
            let since_ns = self.since_ns as u64;
            // Thinning (Lewis and Shedler, 1979): candidates at the highest rate, kept by the level.
            let level = self.process.level(since_ns);
            if level >= 1.0 || self.random.unit() <= level {
                return Some(self.start_ns.saturating_add(since_ns));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: MilliRps = MilliRps(60_000);

    fn arrivals(process: Process, seed: u64) -> Arrivals {
        Arrivals::new(process, RATE, seed, 5).unwrap()
    }

    #[test]
    fn constant_arrivals_keep_their_distance_and_lose_no_fraction() {
        let times: Vec<u64> = arrivals(Process::Constant, 1).take(60).collect();
        assert_eq!(times[0], 5 + 16_666_666);
        assert!(times[59].abs_diff(5 + 1_000_000_000) <= 1);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread_of_their_law() {
        let seed = 7;
        let count = 100_000;
        let times: Vec<u64> = arrivals(Process::Poisson, seed).take(count).collect();
        let gaps = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64);
        let mean = gaps.clone().sum::<f64>() / (count - 1) as f64;
        let variance = gaps.map(|gap| (gap - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
        let expected = 1e9 / 60.0;
        // Four standard errors of the mean; an exponential's deviation is its mean.
        assert!(
            (mean / expected - 1.0).abs() < 0.0127,
            "seed {seed}: {mean}"
        );
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "seed {seed}");
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals_and_another_seed_others() {
        let of = |seed| -> Vec<u64> { arrivals(Process::Poisson, seed).take(9).collect() };
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn every_process_has_its_mean_rate_and_its_silences() {
        for (name, process) in Process::NAMES {
            let hour = arrivals(process, 3).take_while(|at_ns| *at_ns < HOUR_NS);
            let times: Vec<u64> = hour.collect();
            // 216,000 expected: four standard deviations of a Poisson count are 0.9 %.
            assert!(
                times.len().abs_diff(216_000) < 2_000,
                "{name}: {}",
                times.len()
            );
            let in_silence = |at_ns: &&u64| match process {
                Process::Bursts => (**at_ns - 5) / SECOND_NS % 2 == 1,
                Process::Dying => (**at_ns - 5) / SECOND_NS % 60 >= 30,
                _ => false,
            };
            assert_eq!(times.iter().find(in_silence), None, "{name}");
        }
    }

    #[test]
    fn a_rate_of_zero_has_no_arrivals() {
        assert!(Arrivals::new(Process::Constant, MilliRps(0), 1, 0).is_none());
    }
}
