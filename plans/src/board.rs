//! Board descriptions: which clocks a board has.
//!
//! The truth on a device is what its kernel lists (`available_frequencies`, …): these tables are what
//! the workstation plans with, and a check on the device. They are written as TOML in
//! `plans/boards/*.toml` (see `description`) and embedded by the build script of the crates that
//! need them.

use crate::mode::PowerMode;
use crate::units::Khz;
use heapless::{String, Vec};
use serde::{Deserialize, Serialize};

/// Longest board name in bytes.
pub const NAME_LEN_MAX: usize = 24;
/// Most clocks of one table (CPU of an AGX Orin: 29).
pub const CLOCKS_MAX: usize = 40;
/// Most GPU tables (firmware generations) of one board.
pub const GPU_TABLES_MAX: usize = 2;
/// Most module ids of one board.
pub const MODULES_MAX: usize = 6;
/// Most CPU clusters of one board.
pub const CLUSTERS_MAX: usize = 8;
/// Most power rails that are summed to the board's total.
pub const RAILS_MAX: usize = 6;

/// Most boards that one build embeds.
pub const BOARDS_MAX: usize = 16;

/// A board's name, such as `orin-agx`.
pub type Name = String<NAME_LEN_MAX>;
/// An ascending table of clocks.
pub type Clocks = Vec<Khz, CLOCKS_MAX>;

/// What is known of a board before one is at hand. Source of the shipped ones: `docs/boards.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Board {
    /// Name at the command line and in plans.
    pub name: Name,
    /// Name for people.
    pub title: String<64>,
    /// Module ids as the device tree's `compatible` lists them, such as `p3701-0005`; a "Super"
    /// variant carries its suffix (`p3767-0005-super`).
    pub modules: Vec<String<24>, MODULES_MAX>,
    /// CPU cores of the module.
    pub cores: u8,
    /// First CPU of each cluster (cpufreq policy number).
    pub clusters: Vec<u8, CLUSTERS_MAX>,
    /// CPU clocks, ascending.
    pub cpu_khz: Clocks,
    /// Lowest CPU clock that stock power modes leave as minimum (jetson.md 1.2); not a limit for us,
    /// but the minimum that has to be lowered first below it.
    pub cpu_floor_khz: Khz,
    /// GPU clocks, ascending; one table per firmware generation, the one to plan with first.
    pub gpu_khz: Vec<Clocks, GPU_TABLES_MAX>,
    /// Memory clocks, ascending.
    pub emc_khz: Clocks,
    /// INA3221 rails whose sum is the board's power.
    pub power_rails: Vec<String<24>, RAILS_MAX>,
}

/// The boards that a build script embedded.
pub type Boards = Vec<Board, BOARDS_MAX>;

/// Which part of a mode a board does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModeError {
    /// Zero cores, or more than the board has.
    Cores(u8),
    /// A CPU clock that is not in the table.
    Cpu(Khz),
    /// A GPU clock that is in none of the tables.
    Gpu(Khz),
    /// A memory clock that is not in the table.
    Emc(Khz),
}

impl core::fmt::Display for ModeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Cores(cores) => write!(f, "{cores} cores"),
            Self::Cpu(khz) => write!(f, "CPU clock {khz}"),
            Self::Gpu(khz) => write!(f, "GPU clock {khz}"),
            Self::Emc(khz) => write!(f, "memory clock {khz}"),
        }
    }
}

impl core::error::Error for ModeError {}

impl Board {
    /// Whether the board has every clock of `mode`.
    ///
    /// # Errors
    /// The first of cores, CPU, GPU, memory that the board does not have.
    pub fn check_mode(&self, mode: &PowerMode) -> Result<(), ModeError> {
        if mode.cores == 0 || mode.cores > self.cores {
            return Err(ModeError::Cores(mode.cores));
        }
        if self.cpu_khz.binary_search(&mode.cpu_khz).is_err() {
            return Err(ModeError::Cpu(mode.cpu_khz));
        }
        if self.gpu_tables_with(mode.gpu_khz) == 0 {
            return Err(ModeError::Gpu(mode.gpu_khz));
        }
        if self.emc_khz.binary_search(&mode.emc_khz).is_err() {
            return Err(ModeError::Emc(mode.emc_khz));
        }
        Ok(())
    }

    /// Bit set of the GPU tables that list a clock: bit 0 is the first table. A board has one of its
    /// tables at a time, so the clocks of one plan must share a table.
    #[must_use]
    pub fn gpu_tables_with(&self, gpu_khz: Khz) -> u8 {
        let mut tables = 0u8;
        let mut bit = 1u8;
        for table in &self.gpu_khz {
            if table.binary_search(&gpu_khz).is_ok() {
                tables |= bit;
            }
            bit = bit.wrapping_shl(1);
        }
        tables
    }
}

/// Decodes the boards that a build script embedded (`description::encode_all`).
///
/// # Errors
/// The bytes are not such a list; only a build with mismatched crates can do this.
pub fn decode_all(bytes: &[u8]) -> Result<Boards, postcard::Error> {
    postcard::from_bytes(bytes)
}
