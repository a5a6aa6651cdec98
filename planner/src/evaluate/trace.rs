//! Arrivals that change: traces of windows, each with the rate that was observed in it.
//!
//! Three kinds of arrivals, each for a few latency budgets: a day with its night, bursts on a quiet
//! base, and a Poisson process whose mean jumps. In every window the answer is selected again. The
//! board stays in the mode it has, at whatever batch size is best there, unless that mode fails the new
//! demand or another one trains faster by [`HYSTERESIS`] (on a device, fulcrumd holds on to the rate
//! instead: `runtime/src/guard/rate.rs`).
//!
//! A change of mode costs what its slowest knob takes: a clock is effective after 1 ms (CPU), 5 ms
//! (GPU) or 8 ms (memory), a core comes or goes in tens of ms (jetson.md section 4.1). Nothing is
//! trained meanwhile.

use crate::answer::Answer;
use crate::demand::Load;
use crate::random::Random;
use fulcrum_plan::PowerMode;
use fulcrum_plan::units::{MicroSec, MilliRps};

/// Seed of the arrivals, the same for every strategy.
pub(super) const SEED: u64 = 1;
/// Windows of a trace.
pub(super) const WINDOWS: usize = 60;
/// Length of a window in s.
const WINDOW_S: u32 = 10;
/// Latency budgets that each kind of arrivals is asked with.
const LATENCIES: usize = 6;
/// The mode changes for a gain in training of more than this share.
const HYSTERESIS: f64 = 0.02;

/// Time until a new clock is effective: CPU, GPU, memory; jetson.md section 4.1.
const CPU_MS: f64 = 1.0;
const GPU_MS: f64 = 5.0;
const EMC_MS: f64 = 8.0;
/// A core that comes or goes; the same section has no number of a Jetson but "tens of ms".
const CORE_MS: f64 = 30.0;

/// A kind of arrivals: the rates of all windows, in requests per second, between two rates.
type Arrivals = fn(&mut Random, f64, f64) -> Vec<f64>;

const KINDS: [(&str, Arrivals); 3] = [
    ("diurnal", diurnal),
    ("bursts", bursts),
    ("poisson", poisson),
];

/// One period of a day, with 5 % of noise.
fn diurnal(random: &mut Random, low: f64, high: f64) -> Vec<f64> {
    let wave = |at: usize| {
        let angle = std::f64::consts::TAU * at as f64 / WINDOWS as f64;
        low + (high - low) * (0.5 - 0.5 * libm::cos(angle))
    };
    (0..WINDOWS)
        .map(|at| (wave(at) * (1.0 + 0.05 * random.normal())).clamp(low, high))
        .collect()
}

/// A quiet base; a burst of two to six windows starts in every tenth quiet window.
fn bursts(random: &mut Random, low: f64, high: f64) -> Vec<f64> {
    let (mut level, mut left) = (0.0, 0);
    (0..WINDOWS)
        .map(|_| {
            if left == 0 && random.uniform() < 0.1 {
                (level, left) = (0.6 + 0.4 * random.uniform(), 2 + random.below(5));
            }
            let share = if left > 0 {
                level
            } else {
                0.15 * random.uniform()
            };
            left = left.saturating_sub(1);
            low + (high - low) * share
        })
        .collect()
}

/// Requests of a Poisson process, counted by window; its mean changes every tenth window.
fn poisson(random: &mut Random, low: f64, high: f64) -> Vec<f64> {
    let mut mean = low;
    (0..WINDOWS)
        .map(|at| {
            if at % 10 == 0 {
                mean = low + (high - low) * random.uniform();
            }
            let window_s = f64::from(WINDOW_S);
            let gap = |random: &mut Random| -libm::log(1.0 - random.uniform()) / mean;
            let (mut count, mut time) = (0u32, gap(random));
            while time < window_s {
                count += 1;
                time += gap(random);
            }
            f64::from(count.max(1)) / window_s
        })
        .collect()
}

/// `most` entries of a list, spread from its first to its last.
fn spread<T: Copy>(all: &[T], most: usize) -> Vec<T> {
    if all.len() <= most {
        return all.to_vec();
    }
    (0..most)
        .map(|at| all[at * (all.len() - 1) / (most - 1)])
        .collect()
}

