//! Integers with their unit in the type.
//!
//! Everything inside Fulcrum is an integer in one of these units; watts, milliseconds and requests
//! per second exist at the command line only. Conversions from a float always say which way they
//! round, and always round against ourselves: a measured time or power up, a budget down.

use serde::{Deserialize, Serialize};

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident, $suffix:literal) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The bare number.
            #[must_use]
            pub const fn get(self) -> u32 {
                self.0
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, concat!("{} ", $suffix), self.0)
            }
        }
    };
}

unit! {
    /// A clock in kHz (the native unit of cpufreq; GPU and memory clocks are whole kHz on every board).
    Khz, "kHz"
}
unit! {
    /// Power in mW.
    MilliWatt, "mW"
}
unit! {
    /// A duration in µs (at most 71 minutes).
    MicroSec, "us"
}
unit! {
    /// An arrival rate in thousandths of a request per second.
    MilliRps, "mreq/s"
}

/// Measurements carry this much slack before they are rounded up, so that `11.742 W * 1000`, which
/// is `11742.000000000002` in binary, stays 11742 mW.
const DECIMAL_SLACK: f64 = 1e-6;

/// `value * factor` rounded by `round`, or `None` outside the range of a `u32` and for NaN.
fn scaled(value: f64, factor: f64, round: impl Fn(f64) -> f64) -> Option<u32> {
    let exact = value * factor;
    if !(0.0..=f64::from(u32::MAX)).contains(&exact) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "range checked above; a cast of a float saturates, so the slack cannot wrap"
    )]
    Some(round(exact) as u32)
}

/// Rounds up what is below 2^32. `f64::ceil` lives in std; this crate does not.
fn up(value: f64) -> f64 {
    let whole = down(value);
    if whole < value { whole + 1.0 } else { whole }
}

/// Rounds down what is below 2^32; what is below zero by the slack becomes zero.
fn down(value: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`scaled` checked the range; a cast of a float saturates"
    )]
    f64::from(value as u32)
}

impl MilliWatt {
    /// A measured power in W, rounded up to the next mW. `None` outside 0..=4.29 MW or for NaN.
    #[must_use]
    pub fn measured_w(power_w: f64) -> Option<Self> {
        scaled(power_w, 1e3, |mw| up(mw - DECIMAL_SLACK)).map(Self)
    }

    /// A power budget in W, rounded down to the mW. `None` outside 0..=4.29 MW or for NaN.
    #[must_use]
    pub fn budget_w(power_w: f64) -> Option<Self> {
        scaled(power_w, 1e3, |mw| down(mw + DECIMAL_SLACK)).map(Self)
    }
}

impl MicroSec {
    /// A measured time in ms, rounded up to the next µs. `None` outside 0..=71 min or for NaN.
    #[must_use]
    pub fn measured_ms(time_ms: f64) -> Option<Self> {
        scaled(time_ms, 1e3, |us| up(us - DECIMAL_SLACK)).map(Self)
    }

    /// A latency budget in ms, rounded down to the µs. `None` outside 0..=71 min or for NaN.
    #[must_use]
    pub fn budget_ms(time_ms: f64) -> Option<Self> {
        scaled(time_ms, 1e3, |us| down(us + DECIMAL_SLACK)).map(Self)
    }
}

impl MilliRps {
    /// An arrival rate in requests per second, rounded up (more load is the safe side). `None`
    /// outside 0..=4.29 million or for NaN.
    #[must_use]
    pub fn per_second(rate: f64) -> Option<Self> {
        scaled(rate, 1e3, |milli| up(milli - DECIMAL_SLACK)).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_round_up_budgets_round_down() {
        assert_eq!(MilliWatt::measured_w(11.742), Some(MilliWatt(11_742)));
        assert_eq!(MilliWatt::measured_w(11.7421), Some(MilliWatt(11_743)));
        assert_eq!(MilliWatt::budget_w(30.0), Some(MilliWatt(30_000)));
        assert_eq!(MilliWatt::budget_w(29.999_9), Some(MilliWatt(29_999)));
        assert_eq!(MicroSec::measured_ms(96.0626), Some(MicroSec(96_063)));
        assert_eq!(MicroSec::budget_ms(0.1), Some(MicroSec(100)));
        assert_eq!(MilliRps::per_second(60.0), Some(MilliRps(60_000)));
        assert_eq!(MilliRps::per_second(0.333_34), Some(MilliRps(334)));
    }

    #[test]
    fn three_decimals_are_exact_over_the_whole_range_of_a_board() {
        for mw in 0..100_000u32 {
            let watts = f64::from(mw) / 1e3;
            assert_eq!(MilliWatt::measured_w(watts), Some(MilliWatt(mw)));
            assert_eq!(MilliWatt::budget_w(watts), Some(MilliWatt(mw)));
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 1e9] {
            assert_eq!(MilliWatt::measured_w(bad), None, "{bad}");
            assert_eq!(MicroSec::budget_ms(bad), None, "{bad}");
            assert_eq!(MilliRps::per_second(bad), None, "{bad}");
        }
    }
}
