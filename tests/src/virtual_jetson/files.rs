//! The files of a virtual board, by what they do.

use std::path::Path;

/// One file of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum File {
    /// Holds what it held at the start, and takes no write.
    Fixed,
    CpuOnline(u8),
    /// Any other file of a policy: gone while the cluster is offline.
    CpuOther(u8),
    CpuMin(u8),
    CpuMax(u8),
    CpuRequested(u8),
    CpuMeasured(u8),
    GpuMin,
    GpuMax,
    GpuCurrent,
    GpuPower,
    GpuStatus,
    TpcMask,
    OtherMask,
    EmcCap,
    EmcLock,
    EmcRate,
    /// Current of a rail: chip and channel.
    Current(u8, u8),
    Voltage,
    /// State of what cools by slowing the CPU down.
    CpuCooling,
    GatedZone,
    OverCurrent,
}

impl File {
    /// Permissions, as the kernel gives them (jetson.md 4.4).
    pub(super) const fn permissions(self, iso_cap: bool) -> u16 {
        match self {
            Self::CpuMeasured(_) => 0o400,
            Self::EmcCap if iso_cap => 0o660,
            Self::EmcCap => 0o664,
            Self::CpuOnline(_)
            | Self::CpuMin(_)
            | Self::CpuMax(_)
            | Self::GpuMin
            | Self::GpuMax
            | Self::GpuPower
            | Self::TpcMask
            | Self::OtherMask
            | Self::EmcLock
            | Self::EmcRate => 0o644,
            _ => 0o444,
        }
    }
}

/// What a path is, by its name.
pub(super) fn classify(path: &Path, text: &str, folder: &Path) -> File {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    let name = parts.last().map_or("", |name| name.as_ref());
    let parent = parts.iter().rev().nth(1).map_or("", |name| name.as_ref());
    let digits = |text: &str, prefix: &str| text.strip_prefix(prefix)?.parse::<u8>().ok();
    let in_devfreq = parts.iter().any(|part| part == "devfreq");
    match (
        name,
        digits(parent, "cpu"),
        digits(parent, "policy"),
        in_devfreq,
    ) {
        ("online", Some(cpu), _, _) => File::CpuOnline(cpu),
        ("scaling_min_freq", _, Some(policy), _) => File::CpuMin(policy),
        ("scaling_max_freq", _, Some(policy), _) => File::CpuMax(policy),
        ("scaling_cur_freq", _, Some(policy), _) => File::CpuRequested(policy),
        ("cpuinfo_cur_freq", _, Some(policy), _) => File::CpuMeasured(policy),
        (_, _, Some(policy), _) => File::CpuOther(policy),
        ("min_freq", _, _, true) => File::GpuMin,
        ("max_freq", _, _, true) => File::GpuMax,
        ("cur_freq", _, _, true) => File::GpuCurrent,
        ("control", _, _, _) => File::GpuPower,
        ("runtime_status", _, _, _) => File::GpuStatus,
        ("cur_state", _, _, _) => {
            let kind = std::fs::read_to_string(folder.join(path).with_file_name("type"));
            match kind.is_ok_and(|kind| kind.starts_with("cpufreq")) {
                true => File::CpuCooling,
                false => File::Fixed,
            }
        }
        ("tpc_pg_mask", _, _, _) => File::TpcMask,
        ("fbp_pg_mask" | "gpc_pg_mask", _, _, _) => File::OtherMask,
        ("emc_iso_cap" | "emc", _, _, _) => File::EmcCap,
        ("mrq_rate_locked", _, _, _) => File::EmcLock,
        ("rate", _, _, _) => File::EmcRate,
        ("oc3_event_cnt", _, _, _) => File::OverCurrent,
        ("temp", _, _, _) if text.starts_with("-256000") => File::GatedZone,
        _ => match (digits(parent, "hwmon"), name.strip_suffix("_input")) {
            (Some(chip), Some(channel)) => {
                let label = path.with_file_name(channel.replace("curr", "in") + "_label");
                let connected = std::fs::read_to_string(folder.join(label));
                match (digits(channel, "curr"), digits(channel, "in")) {
                    (Some(n), _) if connected.is_ok_and(|label| label != "NC\n") => {
                        File::Current(chip, n)
                    }
                    (None, Some(_)) => File::Voltage,
                    _ => File::Fixed,
                }
            }
            _ => File::Fixed,
        },
    }
}

/// The policy whose cluster a file goes and comes with.
pub(super) fn policy_of(file: File) -> Option<u8> {
    match file {
        File::CpuOther(policy)
        | File::CpuMin(policy)
        | File::CpuMax(policy)
        | File::CpuRequested(policy)
        | File::CpuMeasured(policy) => Some(policy),
        _ => None,
    }
}