/// The traces over the rates and the latency budgets of `loads`, one behind the other, of [`WINDOWS`]
/// windows each; the same on every machine.
pub(super) fn windows(loads: &[Load]) -> Vec<Load> {
    let rates = || loads.iter().map(|load| f64::from(load.rate.0) / 1e3);
    let (low, high) = (
        rates().fold(f64::INFINITY, f64::min),
        rates().fold(0.0, f64::max),
    );
    let mut latencies: Vec<MicroSec> = loads.iter().map(|load| load.latency_us).collect();
    latencies.sort_unstable();
    latencies.dedup();
    let mut windows = Vec::new();
    for (name, arrivals) in KINDS {
        let mut random = Random::new(SEED, &[b"arrivals", name.as_bytes()]);
        let rates = arrivals(&mut random, low, high);
        for latency_us in spread(&latencies, LATENCIES) {
            windows.extend(rates.iter().map(|rate| Load {
                latency_us,
                rate: MilliRps((rate * 1e3).round() as u32),
            }));
        }
    }
    windows
}

/// Keeps a mode from window to window where that is good enough. `answers` are by load of
/// [`windows`], then by power; `of_mode(load, power, mode)` is the best answer of one mode.
pub(super) fn hold(
    answers: &mut [Vec<Option<Answer>>],
    of_mode: impl Fn(usize, usize, usize) -> Option<Answer>,
) {
    let powers = answers.first().map_or(0, Vec::len);
    for power in 0..powers {
        let mut held: Option<usize> = None;
        for (load, answers) in answers.iter_mut().enumerate() {
            if load % WINDOWS == 0 {
                held = None;
            }
            let best = answers[power];
            let kept = held.zip(best).and_then(|(mode, best)| {
                let kept = of_mode(load, power, mode)?;
                (per_request(&kept) >= (1.0 - HYSTERESIS) * per_request(&best)).then_some(kept)
            });
            if kept.is_some() {
                answers[power] = kept;
            }
            held = answers[power].map(|answer| answer.mode).or(held);
        }
    }
}

fn per_request(answer: &Answer) -> f64 {
    let throughput = &answer.throughput;
    throughput.steps as f64 * f64::from(throughput.step_batch) / f64::from(throughput.batch)
}

/// What changing modes costs over some traces.
#[derive(Clone, Debug, Default)]
pub(super) struct Switching {
    /// Windows with an answer that have one before them.
    pub(super) pairs: usize,
    /// Those in which the mode changes.
    pub(super) changes: usize,
    /// Share of a window that changing takes, by load, then by power.
    pub(super) shares: Vec<Vec<f64>>,
}

impl Switching {
    /// Of answers by load of [`windows`], then by power.
    pub(super) fn of(answers: &[Vec<Option<Answer>>], modes: &[PowerMode]) -> Self {
        let mut switching = Self::default();
        let mut before: Vec<Option<usize>> = Vec::new();
        for (load, answers) in answers.iter().enumerate() {
            if load % WINDOWS == 0 {
                before = vec![None; answers.len()];
            }
            let mut shares = vec![0.0; answers.len()];
            for ((answer, before), share) in answers.iter().zip(&mut before).zip(&mut shares) {
                let Some(answer) = answer else { continue };
                if let Some(from) = before.replace(answer.mode) {
                    switching.pairs += 1;
                    switching.changes += usize::from(from != answer.mode);
                    *share =
                        switch_ms(&modes[from], &modes[answer.mode]) / (1e3 * f64::from(WINDOW_S));
                }
            }
            switching.shares.push(shares);
        }
        switching
    }

    /// Changes of mode per window.
    pub(super) fn per_window(&self) -> f64 {
        self.changes as f64 / self.pairs.max(1) as f64
    }

    /// Share of the time that changes take.
    pub(super) fn time_share(&self) -> f64 {
        self.shares.iter().flatten().sum::<f64>() / self.pairs.max(1) as f64
    }
}

