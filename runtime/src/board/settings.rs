//! Everything Fulcrum ever changes on a board, as the numbers of the kernel's files.

use super::controls::Controls;
use super::emc::{self, EmcSetting};
use super::node::NodeError;
use super::range::Range;
use super::topology::{Topology, nearest, same_clock};
use super::{cpu, gpu};
use fulcrum_plan::PowerMode;
use fulcrum_plan::board::CLUSTERS_MAX;
use fulcrum_plan::units::Khz;
use serde::{Deserialize, Serialize};

/// The clock bounds of one CPU cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSetting {
    /// Number of the cpufreq policy.
    pub policy: u8,
    /// Bounds in kHz; `None` while all cores of the cluster are offline: the kernel has no such files
    /// then.
    pub range_khz: Option<Range>,
}

/// One state of all controls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// CPUs that are online, as bits.
    pub online: u64,
    /// Bounds per cluster, in the order of the topology.
    pub clusters: heapless::Vec<ClusterSetting, CLUSTERS_MAX>,
    /// GPU bounds in Hz.
    pub gpu_hz: Range,
    /// The GPU's power control (1 on, 0 auto), if it has one.
    pub gpu_power: Option<u64>,
    /// Memory clock.
    pub emc: EmcSetting,
}

impl Settings {
    /// Reads the live state.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn read<C: Controls>(controls: &mut C, topology: &Topology) -> Result<Self, NodeError> {
        let online = cpu::read_online(controls, topology.cpus)?;
        let mut clusters = heapless::Vec::new();
        for cluster in &topology.clusters {
            let range_khz = match cluster.cpus & online {
                0 => None,
                _ => Some(cpu::range_of(cluster).read(controls)?),
            };
            let setting = ClusterSetting {
                policy: cluster.policy,
                range_khz,
            };
            // Cannot be full: as many as the topology has, and of the same capacity.
            let _ = clusters.push(setting);
        }
        Ok(Self {
            online,
            clusters,
            gpu_hz: gpu::RANGE.read(controls)?,
            gpu_power: gpu::read_power(controls)?,
            emc: emc::read(controls)?,
        })
    }

    /// The settings of a power mode, on a board that now has the settings `self`: the first cores,
    /// every clock pinned, the GPU's power control as it is, and offline clusters left alone.
    ///
    /// The mode must have passed [`Topology::check`].
    #[must_use]
    pub fn for_mode(&self, mode: &PowerMode, topology: &Topology) -> Self {
        let online = topology.first_cpus(mode.cores);
        let mut clusters = heapless::Vec::new();
        for cluster in &topology.clusters {
            let setting = ClusterSetting {
                policy: cluster.policy,
                range_khz: (cluster.cpus & online != 0)
                    .then(|| Range::pinned(mode.cpu_khz.0.into())),
            };
            let _ = clusters.push(setting);
        }
        let emc_khz = nearest(&topology.emc_khz, mode.emc_khz);
        Self {
            online,
            clusters,
            gpu_hz: Range::pinned(u64::from(mode.gpu_khz.0).saturating_mul(1000)),
            gpu_power: self.gpu_power,
            emc: emc::pinned(
                emc_khz,
                &topology.emc_khz,
                topology.emc_cap,
                topology.emc_lock,
            ),
        }
    }

    /// Gives clusters that go offline their original bounds, where `previous` holds others: some
    /// kernels keep the bounds of an offline cluster, and nobody could put them back later.
    pub(super) fn return_bounds_of_leaving_clusters(&mut self, previous: &Self, original: &Self) {
        let known = previous.clusters.iter().zip(&original.clusters);
        for (mine, (previous, original)) in self.clusters.iter_mut().zip(known) {
            if mine.range_khz.is_none() && previous.range_khz != original.range_khz {
                mine.range_khz = original.range_khz;
            }
        }
    }

    /// Takes over the bounds of clusters that were offline here and are online in `live`. Tells
    /// whether there were any.
    pub(super) fn learn(&mut self, live: &Self) -> bool {
        let mut learnt = false;
        for (mine, live) in self.clusters.iter_mut().zip(&live.clusters) {
            if mine.range_khz.is_none() && live.range_khz.is_some() {
                mine.range_khz = live.range_khz;
                learnt = true;
            }
        }
        learnt
    }

    /// The power mode these settings amount to: the upper bounds, of the slowest CPU cluster. A clock that
    /// is not known (the memory clock without a lock) is 0.
    #[must_use]
    pub fn effective_mode(&self, topology: &Topology) -> PowerMode {
        let khz = |value: u64| Khz(u32::try_from(value).unwrap_or(u32::MAX));
        let cpu_khz = self
            .clusters
            .iter()
            .filter_map(|cluster| cluster.range_khz)
            .map(|range| range.max)
            .min();
        let emc_hz = self.emc.locked_hz().unwrap_or(0);
        let emc_khz = match nearest(&topology.emc_khz, khz(emc_hz / 1000)) {
            listed if same_clock(u64::from(listed.0) * 1000, emc_hz) => listed,
            _ => khz(emc_hz / 1000),
        };
        PowerMode {
            cores: u8::try_from(self.online.count_ones()).unwrap_or(u8::MAX),
            cpu_khz: khz(cpu_khz.unwrap_or(0)),
            gpu_khz: khz(self.gpu_hz.max / 1000),
            emc_khz,
        }
    }
}

/// Which parts of the board are not as they were set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// Other cores are online.
    pub cores: bool,
    /// A cluster has other bounds.
    pub cpu: bool,
    /// The GPU has other bounds.
    pub gpu: bool,
    /// The memory clock is locked to another rate, or not locked.
    pub emc: bool,
}

impl Drift {
    /// Whether something changed the board.
    #[must_use]
    pub fn any(self) -> bool {
        self.cores || self.cpu || self.gpu || self.emc
    }

    /// What of `live` is not as in `wanted`. The memory clock's cap counts only where there is no
    /// lock: JetPack 6 reads it back rounded.
    pub(super) fn between(wanted: &Settings, live: &Settings) -> Self {
        let cpu = wanted
            .clusters
            .iter()
            .zip(&live.clusters)
            .any(|(wanted, live)| wanted.range_khz.is_some() && wanted.range_khz != live.range_khz);
        let emc = match (wanted.emc.lock, live.emc.lock) {
            (Some(wanted), Some(live)) if wanted.locked => {
                !live.locked || !same_clock(wanted.rate_hz, live.rate_hz)
            }
            (Some(wanted), Some(live)) => wanted.locked != live.locked,
            _ => wanted.emc.cap_hz != live.emc.cap_hz,
        };
        Self {
            cores: wanted.online != live.online,
            cpu,
            gpu: wanted.gpu_hz != live.gpu_hz,
            emc,
        }
    }
}

impl core::fmt::Display for Drift {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let parts = [
            (self.cores, "cores"),
            (self.cpu, "CPU clock"),
            (self.gpu, "GPU clock"),
            (self.emc, "memory clock"),
        ];
        let mut separator = "";
        for (_, name) in parts.iter().filter(|(changed, _)| *changed) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        if separator.is_empty() {
            f.write_str("nothing")?;
        }
        Ok(())
    }
}
