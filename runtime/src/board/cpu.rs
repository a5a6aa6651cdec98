//! CPU cores and clusters (jetson.md 1.2).

use super::controls::{Controls, read_patiently, write_patiently};
use super::node::{Cause, Node, NodeError};
use super::number;
use super::range::RangeNodes;
use super::startup::{DiscoverError, read_start, read_table, sorted_entries};
use super::sysfs::Sysfs;
use super::topology::{Cluster, cpus_of};
use fulcrum_plan::Board;
use fulcrum_plan::board::{CLUSTERS_MAX, Clocks};
use std::path::Path;

/// What was found of the CPU.
pub(super) struct Cpu {
    pub(super) cpus: u64,
    pub(super) clusters: heapless::Vec<Cluster, CLUSTERS_MAX>,
    pub(super) table_khz: Clocks,
}

/// Finds CPUs, clusters and their table, and opens their files.
pub(super) fn find(root: &Path, board: &Board, sysfs: &mut Sysfs) -> Result<Cpu, DiscoverError> {
    let folder = root.join("sys/devices/system/cpu");
    let cpus = list_cpus(&folder)?;
    let clusters = find_clusters(&folder, cpus, board)?;
    // cpu0 cannot be taken off (jetson.md 1.2), whether or not it has the file.
    for cpu in cpus_of(cpus).filter(|cpu| *cpu != 0) {
        let online = folder.join(format!("cpu{cpu}/online"));
        if online.exists() {
            sysfs.add(Node::CpuOnline(cpu), online);
        }
    }
    let mut table_khz: Option<Clocks> = None;
    for cluster in &clusters {
        let policy = folder.join(format!("cpufreq/policy{}", cluster.policy));
        sysfs.add(
            Node::CpuMin(cluster.policy),
            policy.join("scaling_min_freq"),
        );
        sysfs.add(
            Node::CpuMax(cluster.policy),
            policy.join("scaling_max_freq"),
        );
        // An offline cluster has no table; the boards we know have one table for all clusters.
        let path = policy.join("scaling_available_frequencies");
        if table_khz.is_none() && path.exists() {
            table_khz = Some(read_table(&path, 1)?);
        }
    }
    let table_khz = table_khz.ok_or(DiscoverError::NoCpuClocks { path: folder })?;
    Ok(Cpu {
        cpus,
        clusters,
        table_khz,
    })
}

fn list_cpus(folder: &Path) -> Result<u64, DiscoverError> {
    let entries = std::fs::read_dir(folder).map_err(|error| DiscoverError::Unreadable {
        path: folder.to_owned(),
        errno: super::sysfs::errno(&error),
    })?;
    let cpus = entries
        .flatten()
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()?
                .strip_prefix("cpu")?
                .parse()
                .ok()
        })
        .filter_map(|cpu| 1u64.checked_shl(cpu))
        .fold(0, |set, bit| set | bit);
    Ok(cpus)
}

/// Clusters as the kernel tells them: `related_cpus`, because `affected_cpus` leaves out the cores that are
/// offline. A cluster whose cores are all offline has no such file: its CPUs are grouped as the board
/// description says.
fn find_clusters(
    folder: &Path,
    cpus: u64,
    board: &Board,
) -> Result<heapless::Vec<Cluster, CLUSTERS_MAX>, DiscoverError> {
    // A policy bears the number of the CPU that came first, which need not be the lowest.
    let policies: Vec<Cluster> = sorted_entries(&folder.join("cpufreq"))
        .iter()
        .filter_map(|entry| {
            let policy = entry.file_name()?.to_str()?.strip_prefix("policy")?;
            let related = read_start(&entry.join("related_cpus")).ok()?;
            Some(Cluster {
                policy: policy.parse().ok()?,
                cpus: number::cpu_set(&related)? & cpus,
            })
        })
        .collect();
    let told = policies.iter().fold(0, |set, known| set | known.cpus);
    let mut clusters = heapless::Vec::new();
    let mut rest = cpus;
    while rest != 0 {
        let first = rest.trailing_zeros();
        let known = policies.iter().find(|known| known.cpus & (1 << first) != 0);
        let described = || {
            let next = board
                .clusters
                .iter()
                .find(|start| u32::from(**start) > first);
            let below = next.and_then(|start| 1u64.checked_shl(u32::from(*start)));
            rest & !told & below.map_or(u64::MAX, |bit| bit.wrapping_sub(1))
        };
        let members = known.map_or_else(described, |known| known.cpus) & rest;
        let cluster = Cluster {
            policy: known.map_or_else(
                || u8::try_from(first).unwrap_or_default(),
                |known| known.policy,
            ),
            cpus: members,
        };
        if members == 0 || clusters.push(cluster).is_err() {
            return Err(DiscoverError::NoCpuClocks {
                path: folder.to_owned(),
            });
        }
        rest &= !members;
    }
    Ok(clusters)
}

/// The files of a cluster's range.
pub(super) fn range_of(cluster: &Cluster) -> RangeNodes {
    RangeNodes {
        min: Node::CpuMin(cluster.policy),
        max: Node::CpuMax(cluster.policy),
    }
}

/// The CPUs that are online, as bits. A CPU without an `online` file is always on.
pub(super) fn read_online<C: Controls>(controls: &mut C, cpus: u64) -> Result<u64, NodeError> {
    let mut online = cpus;
    for cpu in cpus_of(cpus) {
        let node = Node::CpuOnline(cpu);
        if controls.has(node) && read_patiently(controls, node)? == 0 {
            online &= !(1 << cpu);
        }
    }
    Ok(online)
}

/// Takes one CPU online or offline, unless it is there already, and reads it back.
pub(super) fn set_online<C: Controls>(
    controls: &mut C,
    cpu: u8,
    online: bool,
) -> Result<(), NodeError> {
    let node = Node::CpuOnline(cpu);
    let expected = u64::from(online);
    if !controls.has(node) {
        return match online {
            true => Ok(()),
            false => Err(NodeError {
                node,
                cause: Cause::Missing,
            }),
        };
    }
    if read_patiently(controls, node)? == expected {
        return Ok(());
    }
    write_patiently(controls, node, expected)?;
    match read_patiently(controls, node)? {
        got if got == expected => Ok(()),
        got => Err(NodeError {
            node,
            cause: Cause::Differs { expected, got },
        }),
    }
}