/// Time that a change of mode takes, in ms: its knobs are set one after the other.
fn switch_ms(from: &PowerMode, to: &PowerMode) -> f64 {
    let if_changed = |changed: bool, ms: f64| if changed { ms } else { 0.0 };
    f64::from(from.cores.abs_diff(to.cores)) * CORE_MS
        + if_changed(from.cpu_khz != to.cpu_khz, CPU_MS)
        + if_changed(from.gpu_khz != to.gpu_khz, GPU_MS)
        + if_changed(from.emc_khz != to.emc_khz, EMC_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulcrum_plan::problem::Throughput;
    use fulcrum_plan::units::{Khz, MilliWatt};

    #[test]
    fn the_traces_stay_between_the_rates_and_differ_in_kind() {
        let load = |latency: u32, rate: u32| Load {
            latency_us: MicroSec(latency),
            rate: MilliRps(rate * 1000),
        };
        let loads: Vec<Load> = (30..=120)
            .flat_map(|rate| (1..=16).map(move |latency| load(latency, rate)))
            .collect();
        let windows = windows(&loads);
        assert_eq!(windows.len(), KINDS.len() * LATENCIES * WINDOWS);
        let of_kind = |kind: usize| -> Vec<u32> {
            let first = kind * LATENCIES * WINDOWS;
            windows[first..first + WINDOWS]
                .iter()
                .map(|load| load.rate.0)
                .collect()
        };
        let (diurnal, bursts, poisson) = (of_kind(0), of_kind(1), of_kind(2));
        for rates in [&diurnal, &bursts] {
            assert!(rates.iter().all(|rate| (30_000..=120_000).contains(rate)));
        }
        assert!(diurnal[0] < 40_000 && diurnal[30] > 100_000 && diurnal[59] < 40_000);
        let quiet = bursts.iter().filter(|&&rate| rate < 45_000).count();
        let loud = bursts.iter().filter(|&&rate| rate > 80_000).count();
        assert_eq!(quiet + loud, WINDOWS);
        assert!(quiet > loud && loud > 5, "{quiet} {loud}");
        // Counted requests: tenths of a request per second.
        assert!(poisson.iter().all(|rate| rate % 100 == 0));
        let latencies: Vec<u32> = windows[..LATENCIES * WINDOWS]
            .iter()
            .step_by(WINDOWS)
            .map(|load| load.latency_us.0)
            .collect();
        assert_eq!(latencies, [1, 4, 7, 10, 13, 16]);
    }

    fn answer(mode: usize, steps: u64) -> Option<Answer> {
        Some(Answer {
            mode,
            offer: 0,
            power_mw: MilliWatt(1),
            throughput: Throughput {
                steps,
                step_batch: 1,
                batch: 1,
            },
            latency_scaled: 1,
        })
    }

    #[test]
    fn a_mode_is_held_until_it_fails_or_another_gains_enough() {
        // Mode 1 is best by 1 % in window 1, by 3 % in window 2; in window 3 only mode 2 works.
        let mut answers = vec![
            vec![answer(0, 100)],
            vec![answer(1, 101)],
            vec![answer(1, 103)],
            vec![answer(2, 50)],
            vec![None],
            vec![answer(2, 50)],
        ];
        hold(&mut answers, |load, _, _| {
            (load < 3).then(|| answer(0, 100)).flatten()
        });
        let modes: Vec<_> = answers.iter().map(|a| a[0].map(|a| a.mode)).collect();
        assert_eq!(modes, [Some(0), Some(0), Some(1), Some(2), None, Some(2)]);

        let mode = |cores, khz| PowerMode {
            cores,
            cpu_khz: Khz(khz),
            gpu_khz: Khz(khz),
            emc_khz: Khz(5),
        };
        let modes = [mode(4, 1), mode(4, 2), mode(8, 2)];
        let switching = Switching::of(&answers, &modes);
        assert_eq!((switching.pairs, switching.changes), (4, 2));
        let shares: Vec<f64> = switching
            .shares
            .iter()
            .map(|by_power| by_power[0])
            .collect();
        assert_eq!(shares, [0.0, 0.0, 6e-4, 120e-4, 0.0, 0.0]);
    }
}
