//! Reading files at start, and why discovery fails.

use super::number;
use super::shipped::shipped;
use super::sysfs::errno;
use fulcrum_plan::board::{CLOCKS_MAX, Clocks};
use fulcrum_plan::units::Khz;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Why this machine's clocks cannot be controlled. Nothing has been changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum DiscoverError {
    /// No device tree: this is not a Jetson.
    NoDeviceTree {
        /// Where it was looked for.
        path: PathBuf,
        /// Why it could not be read.
        errno: i32,
    },
    /// A device tree that names no module we have a description for.
    UnknownBoard {
        /// What the device tree says.
        compatible: String,
    },
    /// No CPU with a clock below this folder.
    NoCpuClocks {
        /// The folder.
        path: PathBuf,
    },
    /// No GPU below this folder.
    NoGpu {
        /// The folder.
        path: PathBuf,
    },
    /// A file that must be there cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        errno: i32,
    },
    /// A table of clocks that is empty, not ascending, too long, or not in whole kHz.
    BadTable {
        /// The file.
        path: PathBuf,
    },
}

impl fmt::Display for DiscoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDeviceTree { path, errno } => write!(
                f,
                "{}: {}; this is not a Jetson (--sysfs-root names another root)",
                path.display(),
                io::Error::from_raw_os_error(*errno)
            ),
            Self::UnknownBoard { compatible } => {
                write!(
                    f,
                    "no board description for \"{compatible}\"; known modules:"
                )?;
                for board in shipped() {
                    for module in &board.modules {
                        write!(f, " {module}")?;
                    }
                }
                Ok(())
            }
            Self::NoCpuClocks { path } => write!(
                f,
                "{}: no CPU has a cpufreq folder; is the kernel NVIDIA's?",
                path.display()
            ),
            Self::NoGpu { path } => write!(
                f,
                "{}: no GPU here; it appears once the GPU has been powered: start any CUDA \
                 program, or write `on` to the GPU's power/control, and try again",
                path.display()
            ),
            Self::Unreadable { path, errno } => write!(
                f,
                "{}: {}",
                path.display(),
                io::Error::from_raw_os_error(*errno)
            ),
            Self::BadTable { path } => write!(
                f,
                "{}: not an ascending table of 1 to {CLOCKS_MAX} clocks in whole kHz",
                path.display()
            ),
        }
    }
}

impl std::error::Error for DiscoverError {}

impl DiscoverError {
    /// The command that mends it, if one does.
    #[must_use]
    pub fn mend(&self) -> Option<&'static str> {
        match self {
            Self::UnknownBoard { .. } => {
                Some("sudo fulcrumd capture --to DIR, which holds what a description is made of")
            }
            Self::NoCpuClocks { .. } => Some("sudo modprobe tegra194-cpufreq"),
            Self::NoGpu { .. } => {
                Some("echo on | sudo tee /sys/devices/{,platform/}gpu.0/power/control")
            }
            Self::Unreadable { .. } => Some("sudo fulcrumd doctor"),
            Self::NoDeviceTree { .. } | Self::BadTable { .. } => None,
        }
    }
}

/// Reads the start of a file: 4 KiB, which every sysfs file fits.
pub(super) fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?
        .take(4096)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads a table of clocks, listed in units of `1 / per_khz` kHz: 1 for kHz, 1000 for Hz.
pub(super) fn read_table(path: &Path, per_khz: u64) -> Result<Clocks, DiscoverError> {
    let bytes = read_start(path).map_err(|error| DiscoverError::Unreadable {
        path: path.to_owned(),
        errno: errno(&error),
    })?;
    let bad = || DiscoverError::BadTable {
        path: path.to_owned(),
    };
    let mut clocks = Clocks::new();
    for value in number::table(&bytes) {
        let khz = u32::try_from(value / per_khz).map_err(|_| bad())?;
        let ascending = clocks.last().is_none_or(|last| last.0 < khz);
        if value % per_khz != 0 || khz == 0 || !ascending || clocks.push(Khz(khz)).is_err() {
            return Err(bad());
        }
    }
    if clocks.is_empty() {
        return Err(bad());
    }
    Ok(clocks)
}

/// The entries of a folder, by name; empty if there is no such folder.
pub(super) fn sorted_entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}
