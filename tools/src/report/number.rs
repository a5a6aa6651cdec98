//! Numbers and modes for people.

use fulcrum_plan::PowerMode;
use fulcrum_plan::units::{Khz, MicroSec, MilliWatt};

/// Power in W with one decimal.
pub fn watts(power: MilliWatt) -> String {
    format!("{:.1}", f64::from(power.0) / 1e3)
}

/// A budget in W, without decimals that are zero.
pub fn budget(power: MilliWatt) -> String {
    trimmed(f64::from(power.0) / 1e3)
}

/// Milliseconds with three significant digits.
pub fn millis(time: MicroSec) -> String {
    significant(f64::from(time.0) / 1e3)
}

/// Three significant digits, and every digit before the point; nothing is `0`.
pub fn significant(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let decimals = match value.abs() {
        // 9.995 prints as 10.0, not as 10.00.
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.995 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

/// At most three decimals, none that are zero.
pub fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A share as a whole percentage.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn mhz(clock: Khz) -> String {
    format!("{:.0}", f64::from(clock.0) / 1e3)
}

/// A mode in one line, clocks in whole MHz.
pub fn mode(mode: &PowerMode) -> String {
    format!(
        "{} cores, CPU {}, GPU {}, EMC {} MHz",
        mode.cores,
        mhz(mode.cpu_khz),
        mhz(mode.gpu_khz),
        mhz(mode.emc_khz)
    )
}

/// A mode as table cells: cores, then CPU, GPU and memory clock in whole MHz.
pub fn mode_cells(mode: &PowerMode) -> [String; 4] {
    [
        mode.cores.to_string(),
        mhz(mode.cpu_khz),
        mhz(mode.gpu_khz),
        mhz(mode.emc_khz),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_are_significant() {
        for (value, text) in [
            (0.1234, "0.123"),
            (1.0, "1.00"),
            (9.994, "9.99"),
            (9.996, "10.0"),
            (99.94, "99.9"),
            (99.96, "100"),
            (1234.5, "1234"),
            (0.0, "0"),
        ] {
            assert_eq!(significant(value), text, "{value}");
        }
    }

    #[test]
    fn budgets_have_no_idle_zeros() {
        assert_eq!(budget(MilliWatt(15_000)), "15");
        assert_eq!(budget(MilliWatt(7_500)), "7.5");
        assert_eq!(watts(MilliWatt(7_543)), "7.5");
    }
}
