//! What goes wrong in an hour.

use super::{HOUR_NS, SECOND_NS};
use fulcrum_runtime::random::Random;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Everything takes this many times as long as in the plan.
    Slower(f64),
    /// Everything draws this many times as much.
    Hungrier(f64),
    /// The board gets hot above this share of the power budget, and slow if nothing is done about it.
    Heat(f64),
    /// Over-current events above this share of the power budget.
    OverCurrent(f64),
    /// Power cannot be read.
    SensorAbsent,
    /// Every reading of power is the last one before the fault.
    SensorStuck,
    /// One reading of power is many times too high.
    SensorSpike,
    /// Something else sets the clocks of another row of the plan.
    Drift,
    /// The process is killed, and started again at the end of the fault.
    Kill,
}

/// A fault and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// What.
    pub kind: Kind,
    /// Since when.
    pub from_ns: u64,
    /// Until when.
    pub until_ns: u64,
}

impl Fault {
    /// Draws one.
    #[must_use]
    pub fn draw(random: &mut Random) -> Self {
        let mut between = |low: f64, high: f64| low + (high - low) * random.unit();
        let from_ns = (between(0.02, 0.8) * HOUR_NS as f64) as u64;
        let (kind, seconds) = match (between(0.0, 9.0) as u32).min(8) {
            0 => (Kind::Slower(between(1.05, 1.3)), between(60.0, 900.0)),
            1 => (Kind::Hungrier(between(1.04, 1.15)), between(60.0, 900.0)),
            2 => (Kind::Heat(between(0.7, 0.95)), between(30.0, 300.0)),
            3 => (Kind::OverCurrent(between(0.8, 0.97)), between(5.0, 60.0)),
            4 => (Kind::SensorAbsent, between(1.0, 600.0)),
            5 => (Kind::SensorStuck, between(1.0, 600.0)),
            6 => (Kind::SensorSpike, 0.5),
            7 => (Kind::Drift, 0.5),
            _ => (Kind::Kill, between(1.0, 5.0)),
        };
        Self {
            kind,
            from_ns,
            until_ns: from_ns + (seconds * SECOND_NS as f64) as u64,
        }
    }

    /// Whether it is present at a time.
    #[must_use]
    pub fn holds(&self, now_ns: u64) -> bool {
        (self.from_ns..self.until_ns).contains(&now_ns)
    }
}

/// How many times as long everything takes, apart from heat.
#[must_use]
pub fn pace(faults: &[Fault], now_ns: u64) -> f64 {
    let present = faults.iter().filter(|fault| fault.holds(now_ns));
    present.fold(1.0, |factor, fault| match fault.kind {
        Kind::Slower(by) => factor * by,
        _ => factor,
    })
}

/// How many times as much everything draws.
#[must_use]
pub fn appetite(faults: &[Fault], now_ns: u64) -> f64 {
    let present = faults.iter().filter(|fault| fault.holds(now_ns));
    present.fold(1.0, |factor, fault| match fault.kind {
        Kind::Hungrier(by) => factor * by,
        _ => factor,
    })
}

/// Share of the power budget that neither heat nor over-current forbids.
#[must_use]
pub fn allowed(faults: &[Fault], now_ns: u64) -> f64 {
    let present = faults.iter().filter(|fault| fault.holds(now_ns));
    present.fold(1.0, |share, fault| match fault.kind {
        Kind::Heat(above) | Kind::OverCurrent(above) => above.min(share),
        _ => share,
    })
}
