//! What the variants did, and how they compare.

use crate::Round;
use fulcrum_runtime::telemetry::Telemetry;

/// What one variant does, over all slices of a repetition.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) telemetry: Telemetry,
    pub(crate) arrived: u64,
    pub(crate) rejected: u64,
    /// Who still waited at the end of a slice, for longer than the budget.
    pub(crate) overdue: u64,
    /// Whole training steps.
    pub(crate) steps: f64,
    pub(crate) seconds: f64,
}

impl Tally {
    pub(crate) fn steps_per_s(&self) -> f64 {
        self.steps / self.seconds
    }

    /// Mean time of a step that was done in one piece; `None` if there was none.
    pub(crate) fn step_s(&self) -> Option<f64> {
        let train = &self.telemetry.train;
        (train.count() > 0).then(|| train.sum_ns() as f64 / 1e9 / train.count() as f64)
    }

    /// Late, rejected or failed, of a thousand requests.
    fn missed_per_mille(&self) -> f64 {
        let late = self.telemetry.late.get() + self.overdue;
        let missed = late + self.rejected + self.telemetry.failed.get();
        missed as f64 * 1e3 / self.arrived.max(1) as f64
    }
}

/// The pace of a repetition's rounds: median, least and most.
pub(crate) fn print_pace(rounds: &[Round]) {
    let spread = |of: fn(&Round) -> u64| {
        let mut values: Vec<u64> = rounds.iter().map(of).collect();
        values.sort_unstable();
        let (least, most) = (values.first(), values.last());
        let median = values.get(values.len() / 2);
        [median, least, most].map(|value| value.map_or(0, |value| *value))
    };
    let [batch, batch_least, batch_most] = spread(|round| round.infer_ns / 1_000);
    let [step, step_least, step_most] = spread(|round| round.train_ns / 1_000);
    let [rate, ..] = spread(|round| u64::from(round.rate.0) / 1_000);
    let [budget, ..] = spread(|round| round.budget_ns / 1_000);
    println!(
        "batch in {batch} us ({batch_least} to {batch_most}), step in {step} us ({step_least} to {step_most}), \
         {rate} requests/s, budget {budget} us"
    );
}

pub(crate) fn print_head() {
    println!(
        "  variant    rep   served missed/k   p50 us   p99 us p99.9 us   max us   steps/s   lost"
    );
}

pub(crate) fn print(name: &str, repetition: u64, tally: &Tally) {
    let Telemetry {
        served,
        steps_lost,
        latency,
        ..
    } = &tally.telemetry;
    let quantile_us = |millionths| latency.quantile_ns(millionths) / 1_000;
    println!(
        "  {name:<10} {repetition:>3} {:>8} {:>9.2} {:>8} {:>8} {:>8} {:>8} {:>9.1} {:>6}",
        served.get(),
        tally.missed_per_mille(),
        quantile_us(500_000),
        quantile_us(990_000),
        quantile_us(999_000),
        latency.max_ns() / 1_000,
        tally.steps_per_s(),
        steps_lost.get(),
    );
}

/// Of one kind of step at one load, every repetition's pair of two variants.
pub(crate) struct Ratios {
    one: &'static str,
    other: &'static str,
    steps: Vec<f64>,
    missed: Vec<(f64, f64)>,
}

impl Ratios {
    pub(crate) const fn new(one: &'static str, other: &'static str) -> Self {
        Self {
            one,
            other,
            steps: Vec::new(),
            missed: Vec::new(),
        }
    }

    /// Adds a repetition; nothing if one of both did not run in it.
    pub(crate) fn add(&mut self, done: &[(&str, Tally)]) {
        let of = |wanted| done.iter().find(|(name, _)| *name == wanted);
        let (Some((_, one)), Some((_, other))) = (of(self.one), of(self.other)) else {
            return;
        };
        self.steps.push(one.steps_per_s() / other.steps_per_s());
        self.missed
            .push((one.missed_per_mille(), other.missed_per_mille()));
    }

    pub(crate) fn print(&mut self) {
        self.steps.sort_by(f64::total_cmp);
        let (Some(first), Some(last)) = (self.steps.first(), self.steps.last()) else {
            return;
        };
        let fewer = self.missed.iter().filter(|(one, other)| one <= other);
        let less = self.missed.iter().filter(|(one, other)| one < other);
        println!(
            "  {} over {}: steps/s x {:.3} (median; {first:.3} to {last:.3}), no more missed in {} of {}, fewer in {}",
            self.one,
            self.other,
            self.steps[self.steps.len() / 2],
            fewer.count(),
            self.missed.len(),
            less.count()
        );
    }
}
