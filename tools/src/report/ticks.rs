//! Round numbers for axes and grids: steps of 1, 2 or 5 times a power of ten.

/// Factors of a power of ten that people count in.
const NICE: [f64; 3] = [1.0, 2.0, 5.0];
/// Tolerance, relative to a step, within which a limit is on a tick.
const SLACK: f64 = 1e-9;

/// `factor * 10^exponent`, exact where a decimal literal is.
fn nice(factor: f64, exponent: i32) -> f64 {
    match exponent {
        0.. => factor * 10f64.powi(exponent),
        _ => factor / 10f64.powi(-exponent),
    }
}

/// 1-2-5 numbers around a positive value, ascending.
fn candidates(value: f64) -> impl DoubleEndedIterator<Item = f64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the exponent of a finite float"
    )]
    let exponent = value.log10().floor() as i32;
    (exponent - 1..=exponent + 1).flat_map(|e| NICE.map(|factor| nice(factor, e)))
}

/// The smallest 1-2-5 number that is at least `value`.
///
/// # Panics
/// If `value` is not positive and finite.
#[must_use]
pub fn up(value: f64) -> f64 {
    assert!(value > 0.0 && value.is_finite(), "{value}");
    candidates(value)
        .find(|tick| *tick >= value * (1.0 - SLACK))
        .unwrap_or(value)
}

/// The largest 1-2-5 number that is at most `value`.
///
/// # Panics
/// If `value` is not positive and finite.
#[must_use]
pub fn down(value: f64) -> f64 {
    assert!(value > 0.0 && value.is_finite(), "{value}");
    candidates(value)
        .rev()
        .find(|tick| *tick <= value * (1.0 + SLACK))
        .unwrap_or(value)
}

/// Multiples of a 1-2-5 step that enclose `low..=high` with at most `most` steps between them.
///
/// A range without width is widened, so there are always two ticks or more.
#[must_use]
pub fn linear(low: f64, high: f64, most: u32) -> Vec<f64> {
    let width = match high - low {
        width if width > 0.0 => width,
        _ if low == 0.0 => 1.0,
        _ => low.abs() * 0.1,
    };
    let mut step = up(width / f64::from(most.max(1)));
    loop {
        let first = (low / step + SLACK).floor();
        let last = (high / step - SLACK).ceil().max(first + 1.0);
        if last - first <= f64::from(most.max(1)) || step > width {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of steps, one at least"
            )]
            let count = (last - first) as u32;
            // A quotient by a whole number is the decimal that was meant: 3 / 10, not 3 * 0.1.
            let tick = |at: f64| match step < 1.0 {
                true => at / (1.0 / step).round(),
                false => at * step,
            };
            return (0..=count).map(|at| tick(first + f64::from(at))).collect();
        }
        step = up(step * 1.01);
    }
}

/// Ticks of a logarithmic axis inside `low..=high` (positive): 1, 2 and 5 in every decade, only powers
/// of ten if those would be more than `most`, and linear ones if there are fewer than three.
#[must_use]
pub fn logarithmic(low: f64, high: f64, most: u32) -> Vec<f64> {
    let is_inside = |tick: &f64| (low * (1.0 - SLACK)..=high * (1.0 + SLACK)).contains(tick);
    let mut ticks = Vec::new();
    let mut tick = up(low);
    while is_inside(&tick) {
        ticks.push(tick);
        tick = up(tick * 1.01);
    }
    if ticks.len() > most as usize {
        let is_power = |tick: &f64| (tick.log10() - tick.log10().round()).abs() < 1e-6;
        ticks.retain(is_power);
    }
    if ticks.len() < 3 {
        ticks = linear(low, high, most.min(5));
        ticks.retain(is_inside);
    }
    ticks
}

/// A tick as text, with the decimals that its step needs.
#[must_use]
pub fn label(tick: f64) -> String {
    super::number::trimmed(tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_1_2_or_5_and_enclose_the_range() {
        for (low, high, most, expected) in [
            (11.7, 51.1, 6, "10 20 30 40 50 60"),
            (0.0, 17.2, 5, "0 5 10 15 20"),
            (0.0, 1.0, 5, "0 0.2 0.4 0.6 0.8 1"),
            (4.2, 14.9, 6, "4 6 8 10 12 14 16"),
            (0.31, 0.32, 4, "0.31 0.315 0.32"),
            (5.0, 5.0, 4, "5 5.2 5.4 5.6"),
        ] {
            let ticks = linear(low, high, most);
            let text: Vec<String> = ticks.iter().map(|tick| label(*tick)).collect();
            if low < high {
                assert_eq!(text.join(" "), expected);
            }
            assert!(
                ticks[0] <= low && ticks[ticks.len() - 1] >= high,
                "{ticks:?}"
            );
            assert!((2..=most as usize + 1).contains(&ticks.len()), "{ticks:?}");
        }
    }

    #[test]
    fn any_range_gets_few_ticks_that_enclose_it() {
        let mut range = 1e-6;
        while range < 1e9 {
            for low in [-3.0 * range, 0.0, 0.37 * range, 12.0 * range] {
                for most in 2..9 {
                    let ticks = linear(low, low + range, most);
                    assert!(ticks.len() <= most as usize + 2, "{low} {range}: {ticks:?}");
                    assert!(ticks[0] <= low + range * SLACK, "{low} {range}: {ticks:?}");
                    let last = ticks[ticks.len() - 1];
                    assert!(
                        last >= low + range * (1.0 - 1e-6),
                        "{low} {range}: {ticks:?}"
                    );
                }
            }
            range *= 1.7;
        }
    }

    #[test]
    fn logarithmic_ticks_count_1_2_5_inside_the_range() {
        let ticks = |low, high, most| {
            let ticks = logarithmic(low, high, most);
            ticks.into_iter().map(label).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ticks(18.0, 640.0, 8), "20 50 100 200 500");
        assert_eq!(ticks(3.0, 90_000.0, 6), "10 100 1000 10000");
        assert_eq!(ticks(0.004, 0.03, 6), "0.005 0.01 0.02");
        assert_eq!(ticks(60.0, 90.0, 6), "60 70 80 90");
    }

    #[test]
    fn up_and_down_end_on_1_2_5() {
        for (value, below, above) in [
            (1.0, 1.0, 1.0),
            (3.0, 2.0, 5.0),
            (0.7, 0.5, 1.0),
            (99.0, 50.0, 100.0),
        ] {
            assert_eq!((down(value), up(value)), (below, above), "{value}");
        }
    }
}
