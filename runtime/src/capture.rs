//! `fulcrumd capture`: what this board's kernel shows, as a folder of plain files.
//!
//! A captured folder is a `--sysfs-root`: `doctor` reads it anywhere, and tests replay it. Only the
//! files that board control looks at are taken, and `CAPTURE` lists those that could not be read and
//! why. Links are followed: a captured folder has none. Nothing personal is in these files; the boot id
//! is replaced.

use crate::board::number::first_line;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What a Jetson has, and other machines have not.
const DEVICE_TREE: &str = "proc/device-tree/compatible";

/// The files to take; `*` stands for any name, or any end of one.
const PATTERNS: [&str; 31] = [
    "etc/nv_tegra_release",
    DEVICE_TREE,
    "proc/device-tree/model",
    "proc/sys/kernel/osrelease",
    "sys/devices/system/cpu/online",
    "sys/devices/system/cpu/possible",
    "sys/devices/system/cpu/present",
    "sys/devices/system/cpu/cpu*/online",
    "sys/devices/system/cpu/cpu*/cpufreq/affected_cpus",
    "sys/devices/system/cpu/cpu*/cpufreq/related_cpus",
    "sys/devices/system/cpu/cpufreq/policy*/*",
    "sys/class/devfreq/*/*",
    "sys/class/devfreq/*/device/of_node/name",
    "sys/class/devfreq/*/device/power/control",
    "sys/class/devfreq/*/device/power/runtime_status",
    "sys/class/devfreq/*/device/fbp_pg_mask",
    "sys/class/devfreq/*/device/gpc_pg_mask",
    "sys/class/devfreq/*/device/tpc_pg_mask",
    "sys/class/devfreq/*/device/load",
    "sys/class/devfreq/*/device/railgate_enable",
    "sys/kernel/nvpmodel_emc_cap/*",
    "sys/kernel/nvpmodel_clk_cap/*",
    "sys/kernel/debug/bpmp/debug/emc/possible_rates",
    "sys/kernel/debug/bpmp/debug/clk/emc/*",
    "sys/class/hwmon/hwmon*/*",
    "sys/class/thermal/thermal_zone*/type",
    "sys/class/thermal/thermal_zone*/temp",
    "sys/class/thermal/thermal_zone*/trip_point_*",
    "sys/class/thermal/cooling_device*/type",
    "sys/class/thermal/cooling_device*/cur_state",
    "sys/class/thermal/cooling_device*/max_state",
];

/// Longest file that is taken; the kernel's are at most one page.
const FILE_LEN_MAX: u64 = 64 * 1024;
/// The boot id of every captured folder.
const BOOT_ID: &str = "00000000-0000-0000-0000-000000000000\n";

/// What was captured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Number of files taken.
    pub files: usize,
    /// Files that could not be read, relative to the root, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// Captures the board below `root` into the folder `to`, which must be empty or not be there.
///
/// # Errors
/// `to` holds something, or cannot be written; `root` is no board's.
pub fn capture(root: &Path, to: &Path) -> io::Result<Captured> {
    if to.exists() && to.read_dir()?.next().is_some() {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{}: is not empty; name a new folder", to.display()),
        ));
    }
    // Any other Linux has some of the files, too.
    if matches(root, DEVICE_TREE).is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!(
                "{}: no {DEVICE_TREE} here; this is not a Jetson (--sysfs-root names another root)",
                root.display()
            ),
        ));
    }
    let mut captured = Captured::default();
    for path in PATTERNS.iter().flat_map(|pattern| matches(root, pattern)) {
        match read(&root.join(&path)) {
            Ok(bytes) => {
                write(&to.join(&path), &bytes)?;
                captured.files += 1;
            }
            Err(error) => captured.unreadable.push((path, error.to_string())),
        }
    }
    write(
        &to.join("proc/sys/kernel/random/boot_id"),
        BOOT_ID.as_bytes(),
    )?;
    write(&to.join("CAPTURE"), describe(root, &captured).as_bytes())?;
    Ok(captured)
}

fn describe(root: &Path, captured: &Captured) -> String {
    let line = |path: &str| {
        let bytes = read(&root.join(path)).unwrap_or_default();
        first_line(&bytes).unwrap_or("unknown").to_owned()
    };
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "captured by fulcrumd {}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "release: {}", line("etc/nv_tegra_release"));
    let _ = writeln!(text, "kernel: {}", line("proc/sys/kernel/osrelease"));
    let _ = writeln!(text, "files: {}", captured.files);
    for (path, why) in &captured.unreadable {
        let _ = writeln!(text, "unreadable: {}: {why}", path.display());
    }
    text
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(FILE_LEN_MAX)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, bytes)
}

/// The files below `root` that a pattern names, relative to `root`, sorted.
fn matches(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.split('/') {
        found = match part.split_once('*') {
            None => found.into_iter().map(|path| path.join(part)).collect(),
            Some((start, _)) => found
                .iter()
                .flat_map(|path| entries(root, path, start))
                .collect(),
        };
    }
    // What is a folder or does not exist is no file to take; links to files are.
    found.retain(|path| fs::metadata(root.join(path)).is_ok_and(|kind| kind.is_file()));
    found.sort();
    found
}

fn entries(root: &Path, folder: &Path, start: &str) -> Vec<PathBuf> {
    fs::read_dir(root.join(folder))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with(start))
        .map(|name| folder.join(name))
        .collect()
}
