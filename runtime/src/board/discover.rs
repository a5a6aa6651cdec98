//! Finding everything at start: paths, tables, the files to keep open.
//!
//! Discovery reads only. It is the one place in board control that formats paths and allocates.

use super::identity::{Identity, shipped};
use super::topology::Topology;
use super::{Sysfs, cpu, emc, gpu};
use fulcrum_plan::Board;
use fulcrum_plan::board::{CLOCKS_MAX, Clocks};
use fulcrum_plan::units::Khz;
use std::fmt;
use std::io;
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

/// What discovery found: the facts, and the open control files.
pub(super) struct Found {
    pub(super) identity: Identity,
    pub(super) topology: Topology,
    pub(super) sysfs: Sysfs,
}

/// Finds identity, controls and tables below `root`.
pub(super) fn discover(root: &Path, boards: &[Board]) -> Result<Found, DiscoverError> {
    let identity = Identity::find(root, boards)?;
    let board = &identity.board;
    let mut sysfs = Sysfs::default();
    let cpu = cpu::find(root, board, &mut sysfs)?;
    let gpu_khz = gpu::find(root, &mut sysfs)?;
    let emc = emc::find(root, board, &mut sysfs)?;
    let topology = Topology {
        cpus: cpu.cpus,
        clusters: cpu.clusters,
        cpu_khz: cpu.table_khz,
        gpu_khz,
        emc_khz: emc.table_khz,
        emc_cap: emc.cap,
        emc_lock: emc.lock,
    };
    compare_with_description(board, &topology);
    Ok(Found {
        identity,
        topology,
        sysfs,
    })
}

/// The kernel is right; a difference is worth a line in the log, because plans for the description's
/// clocks may then be refused.
fn compare_with_description(board: &Board, topology: &Topology) {
    let name = &board.name;
    if topology.core_count() != board.cores {
        log::warn!(
            "{} CPUs found; {name} has {}",
            topology.core_count(),
            board.cores
        );
    }
    if topology.cpu_khz != board.cpu_khz {
        log::warn!("the kernel's CPU clocks are not those of {name}; the kernel's are used");
    }
    if !board.gpu_khz.contains(&topology.gpu_khz) {
        log::warn!("the kernel's GPU clocks are in no table of {name}; the kernel's are used");
    }
    if topology.emc_khz != board.emc_khz {
        log::warn!("the kernel's memory clocks are not those of {name}; the kernel's are used");
    }
}

/// Reads the start of a file: 4 KiB, which every sysfs file fits.
pub(super) fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read;
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
        errno: super::sysfs::errno(&error),
    })?;
    let bad = || DiscoverError::BadTable {
        path: path.to_owned(),
    };
    let mut clocks = Clocks::new();
    for value in super::number::table(&bytes) {
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
