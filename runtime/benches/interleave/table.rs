//! What the variants did, and how they compare.

/// What one variant did.
#[derive(Clone, Copy, Default)]
pub(crate) struct Measured {
    /// Answered, late or not.
    pub(crate) served: u64,
    /// Late, rejected or failed.
    pub(crate) missed: u64,
    pub(crate) arrived: u64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
    pub(crate) max_us: u64,
    pub(crate) steps_per_s: f64,
    /// Steps that were cancelled.
    pub(crate) steps_lost: u64,
}

impl Measured {
    pub(crate) fn missed_per_mille(&self) -> f64 {
        self.missed as f64 * 1e3 / self.arrived.max(1) as f64
    }
}

pub(crate) fn print_head() {
    println!(
        "  variant    rep   served missed/k   p50 us   p99 us p99.9 us   max us   steps/s   lost"
    );
}

pub(crate) fn print(name: &str, repetition: u64, measured: &Measured) {
    let Measured {
        served,
        p50_us,
        p99_us,
        p999_us,
        max_us,
        steps_per_s,
        steps_lost,
        ..
    } = measured;
    let per_mille = measured.missed_per_mille();
    println!(
        "  {name:<10} {repetition:>3} {served:>8} {per_mille:>9.2} {p50_us:>8} {p99_us:>8} {p999_us:>8} {max_us:>8} \
         {steps_per_s:>9.1} {steps_lost:>6}"
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
    pub(crate) fn add(&mut self, done: &[(&str, Measured)]) {
        let of = |wanted| done.iter().find(|(name, _)| *name == wanted);
        let (Some((_, one)), Some((_, other))) = (of(self.one), of(self.other)) else {
            return;
        };
        self.steps.push(one.steps_per_s / other.steps_per_s);
        self.missed
            .push((one.missed_per_mille(), other.missed_per_mille()));
    }

    pub(crate) fn print(&mut self) {
        self.steps.sort_by(f64::total_cmp);
        let (Some(first), Some(last)) = (self.steps.first(), self.steps.last()) else {
            return;
        };
        let fewer = self.missed.iter().filter(|(one, other)| one <= other);
        println!(
            "  {} over {}: steps/s x {:.3} (median; {first:.3} to {last:.3}), no more missed in {} of {}",
            self.one,
            self.other,
            self.steps[self.steps.len() / 2],
            fewer.count(),
            self.missed.len()
        );
    }
}
