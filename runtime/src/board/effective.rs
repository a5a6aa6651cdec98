//! The clocks that run, where the kernel measures them (jetson.md 1.2, 1.3).
//!
//! Bounds say what was asked for. What became of it is told by `cpuinfo_cur_freq` (counted by hardware,
//! root only) and, while the GPU is powered, by its `cur_freq`. Neither shows an over-current throttle of
//! 1 ms: that is what the event counters are for.
//!
//! Measuring has a price: the driver wakes the CPU, counts for half a millisecond, and logs a line when
//! the clock is not the one it set. So profiles look here (I7), and the loop does not.

use super::gpu;
use super::number;
use super::reading::Reading;
use super::startup::read_start;
use super::topology::Topology;
use fulcrum_plan::PowerMode;
use fulcrum_plan::units::Khz;
use std::path::{Path, PathBuf};

/// The kernel's driver calls a measured CPU clock another one beyond this (`tegra194-cpufreq.c`,
/// `MAX_DELTA_KHZ`): one and a half steps of an Orin's table.
const CPU_TOLERANCE_KHZ: u32 = 115_200;
/// At low clocks that is too much: a tenth of the clock.
const CPU_TOLERANCE_PART: u32 = 10;
/// A GPU clock reads up to 1 MHz low (jetson.md 1.3); the steps of its tables are above 12 MHz.
const GPU_TOLERANCE_KHZ: u32 = 1_000;

/// Clocks as they were measured; `None` for one that was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Running {
    /// The slowest CPU cluster that is online.
    pub cpu_khz: Option<Khz>,
    /// The GPU, while it is powered.
    pub gpu_khz: Option<Khz>,
    /// Whether heat limited a clock: a limit comes and goes while a board is at its edge.
    pub heat_limited: bool,
}

impl Running {
    /// The mode that ran, when `asked` was set: a measured clock that is another replaces the one that was
    /// asked for.
    #[must_use]
    pub fn judge(&self, asked: &PowerMode) -> PowerMode {
        let other = |measured: Option<Khz>, asked: Khz, tolerance_khz: u32| {
            measured.filter(|measured| measured.0.abs_diff(asked.0) > tolerance_khz)
        };
        let cpu_tolerance_khz = CPU_TOLERANCE_KHZ.min(asked.cpu_khz.0 / CPU_TOLERANCE_PART);
        let cpu_khz = other(self.cpu_khz, asked.cpu_khz, cpu_tolerance_khz);
        let gpu_khz = other(self.gpu_khz, asked.gpu_khz, GPU_TOLERANCE_KHZ);
        PowerMode {
            cpu_khz: cpu_khz.unwrap_or(asked.cpu_khz),
            gpu_khz: gpu_khz.unwrap_or(asked.gpu_khz),
            ..*asked
        }
    }

    /// What held for most of some readings: the median of each clock, so that one reading in the middle of
    /// a change does not count. A limit by heat counts if one of them saw it.
    #[must_use]
    pub fn median(readings: &[Self]) -> Self {
        let median = |clock: fn(&Self) -> Option<Khz>| {
            let mut clocks: Vec<Khz> = readings.iter().filter_map(clock).collect();
            clocks.sort_unstable();
            clocks.get(clocks.len() / 2).copied()
        };
        Self {
            cpu_khz: median(|running| running.cpu_khz),
            gpu_khz: median(|running| running.gpu_khz),
            heat_limited: readings.iter().any(|running| running.heat_limited),
        }
    }
}

/// Where a board's clocks are measured.
#[derive(Debug)]
pub struct RunningClocks {
    /// Paths and not open files: those of a cluster go with its last core, and come back as others.
    cpu: Vec<PathBuf>,
    gpu: Option<PathBuf>,
}

impl RunningClocks {
    /// Finds the files below `root`.
    pub(super) fn find(root: &Path, topology: &Topology) -> Self {
        let policies = root.join("sys/devices/system/cpu/cpufreq");
        let file = |policy: u8| policies.join(format!("policy{policy}/cpuinfo_cur_freq"));
        Self {
            cpu: topology
                .clusters
                .iter()
                .map(|cluster| file(cluster.policy))
                .collect(),
            gpu: gpu::find_folder(root),
        }
    }

    /// Measures the clocks once: half a millisecond for each CPU cluster.
    #[must_use]
    pub fn measure(&self) -> Running {
        let clusters = self.cpu.iter().filter_map(|path| measured(path));
        let khz = clusters.filter_map(|khz| u32::try_from(khz).ok());
        Running {
            cpu_khz: khz.filter(|khz| *khz > 0).min().map(Khz),
            gpu_khz: self.gpu.as_deref().and_then(gpu_khz),
            heat_limited: false,
        }
    }

    /// Whether this user can have the CPU's clock measured.
    #[must_use]
    pub fn measures_cpu(&self) -> bool {
        self.cpu.iter().any(|path| Reading::open(path).is_some())
    }
}

/// What the kernel says. A plain file, in a folder that looks like a board, measures nothing.
fn measured(path: &Path) -> Option<u64> {
    Reading::open(path)
        .filter(|file| !file.is_plain())?
        .unsigned()
}

/// The GPU's clock while runtime power management keeps it powered: else it is 0, or the one of before.
fn gpu_khz(devfreq: &Path) -> Option<Khz> {
    let status = read_start(&devfreq.join("device/power/runtime_status")).ok()?;
    if number::first_line(&status) != Some("active") {
        return None;
    }
    let khz = measured(&devfreq.join("cur_freq"))? / 1000;
    u32::try_from(khz).ok().filter(|khz| *khz > 0).map(Khz)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: PowerMode = PowerMode {
        cores: 4,
        cpu_khz: Khz(1_344_000),
        gpu_khz: Khz(930_750),
        emc_khz: Khz(2_133_000),
    };

    fn running(cpu_khz: u32, gpu_khz: u32) -> Running {
        Running {
            cpu_khz: Some(Khz(cpu_khz)),
            gpu_khz: Some(Khz(gpu_khz)),
            heat_limited: false,
        }
    }

    #[test]
    fn i7_a_clock_that_ran_otherwise_is_told_and_what_was_not_measured_is_not() {
        assert_eq!(Running::default().judge(&ASKED), ASKED);
        assert_eq!(running(1_300_000, 930_000).judge(&ASKED), ASKED);
        let halved = running(672_000, 930_750).judge(&ASKED);
        assert_eq!(
            (halved.cpu_khz, halved.gpu_khz),
            (Khz(672_000), ASKED.gpu_khz)
        );
        let slow_gpu = running(1_344_000, 828_750).judge(&ASKED);
        assert_eq!(slow_gpu.gpu_khz, Khz(828_750));
        let low = PowerMode {
            cpu_khz: Khz(115_200),
            ..ASKED
        };
        assert_eq!(running(192_000, 930_750).judge(&low).cpu_khz, Khz(192_000));
    }

    #[test]
    fn the_median_forgives_one_reading_and_not_most_of_them() {
        let (right, wrong) = (running(1_344_000, 930_750), running(672_000, 306_000));
        assert_eq!(Running::median(&[wrong, right, right]), right);
        assert_eq!(Running::median(&[wrong, right, wrong]), wrong);
        assert_eq!(Running::median(&[Running::default(), right]), right);
        assert_eq!(Running::median(&[]), Running::default());
        let hot = Running {
            heat_limited: true,
            ..right
        };
        assert!(Running::median(&[right, hot, right]).heat_limited);
    }
}
