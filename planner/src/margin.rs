//! A margin for the noise of measurements.
//!
//! A plan is made of measured times and powers, and a search prefers the mode that happened to measure
//! well: of many modes below a budget, the one that is chosen is in truth a little above it more often
//! than not. A margin counts every measurement as larger by a share, so that a budget that the plan
//! says is kept is kept by the board as well. What it costs and brings: docs/evaluation.md.

use fulcrum_plan::Cell;
use fulcrum_plan::units::{MicroSec, MilliWatt};
use std::str::FromStr;

/// A share by which measurements count as larger, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margin(u16);

/// A margin that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no margin; allowed: 0 to 20 percent, such as 1 or 0.5")]
pub struct MarginError(String);

const PERCENT_MAX: f64 = 20.0;

impl FromStr for Margin {
    type Err = MarginError;

    /// From a percentage; rounded up to thousandths.
    fn from_str(text: &str) -> Result<Self, MarginError> {
        let percent: Option<f64> = text.parse().ok();
        let allowed = percent.filter(|percent| (0.0..=PERCENT_MAX).contains(percent));
        let thousandths = allowed.map(|percent| (percent * 10.0).ceil() as u16);
        thousandths
            .map(Self)
            .ok_or_else(|| MarginError(text.to_owned()))
    }
}

impl std::fmt::Display for Margin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 10.0)
    }
}

impl Margin {
    /// Whether it changes nothing.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// A measurement as it counts: both numbers larger by the margin, rounded up.
    #[must_use]
    pub fn widen(self, cell: Cell) -> Cell {
        let larger = |value: u32| {
            let scaled = u64::from(value) * u64::from(1000 + self.0);
            u32::try_from(scaled.div_ceil(1000)).unwrap_or(u32::MAX)
        };
        Cell {
            time_us: MicroSec(larger(cell.time_us.0)),
            power_mw: MilliWatt(larger(cell.power_mw.0)),
        }
    }

    /// The largest power that, widened, is within a budget.
    #[must_use]
    pub fn narrow(self, budget: MilliWatt) -> MilliWatt {
        let scaled = u64::from(budget.0) * 1000 / u64::from(1000 + self.0);
        MilliWatt(u32::try_from(scaled).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_narrowed_is_the_largest_that_widens_into_it() {
        for percent in ["0", "0.5", "1", "20"] {
            let margin: Margin = percent.parse().unwrap();
            for budget in [1, 999, 10_000, 33_333, u32::MAX / 2].map(MilliWatt) {
                let widened = |power: MilliWatt| {
                    let cell = Cell {
                        time_us: MicroSec(1),
                        power_mw: power,
                    };
                    margin.widen(cell).power_mw
                };
                let most = margin.narrow(budget);
                assert!(widened(most) <= budget, "{percent} {budget}");
                assert!(
                    widened(MilliWatt(most.0 + 1)) > budget,
                    "{percent} {budget}"
                );
            }
        }
    }

    #[test]
    fn margins_are_percentages() {
        assert_eq!("1.5".parse::<Margin>().unwrap().to_string(), "1.5%");
        assert!("0".parse::<Margin>().unwrap().is_none());
        for bad in ["-1", "21", "x", "", "NaN"] {
            let message = bad.parse::<Margin>().unwrap_err().to_string();
            assert!(message.contains("0 to 20 percent"), "{message}");
        }
    }
}
