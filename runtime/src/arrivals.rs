//! Arrival processes: when the next request comes.
//!
//! Open loop: arrivals do not wait for answers, so that a slow answer is not hidden by requests that were
//! not sent (coordinated omission). From one seed the same arrivals, on every machine.

use crate::random::Random;
use fulcrum_plan::units::MilliRps;

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// At equal distances.
    Constant,
    /// Independently of each other: exponential distances.
    Poisson,
}

impl Process {
    /// Every process with its name at the command line.
    pub const NAMES: [(&'static str, Self); 2] =
        [("constant", Self::Constant), ("poisson", Self::Poisson)];

    /// The process of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, process)| *process)
    }
}

/// The times at which requests arrive, from zero on, without end.
#[derive(Clone, Debug)]
pub struct Arrivals {
    process: Process,
    gap_ns: f64,
    random: Random,
    next_ns: f64,
}

impl Arrivals {
    /// Arrivals at a mean rate, the first one gap after `start_ns`. `None` for a rate of zero.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
    pub fn new(process: Process, rate: MilliRps, seed: u64, start_ns: u64) -> Option<Self> {
        (rate.0 > 0).then(|| Self {
            process,
            gap_ns: 1e12 / f64::from(rate.0),
            random: Random::new(seed),
            next_ns: start_ns as f64,
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
        let gaps = match self.process {
            Process::Constant => 1.0,
            Process::Poisson => self.random.exponential(),
        };
        self.next_ns += gaps * self.gap_ns;
        Some(self.next_ns as u64)
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
    fn a_rate_of_zero_has_no_arrivals() {
        assert!(Arrivals::new(Process::Constant, MilliRps(0), 1, 0).is_none());
    }
}
