//! A power mode: what Fulcrum sets on a board.

use crate::units::Khz;
use serde::{Deserialize, Serialize};

/// Online CPU cores and the three clocks, each pinned (minimum = maximum).
///
/// The order is lexicographic (cores, CPU, GPU, memory) and is the tie-break of every search and
/// every selection.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PowerMode {
    /// Online CPU cores, cpu0 included.
    pub cores: u8,
    /// Clock of every online CPU cluster.
    pub cpu_khz: Khz,
    /// GPU clock. devfreq writes it in Hz.
    pub gpu_khz: Khz,
    /// Memory (EMC) clock. The kernel writes it in Hz.
    pub emc_khz: Khz,
}

impl core::fmt::Display for PowerMode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "{} cores, CPU {} kHz, GPU {} kHz, EMC {} kHz",
            self.cores, self.cpu_khz.0, self.gpu_khz.0, self.emc_khz.0
        )
    }
}
