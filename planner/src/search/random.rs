//! RND: random modes, every slot of each, until the limit.

use crate::bench::{Bench, Stop};
use crate::random::Random;

/// Measures random modes; the last one in part, if the limit is no multiple of the slots.
///
/// # Errors
/// [`Stop`], as the bench gave it.
pub fn run(bench: &mut Bench<'_>, seed: u64) -> Result<(), Stop> {
    let modes = bench.modes().len();
    for mode in Random::new(seed, &[b"search random"]).sample(modes, modes) {
        bench.measure_all(mode)?;
    }
    Ok(())
}
