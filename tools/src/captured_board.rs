//! A board description out of what a board itself says: a folder of `fulcrumd capture` and the board's own
//! `nvpmodel.conf`. It is where a description begins for a module or a firmware that none is shipped for.
//!
//! Clusters, tables and rails are the kernel's; the floor of the CPU's clock is that of the conf file's
//! default mode. Which rails make up the total is not written anywhere (`docs/boards.md`, section 1.8): the
//! board's input where it is measured, else all of them.

use crate::nvpmodel::Conf;
use anyhow::{Context, bail};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Rails that measure what goes into the whole board.
const INPUTS: [&str; 3] = ["VDD_IN", "POM_5V_IN", "VIN"];
/// How the devfreq class names a GPU (`docs/boards.md`, section 1.3).
const GPU_ENDINGS: [&str; 4] = [".gv11b", ".gp10b", ".ga10b", ".gpu"];
const GPU_BEGINNING: &str = "gpu-gpc-";
/// A memory clock above this is in Hz, not kHz.
const EMC_KHZ_MAX: u64 = 10_000_000;

/// The description's file, field by field.
#[derive(Debug, Serialize)]
struct Description {
    name: String,
    title: String,
    source: String,
    modules: Vec<String>,
    cores: usize,
    clusters: Vec<u64>,
    cpu_khz: Vec<u64>,
    cpu_floor_khz: u64,
    gpu_khz: Vec<Vec<u64>>,
    emc_khz: Vec<u64>,
    power_rails: Vec<String>,
}

/// The text of a description, as [`fulcrum_plan::description::parse`] reads it.
///
/// # Errors
/// A file that a description needs is not in the folder, or holds something else; the message names it.
pub fn describe(folder: &Path, conf: &Conf) -> anyhow::Result<String> {
    let (cores, clusters, cpu_khz) = cpu(folder)?;
    let floor = conf.cpu_floor_khz().unwrap_or(0);
    let gpu = gpu(folder)?;
    let rates = folder.join("sys/kernel/debug/bpmp/debug/emc/possible_rates");
    let emc = numbers(&rates)
        .context("the memory's clocks are root's: capture as root, with debugfs mounted")?;
    let in_khz = |value: u64| {
        if value > EMC_KHZ_MAX {
            value / 1000
        } else {
            value
        }
    };
    let modules = modules(folder)?;
    let description = Description {
        name: modules[0].clone(),
        title: text(&folder.join("proc/device-tree/model")).unwrap_or_else(|_| modules[0].clone()),
        source: format!(
            "fulcrumd capture and nvpmodel.conf; {}",
            text(&folder.join("etc/nv_tegra_release")).unwrap_or_default()
        ),
        modules,
        cores,
        clusters,
        cpu_floor_khz: *cpu_khz
            .iter()
            .find(|khz| **khz >= floor)
            .unwrap_or(&cpu_khz[0]),
        cpu_khz,
        gpu_khz: vec![gpu.iter().map(|hz| hz / 1000).collect()],
        emc_khz: emc.into_iter().map(in_khz).collect(),
        power_rails: rails(folder)?,
    };
    Ok(toml::to_string(&description)?)
}

/// The first line of a file.
fn text(path: &Path) -> anyhow::Result<String> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().next().unwrap_or_default();
    Ok(line.trim_matches(['\0', ' ', '\t']).to_owned())
}

/// The numbers that a file begins with; at least one.
fn numbers(path: &Path) -> anyhow::Result<Vec<u64>> {
    let line = text(path)?;
    let words = line.split_whitespace().map_while(|word| word.parse().ok());
    let numbers: Vec<u64> = words.collect();
    if numbers.is_empty() {
        bail!("{}: begins with no number", path.display());
    }
    Ok(numbers)
}

/// The entries of a folder, by name.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// `nvidia,p3737-0000+p3701-0005`: the last part of the first word is the module.
fn modules(folder: &Path) -> anyhow::Result<Vec<String>> {
    let path = folder.join("proc/device-tree/compatible");
    let compatible = text(&path)?;
    let words = compatible.split(['\0', ',', '+', ' ']);
    let is_module = |word: &&str| word.starts_with('p') && word.contains('-');
    match words.filter(is_module).nth(1) {
        Some(module) => Ok(vec![module.to_owned()]),
        None => bail!("{}: names no module: {compatible}", path.display()),
    }
}

