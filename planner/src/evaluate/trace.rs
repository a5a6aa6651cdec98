//! Arrivals that change: a trace of windows, each with the rate that was observed in it.

use crate::answer::Answer;
use crate::demand::Load;
use crate::random::Random;

/// Windows of a trace.
const WINDOWS: usize = 60;
/// Probability that the rate changes from a window to the next.
const CHANGE: f64 = 0.5;

/// A trace for every latency budget of `loads`: a random walk over their rates, the same for every
/// budget and on every machine.
pub(super) fn windows(loads: &[Load]) -> Vec<Load> {
    let mut rates: Vec<_> = loads.iter().map(|load| load.rate).collect();
    rates.sort_unstable();
    rates.dedup();
    let mut latencies: Vec<_> = loads.iter().map(|load| load.latency_us).collect();
    latencies.sort_unstable();
    latencies.dedup();
    let mut random = Random::new(0, &[b"arrivals"]);
    let mut at = rates.len() / 2;
    let mut walk = Vec::with_capacity(WINDOWS);
    for _ in 0..WINDOWS {
        if random.uniform() < CHANGE {
            let up = random.uniform() < 0.5;
            at = if up {
                (at + 1).min(rates.len() - 1)
            } else {
                at.saturating_sub(1)
            };
        }
        walk.push(rates[at]);
    }
    latencies
        .into_iter()
        .flat_map(|latency_us| walk.iter().map(move |&rate| Load { latency_us, rate }))
        .collect()
}

/// Changes of mode per window, between windows that both have an answer. `answers` are by load of
/// [`windows`], then by power.
pub(super) fn switches(answers: &[Vec<Option<Answer>>]) -> f64 {
    let mut changes = 0usize;
    let mut pairs = 0usize;
    for trace in answers.chunks(WINDOWS) {
        for pair in trace.windows(2) {
            for (before, after) in pair[0].iter().zip(&pair[1]) {
                if let (Some(before), Some(after)) = (before, after) {
                    pairs += 1;
                    changes += usize::from(before.mode != after.mode);
                }
            }
        }
    }
    changes as f64 / pairs.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulcrum_plan::units::{MicroSec, MilliRps};

    #[test]
    fn a_trace_stays_within_the_rates_and_moves_one_step_at_a_time() {
        let load = |latency, rate| Load {
            latency_us: MicroSec(latency),
            rate: MilliRps(rate),
        };
        let loads: Vec<Load> = (1..=9)
            .flat_map(|rate| [load(5, rate), load(6, rate)])
            .collect();
        let windows = windows(&loads);
        assert_eq!(windows.len(), 2 * WINDOWS);
        let (one, other) = windows.split_at(WINDOWS);
        for (a, b) in one.iter().zip(other) {
            assert_eq!(
                (a.rate, a.latency_us, b.latency_us),
                (b.rate, MicroSec(5), MicroSec(6))
            );
        }
        assert!(
            one.windows(2)
                .all(|pair| pair[0].rate.0.abs_diff(pair[1].rate.0) <= 1)
        );
        let mut rates: Vec<_> = one.iter().map(|load| load.rate).collect();
        rates.sort_unstable();
        rates.dedup();
        assert!(rates.len() > 3, "{rates:?}");
    }
}
