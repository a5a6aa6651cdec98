//! The memory clock: cap and lock (jetson.md 1.4).

use super::controls::{ATTEMPTS, Controls, SETTLE, read_patiently, write_patiently};
use super::node::{Cause, Node, NodeError};
use super::number;
use super::startup::{DiscoverError, read_start};
use super::sysfs::Sysfs;
use super::topology::{EmcCap, same_clock};
use fulcrum_plan::Board;
use fulcrum_plan::board::Clocks;
use fulcrum_plan::units::Khz;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A listed rate above this is in Hz, not kHz: no memory runs at 10 GHz, none below 10 MHz.
const KHZ_MAX: u64 = 10_000_000;

/// What was found of the memory clock.
pub(super) struct Emc {
    pub(super) cap: Option<EmcCap>,
    pub(super) lock: bool,
    pub(super) table_khz: Clocks,
}

/// Cap and lock of the memory clock; `None` for what the board does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmcSetting {
    /// Value of the cap file.
    pub cap_hz: Option<u64>,
    /// Rate, and whether it is locked.
    pub lock: Option<EmcLock>,
}

/// The memory clock's rate, and whether the firmware may change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmcLock {
    /// Whether the rate is locked; otherwise firmware moves it with the load.
    pub locked: bool,
    /// The rate, now or as locked.
    pub rate_hz: u64,
}

impl EmcSetting {
    /// The rate that the clock is locked to; `None` when it is not locked or that cannot be known.
    #[must_use]
    pub fn locked_hz(&self) -> Option<u64> {
        self.lock
            .filter(|lock| lock.locked)
            .map(|lock| lock.rate_hz)
    }
}

/// Finds cap, lock and table, and opens their files. All of them may be missing: debugfs is root's.
pub(super) fn find(root: &Path, board: &Board, sysfs: &mut Sysfs) -> Result<Emc, DiscoverError> {
    let iso = root.join("sys/kernel/nvpmodel_emc_cap/emc_iso_cap");
    let clock = root.join("sys/kernel/nvpmodel_clk_cap/emc");
    let cap = if clock.exists() {
        sysfs.add(Node::EmcCap, clock);
        Some(EmcCap::Clock)
    } else if iso.exists() {
        sysfs.add(Node::EmcCap, iso);
        Some(EmcCap::Iso)
    } else {
        None
    };
    let debug = root.join("sys/kernel/debug/bpmp/debug");
    let locked = debug.join("clk/emc/mrq_rate_locked");
    let rate = debug.join("clk/emc/rate");
    let lock = locked.exists() && rate.exists();
    if lock {
        sysfs.add(Node::EmcLock, locked);
        sysfs.add(Node::EmcRate, rate);
    }
    Ok(Emc {
        cap,
        lock,
        table_khz: find_table(&debug.join("emc/possible_rates"), board)?,
    })
}

/// The firmware's table, or the description's when debugfs cannot be read.
fn find_table(path: &Path, board: &Board) -> Result<Clocks, DiscoverError> {
    let Ok(bytes) = read_start(path) else {
        return Ok(board.emc_khz.clone());
    };
    let bad = || DiscoverError::BadTable {
        path: path.to_owned(),
    };
    let mut clocks = Clocks::new();
    for listed in number::table(&bytes) {
        let khz = if listed > KHZ_MAX {
            listed / 1000
        } else {
            listed
        };
        let khz = Khz(u32::try_from(khz).map_err(|_| bad())?);
        if clocks.last().is_some_and(|last| *last >= khz) || clocks.push(khz).is_err() {
            return Err(bad());
        }
    }
    if clocks.is_empty() {
        return Err(bad());
    }
    Ok(clocks)
}

/// The setting that pins the memory clock to `khz`.
pub(super) fn pinned(khz: Khz, table: &Clocks, cap: Option<EmcCap>, lock: bool) -> EmcSetting {
    let hz = u64::from(khz.0).saturating_mul(1000);
    let is_top = table.last() == Some(&khz);
    EmcSetting {
        cap_hz: cap.map(|cap| match cap {
            // The top clock is written as "no cap".
            EmcCap::Iso if is_top => 0,
            EmcCap::Iso | EmcCap::Clock => hz,
        }),
        lock: lock.then_some(EmcLock {
            locked: true,
            rate_hz: hz,
        }),
    }
}

/// Reads cap and lock.
pub(super) fn read<C: Controls>(controls: &mut C) -> Result<EmcSetting, NodeError> {
    let cap_hz = match controls.has(Node::EmcCap) {
        true => Some(read_patiently(controls, Node::EmcCap)?),
        false => None,
    };
    let lock = match controls.has(Node::EmcLock) {
        true => Some(EmcLock {
            locked: read_patiently(controls, Node::EmcLock)? != 0,
            rate_hz: read_patiently(controls, Node::EmcRate)?,
        }),
        false => None,
    };
    Ok(EmcSetting { cap_hz, lock })
}

/// Sets cap and lock: the cap before the lock, the release before the cap (jetson.md 4.2).
pub(super) fn set<C: Controls>(controls: &mut C, to: &EmcSetting) -> Result<(), NodeError> {
    if let Some(lock) = to.lock.filter(|lock| !lock.locked) {
        release(controls, lock.rate_hz)?;
    }
    if let Some(cap_hz) = to.cap_hz {
        write_patiently(controls, Node::EmcCap, cap_hz)?;
    }
    match to.locked_hz() {
        Some(rate_hz) => lock(controls, rate_hz),
        None => Ok(()),
    }
}

/// Takes the rate back to where it was, then lets the firmware move it again.
fn release<C: Controls>(controls: &mut C, rate_hz: u64) -> Result<(), NodeError> {
    if read_patiently(controls, Node::EmcLock)? != 0 {
        write_patiently(controls, Node::EmcRate, rate_hz)?;
    }
    write_patiently(controls, Node::EmcLock, 0)
}

/// Locks the rate and reads it back: the firmware rounds to its table, and clamps, without a word.
fn lock<C: Controls>(controls: &mut C, rate_hz: u64) -> Result<(), NodeError> {
    write_patiently(controls, Node::EmcLock, 1)?;
    write_patiently(controls, Node::EmcRate, rate_hz)?;
    let mut reads = 1;
    loop {
        // A new rate takes about 8 ms to show (jetson.md 4.1).
        let got = read_patiently(controls, Node::EmcRate)?;
        if same_clock(got, rate_hz) {
            return Ok(());
        }
        if reads == ATTEMPTS {
            return Err(NodeError {
                node: Node::EmcRate,
                cause: Cause::Differs {
                    expected: rate_hz,
                    got,
                },
            });
        }
        reads += 1;
        controls.wait(SETTLE);
    }
}