/// Number of cores, first core of each cluster, and the first cluster's table.
fn cpu(folder: &Path) -> anyhow::Result<(usize, Vec<u64>, Vec<u64>)> {
    let policies = entries(&folder.join("sys/devices/system/cpu/cpufreq"))?;
    let (mut cpus, mut clusters, mut table) = (BTreeSet::new(), Vec::new(), None);
    for policy in policies
        .iter()
        .filter(|path| name_of(path).starts_with("policy"))
    {
        let related = numbers(&policy.join("related_cpus"))?;
        clusters.push(related[0]);
        cpus.extend(related);
        if table.is_none() {
            table = Some(numbers(&policy.join("scaling_available_frequencies"))?);
        }
    }
    clusters.sort_unstable();
    let table = table.context("no cpufreq policy: capture while every cluster is online")?;
    if cpus.iter().copied().ne(0..cpus.len() as u64) {
        bail!("cores {cpus:?} alone have a policy: capture while every cluster is online");
    }
    Ok((cpus.len(), clusters, table))
}

/// The GPU's table in Hz.
fn gpu(folder: &Path) -> anyhow::Result<Vec<u64>> {
    let class = folder.join("sys/class/devfreq");
    let is_gpu = |path: &&PathBuf| {
        let name = name_of(path);
        name.starts_with(GPU_BEGINNING) || GPU_ENDINGS.iter().any(|ending| name.ends_with(ending))
    };
    match entries(&class)?.iter().find(is_gpu) {
        Some(gpu) => numbers(&gpu.join("available_frequencies")),
        None => bail!(
            "{}: no GPU here; capture after it was powered",
            class.display()
        ),
    }
}

fn rails(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut labels = Vec::new();
    for chip in entries(&folder.join("sys/class/hwmon"))? {
        match text(&chip.join("name")).as_deref() {
            Ok("ina3221") => {
                let label = |n| text(&chip.join(format!("in{n}_label"))).ok();
                labels.extend((1..=3).filter_map(label).filter(|label| label != "NC"));
            }
            Ok("ina238") => labels.push("VIN".to_owned()),
            _ => {}
        }
    }
    if let Some(input) = labels.iter().find(|label| INPUTS.contains(&label.as_str())) {
        return Ok(vec![input.clone()]);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board_folder::{self, JetPack};
    use crate::nvpmodel;
    use fulcrum_plan::description;
    use fulcrum_planner::boards;

    const CONF: &str = "
< PARAM TYPE=CLOCK NAME=CPU >
MAX_FREQ /sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq
MIN_FREQ /sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq
< POWER_MODEL ID=0 NAME=MAXN >
CPU MIN_FREQ 729600
CPU MAX_FREQ -1
< PM_CONFIG DEFAULT=0 >
";

    fn folder(board: &str) -> (PathBuf, &'static fulcrum_plan::Board) {
        let folder = std::env::temp_dir().join(format!("fulcrum-{board}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        let board = boards::named(board).unwrap();
        board_folder::create(&folder, board, JetPack::Five).unwrap();
        (folder, board)
    }

    #[test]
    fn a_board_of_ours_is_described_as_it_is_shipped() {
        let conf = nvpmodel::parse(CONF).unwrap();
        for name in ["orin-agx-32", "orin-nx-16", "orin-nano-8"] {
            let (folder, shipped) = folder(name);
            let text = describe(&folder, &conf).unwrap();
            let described = description::parse(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
            assert_eq!(described.name, shipped.modules[0]);
            assert_eq!(described.modules[..], shipped.modules[..1]);
            assert_eq!(
                (
                    described.cores,
                    &described.clusters,
                    described.cpu_floor_khz
                ),
                (shipped.cores, &shipped.clusters, shipped.cpu_floor_khz)
            );
            assert_eq!(described.cpu_khz, shipped.cpu_khz);
            assert_eq!(described.gpu_khz[..], shipped.gpu_khz[..1]);
            assert_eq!(described.emc_khz, shipped.emc_khz);
            let input_is_measured = shipped.power_rails.len() == 1;
            assert_eq!(
                described.power_rails == shipped.power_rails,
                input_is_measured
            );
            fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn what_a_capture_lacks_is_named() {
        let conf = nvpmodel::parse(CONF).unwrap();
        for (gone, says) in [
            ("proc/device-tree/compatible", "device-tree/compatible"),
            (
                "sys/devices/system/cpu/cpufreq/policy4",
                "every cluster is online",
            ),
            ("sys/kernel/debug", "capture as root"),
            ("sys/class/devfreq/17000000.ga10b", "after it was powered"),
        ] {
            let (folder, _) = folder("orin-agx");
            let path = folder.join(gone);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            let error = format!("{:#}", describe(&folder, &conf).unwrap_err());
            assert!(error.contains(says), "{gone}: {error}");
            fs::remove_dir_all(folder).unwrap();
        }
    }
}
