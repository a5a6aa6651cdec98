//! From values to places on the paper.

use super::ticks;

/// How values map to the length of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Linear,
    Logarithmic,
}

/// An axis: its range of values, and the ticks on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    kind: Kind,
    low: f64,
    high: f64,
    ticks: Vec<f64>,
}

/// Smallest and largest of the values that are finite.
fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |range, value| {
        let (low, high) = range.unwrap_or((value, value));
        Some((low.min(value), high.max(value)))
    })
}

impl Scale {
    /// A linear axis from tick to tick around the values, with about `most` steps.
    #[must_use]
    pub fn linear(values: impl IntoIterator<Item = f64>, most: u32) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        let ticks = ticks::linear(low, high, most);
        Self {
            kind: Kind::Linear,
            low: ticks[0],
            high: ticks[ticks.len() - 1],
            ticks,
        }
    }

    /// A linear axis that starts at zero.
    #[must_use]
    pub fn from_zero(values: impl IntoIterator<Item = f64>, most: u32) -> Self {
        Self::linear(values.into_iter().chain([0.0]), most)
    }

    /// A logarithmic axis around positive values, with about `most` ticks.
    #[must_use]
    pub fn logarithmic(values: impl IntoIterator<Item = f64>, most: u32) -> Self {
        let positive = values.into_iter().filter(|value| *value > 0.0);
        let (low, high) = range(positive).unwrap_or((1.0, 10.0));
        // A little air, so that no point lies on the frame.
        let (low, high) = (low / 1.12, high * 1.12);
        Self {
            kind: Kind::Logarithmic,
            low,
            high,
            ticks: ticks::logarithmic(low, high, most),
        }
    }

    /// Room for `count` rows at 0, 1, 2, …, with a tick for each.
    #[must_use]
    pub fn rows(count: usize) -> Self {
        let ticks: Vec<f64> = (0u32..).map(f64::from).take(count.max(1)).collect();
        Self {
            kind: Kind::Linear,
            low: -0.5,
            high: ticks[ticks.len() - 1] + 0.5,
            ticks,
        }
    }

    /// The ticks, ascending.
    #[must_use]
    pub fn ticks(&self) -> &[f64] {
        &self.ticks
    }

    /// First and last value.
    #[must_use]
    pub const fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Where a value lies, 0 at the first end and 1 at the last; ends beyond them.
    #[must_use]
    pub fn place(&self, value: f64) -> f64 {
        let place = match self.kind {
            Kind::Linear => (value - self.low) / (self.high - self.low),
            Kind::Logarithmic => (value / self.low).ln() / (self.high / self.low).ln(),
        };
        place.clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_axis_ends_on_ticks() {
        let scale = Scale::linear([11.7, 51.1], 6);
        assert_eq!(scale.ends(), (10.0, 60.0));
        assert!((scale.place(35.0) - 0.5).abs() < 1e-12);
        assert_eq!(Scale::from_zero([4.0, 9.0], 5).ends(), (0.0, 10.0));
    }

    #[test]
    fn a_logarithmic_axis_gives_equal_factors_equal_lengths() {
        let scale = Scale::logarithmic([10.0, 1000.0], 8);
        let length = |a, b| scale.place(b) - scale.place(a);
        assert!((length(20.0, 40.0) - length(300.0, 600.0)).abs() < 1e-12);
        assert!(scale.place(10.0) > 0.0 && scale.place(1000.0) < 1.0);
    }

    #[test]
    fn nothing_and_one_value_still_make_an_axis() {
        for scale in [
            Scale::linear([], 5),
            Scale::linear([7.0], 5),
            Scale::from_zero([0.0], 5),
            Scale::logarithmic([], 5),
            Scale::logarithmic([7.0, -1.0, f64::NAN], 5),
        ] {
            let (low, high) = scale.ends();
            assert!(low < high && scale.ticks().len() > 1, "{scale:?}");
            assert!((0.0..=1.0).contains(&scale.place(7.0)));
        }
    }
}
