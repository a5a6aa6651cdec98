//! What a board's kernel says it has: CPU clusters, clock tables, kinds of memory-clock control.
//!
//! Read once at start. Where the kernel speaks, the board description is only a check on it.

use fulcrum_plan::board::{CLUSTERS_MAX, Clocks};
use fulcrum_plan::units::Khz;
use fulcrum_plan::{GpuMasks, PowerMode};

/// Two readings of one memory clock may differ by this part of a thousand: sources write the top
/// clock of an AGX Orin as 3199 and as 3200 MHz (jetson.md 2.1), and the table steps are over 7 %.
const SAME_CLOCK_PER_MILLE: u64 = 1;

/// CPUs that share one clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Number of the cpufreq policy: the first CPU.
    pub policy: u8,
    /// The CPUs, as bits.
    pub cpus: u64,
}

/// How the memory clock can be capped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmcCap {
    /// `nvpmodel_emc_cap/emc_iso_cap` (JetPack 4 and 5): 0 is "no cap", and the top clock cannot be
    /// written as a number (jetson.md 1.4).
    Iso,
    /// `nvpmodel_clk_cap/emc` (JetPack 6 and 7): takes and reads back the clock.
    Clock,
}

/// A board's fixed facts.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Every CPU, as bits.
    pub cpus: u64,
    /// CPU clusters in the order of their policies.
    pub clusters: heapless::Vec<Cluster, CLUSTERS_MAX>,
    /// CPU clocks, ascending.
    pub cpu_khz: Clocks,
    /// GPU clocks, ascending.
    pub gpu_khz: Clocks,
    /// Memory clocks, ascending.
    pub emc_khz: Clocks,
    /// How the memory clock can be capped; `None` if it cannot.
    pub emc_cap: Option<EmcCap>,
    /// Whether the memory clock can be locked to a rate (debugfs, root).
    pub emc_lock: bool,
    /// Power-gating masks of the GPU: they change with a reboot only.
    pub gpu_masks: GpuMasks,
}

/// Part of a power mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// CPU clusters.
    Cpu,
    /// GPU.
    Gpu,
    /// Memory.
    Emc,
}

impl core::fmt::Display for Domain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "CPU",
            Self::Gpu => "GPU",
            Self::Emc => "memory",
        })
    }
}

/// Why the live board cannot have a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// Zero cores, or more than there are.
    Cores {
        /// Cores of the mode.
        asked: u8,
        /// Cores of the board.
        available: u8,
    },
    /// A clock that the kernel's table does not list. The kernel would round it silently.
    Clock {
        /// Whose clock.
        domain: Domain,
        /// Clock of the mode.
        asked: Khz,
        /// Nearest clock in the table.
        nearest: Khz,
    },
}

impl core::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Cores { asked, available } => {
                write!(f, "{asked} cores asked; this board has 1 to {available}")
            }
            Self::Clock {
                domain,
                asked,
                nearest,
            } => write!(
                f,
                "this board's firmware lists no {domain} clock of {asked}; the nearest is \
                 {nearest}: make a plan for the clocks that `fulcrumd doctor` lists"
            ),
        }
    }
}

impl Topology {
    /// Number of CPUs.
    #[must_use]
    pub fn core_count(&self) -> u8 {
        u8::try_from(self.cpus.count_ones()).unwrap_or(u8::MAX)
    }

    /// Whether the live board lists every clock of `mode`.
    ///
    /// # Errors
    /// The first of cores, CPU, GPU, memory that it does not list.
    pub fn check(&self, mode: &PowerMode) -> Result<(), Unavailable> {
        if mode.cores == 0 || mode.cores > self.core_count() {
            return Err(Unavailable::Cores {
                asked: mode.cores,
                available: self.core_count(),
            });
        }
        for (domain, table, asked) in [
            (Domain::Cpu, &self.cpu_khz, mode.cpu_khz),
            (Domain::Gpu, &self.gpu_khz, mode.gpu_khz),
            (Domain::Emc, &self.emc_khz, mode.emc_khz),
        ] {
            let nearest = nearest(table, asked);
            let listed = match domain {
                Domain::Emc => same_clock(nearest.0.into(), asked.0.into()),
                Domain::Cpu | Domain::Gpu => nearest == asked,
            };
            if !listed {
                return Err(Unavailable::Clock {
                    domain,
                    asked,
                    nearest,
                });
            }
        }
        Ok(())
    }

    /// The first `count` CPUs, as bits. NVIDIA's own modes take cores off from the last one.
    #[must_use]
    pub fn first_cpus(&self, count: u8) -> u64 {
        let mut set = 0;
        let mut rest = self.cpus;
        for _ in 0..count {
            let lowest = rest & rest.wrapping_neg();
            set |= lowest;
            rest &= !lowest;
        }
        set
    }
}

/// The table's clock nearest to `asked`; 0 of an empty table.
#[must_use]
pub fn nearest(table: &Clocks, asked: Khz) -> Khz {
    table
        .iter()
        .copied()
        .min_by_key(|khz| khz.0.abs_diff(asked.0))
        .unwrap_or_default()
}

/// Whether two readings are one memory clock.
#[must_use]
pub fn same_clock(a: u64, b: u64) -> bool {
    a.abs_diff(b).saturating_mul(1000) <= SAME_CLOCK_PER_MILLE.saturating_mul(a.max(b))
}

/// The CPUs of a bit set, ascending.
pub(super) fn cpus_of(set: u64) -> impl DoubleEndedIterator<Item = u8> {
    (0..64u8).filter(move |cpu| set & (1 << cpu) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_memory_clock_is_spelled_3199_and_3200() {
        assert!(same_clock(3_199_000_000, 3_200_000_000));
        assert!(!same_clock(2_133_000_000, 3_199_000_000));
        assert!(!same_clock(0, 204_000_000));
        assert!(same_clock(0, 0));
    }

    #[test]
    fn cores_are_counted_from_the_first() {
        let topology = Topology {
            cpus: 0b1111_1111_1111,
            clusters: heapless::Vec::new(),
            cpu_khz: Clocks::new(),
            gpu_khz: Clocks::new(),
            emc_khz: Clocks::new(),
            emc_cap: None,
            emc_lock: false,
            gpu_masks: GpuMasks::default(),
        };
        assert_eq!(topology.first_cpus(4), 0b1111);
        assert_eq!(topology.first_cpus(12), topology.cpus);
        assert!(cpus_of(0b101).eq([0, 2]));
    }
}
