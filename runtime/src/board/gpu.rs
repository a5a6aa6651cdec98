//! The GPU's clock and power control (jetson.md 1.3).

use super::controls::{Controls, read_patiently, write_patiently};
use super::node::{Node, NodeError};
use super::number;
use super::range::{Range, RangeNodes};
use super::startup::{DiscoverError, read_start, read_table};
use super::sysfs::Sysfs;
use fulcrum_plan::GpuMasks;
use fulcrum_plan::board::Clocks;
use std::path::{Path, PathBuf};

/// Device-tree names of the GPUs: Xavier, TX2, Orin on JetPack 5, Thor, Orin from JetPack 6 on.
const DEVICE_TREE_NAMES: [&str; 5] = ["gv11b", "gp10b", "ga10b", "gb10b", "gpu"];

/// What the class calls the GPU of a Thor, which has no node in the device tree: the graphics clusters, and
/// not `gpu-nvd-0`, which is video (jetson.md 1.3).
const CLASS_NAME: &str = "gpu-gpc-";

/// Where the folder is when the class link is missing, newest layout first.
const KNOWN_FOLDERS: [&str; 7] = [
    "sys/devices/platform/bus@0/17000000.gpu/devfreq/17000000.gpu",
    "sys/devices/platform/17000000.gpu/devfreq/17000000.gpu",
    "sys/devices/17000000.ga10b/devfreq/17000000.ga10b",
    "sys/devices/17000000.gv11b/devfreq/17000000.gv11b",
    "sys/devices/gpu.0/devfreq/17000000.gv11b",
    "sys/devices/17000000.gp10b/devfreq/17000000.gp10b",
    "sys/devices/57000000.gpu/devfreq/57000000.gpu",
];

/// The GPU's range.
pub(super) const RANGE: RangeNodes = RangeNodes {
    min: Node::GpuMin,
    max: Node::GpuMax,
};

/// Finds the GPU, opens its files, and reads its table.
pub(super) fn find(root: &Path, sysfs: &mut Sysfs) -> Result<Clocks, DiscoverError> {
    let devfreq = find_folder(root).ok_or_else(|| DiscoverError::NoGpu {
        path: root.join("sys/class/devfreq"),
    })?;
    let table = read_table(&devfreq.join("available_frequencies"), 1000)?;
    let power = devfreq.join("device/power/control");
    if power.exists() {
        sysfs.add(Node::GpuPower, power);
    }
    sysfs.add(Node::GpuMin, devfreq.join("min_freq"));
    sysfs.add(Node::GpuMax, devfreq.join("max_freq"));
    Ok(table)
}

/// The power-gating masks beside the clocks. They are never written: changing one needs a reboot
/// (jetson.md 4.3).
pub(super) fn read_masks(root: &Path) -> GpuMasks {
    let device = find_folder(root).map(|folder| folder.join("device"));
    let [tpc, fbp, gpc] = GpuMasks::NAMES.map(|name| {
        let bytes = read_start(&device.as_ref()?.join(name)).ok()?;
        u32::try_from(number::parse_u64(&bytes)?).ok()
    });
    GpuMasks { tpc, fbp, gpc }
}

/// The GPU's devfreq folder: by the class, else by the known places.
#[must_use]
pub(super) fn find_folder(root: &Path) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(root.join("sys/class/devfreq"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    entries.sort();
    let is_named = |folder: &&PathBuf| {
        let name = read_start(&folder.join("device/of_node/name")).unwrap_or_default();
        number::first_line(&name).is_some_and(|name| DEVICE_TREE_NAMES.contains(&name))
    };
    let is_thors = |folder: &&PathBuf| {
        let name = folder.file_name().map(|name| name.to_string_lossy());
        name.is_some_and(|name| name.starts_with(CLASS_NAME))
    };
    let by_class = entries.iter().find(is_named);
    let by_class = by_class.or_else(|| entries.iter().find(is_thors));
    by_class.cloned().or_else(|| {
        KNOWN_FOLDERS
            .iter()
            .map(|folder| root.join(folder))
            .find(|folder| folder.join("available_frequencies").exists())
    })
}

/// Sets the range with the GPU powered, then gives its power control `power` back.
///
/// A rail-gated GPU does not take a clock: NVIDIA's modes bracket these writes with `on` and `auto`
/// (jetson.md 4.2). The bracket is closed on failure too.
pub(super) fn set<C: Controls>(
    controls: &mut C,
    to: Range,
    power: Option<u64>,
) -> Result<(), NodeError> {
    let Some(power) = power else {
        return RANGE.set(controls, to);
    };
    write_patiently(controls, Node::GpuPower, 1)?;
    let outcome = RANGE.set(controls, to);
    let closed = write_patiently(controls, Node::GpuPower, power);
    outcome.and(closed)
}

/// The GPU's power control, if it has one.
pub(super) fn read_power<C: Controls>(controls: &mut C) -> Result<Option<u64>, NodeError> {
    match controls.has(Node::GpuPower) {
        true => read_patiently(controls, Node::GpuPower).map(Some),
        false => Ok(None),
    }
}
