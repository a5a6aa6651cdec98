//! Exhaustive: every slot of every mode.

use crate::bench::{Bench, Stop};

/// Measures everything, in order.
///
/// # Errors
/// [`Stop`], as the bench gave it.
pub fn run(bench: &mut Bench<'_>) -> Result<(), Stop> {
    for mode in 0..bench.modes().len() {
        bench.measure_all(mode)?;
    }
    Ok(())
}
