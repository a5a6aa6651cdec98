//! Finding everything at start: paths, tables, the files to keep open.
//!
//! Discovery reads only. It is the one part of board control that formats paths and allocates.

use super::identity::Identity;
use super::startup::DiscoverError;
use super::sysfs::Sysfs;
use super::topology::Topology;
use super::{cpu, emc, gpu};
use fulcrum_plan::Board;
use std::path::Path;

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
        gpu_masks: gpu::read_masks(root),
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
