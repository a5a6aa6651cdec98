//! MAXN: every knob at its maximum, as the vendor's mode of the same name.

use crate::bench::{Bench, Stop};

/// Measures every slot of the largest mode.
///
/// # Errors
/// [`Stop`], as the bench gave it.
pub fn run(bench: &mut Bench<'_>) -> Result<(), Stop> {
    // The order of modes is lexicographic, so the largest has the most of everything only if the
    // candidates are a full grid; the sum of logarithms is the most of everything in any case.
    let most = |mode: &fulcrum_plan::PowerMode| {
        [
            mode.cpu_khz.0,
            mode.gpu_khz.0,
            mode.emc_khz.0,
            mode.cores.into(),
        ]
        .iter()
        .map(|&value| libm::log(f64::from(value)))
        .sum::<f64>()
    };
    let modes = bench.modes();
    let largest = (0..modes.len()).max_by(|&a, &b| most(&modes[a]).total_cmp(&most(&modes[b])));
    if let Some(mode) = largest {
        bench.measure_all(mode)?;
    }
    Ok(())
}
