//! A board under control.

use super::change::{Change, Differences, OnError};
use super::controls::Controls;
use super::discover::{Found, discover};
use super::effective::RunningClocks;
use super::identity::Identity;
use super::node::NodeError;
use super::overcurrent::OverCurrent;
use super::power::{RailNames, Rails};
use super::record::{Ownership, RecordError, RecordFile};
use super::settings::{Drift, Settings};
use super::shipped::shipped;
use super::startup::DiscoverError;
use super::sysfs::Sysfs;
use super::thermal::{HeatLimits, MilliCelsius, Zones};
use super::topology::{Topology, Unavailable};
use fulcrum_plan::PowerMode;
use fulcrum_plan::units::MilliWatt;
use std::fmt;
use std::path::{Path, PathBuf};

/// What to do about a memory clock that cannot be locked (no debugfs, no root).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EmcPolicy {
    /// Refuse to apply a mode: its times and powers hold for its memory clock only.
    #[default]
    Require,
    /// Set what can be set (the cap), and warn.
    BestEffort,
}

/// How to treat a board.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// About a memory clock that cannot be locked.
    pub emc: EmcPolicy,
    /// Accept clocks that read back differently from what was set (the kernel rounds, firmware
    /// clamps, a hot board is capped) instead of going back. [`Effective`] tells them either way.
    pub accept_other_clocks: bool,
    /// Folder of the record of the original clocks; `run/fulcrum` below the sysfs root if `None`.
    pub state_folder: Option<PathBuf>,
    /// Rails whose sum is the board's power, instead of those of its description: what an AGX Orin's total
    /// is, is disputed (jetson.md 1.8).
    pub power_rails: Option<RailNames>,
}

/// A board under control. Dropping it puts the original clocks back.
#[derive(Debug)]
pub struct Jetson<C: Controls = Sysfs> {
    identity: Identity,
    topology: Topology,
    rails: Rails,
    running: RunningClocks,
    zones: Zones,
    limits: HeatLimits,
    over_current: OverCurrent,
    options: Options,
    record: RecordFile,
    controls: C,
    /// Since the first change.
    owned: Option<Owned>,
}

#[derive(Debug)]
struct Owned {
    ownership: Ownership,
    /// What [`Jetson::restore`] puts back.
    original: Settings,
}

/// What a mode became on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effective {
    /// What was asked.
    pub requested: PowerMode,
    /// What the files read back.
    pub effective: PowerMode,
}

impl Effective {
    /// Whether the board has what was asked. A memory clock that cannot be read is not exact.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.requested == self.effective
    }
}

/// Why a mode was not applied. The board has the clocks it had before, unless `rollback` says
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApplyError {
    /// The live board does not list a part of the mode; nothing was written.
    Unavailable(Unavailable),
    /// The memory clock cannot be locked, and [`EmcPolicy::Require`] holds; nothing was written.
    NoEmcLock,
    /// The original clocks could not be recorded; nothing was written.
    Record(RecordError),
    /// A file failed.
    Failed {
        /// The file and its failure.
        cause: NodeError,
        /// `None`: the clocks of before are back. Otherwise the first file that did not take its old
        /// value; the record stays for the next start.
        rollback: Option<NodeError>,
    },
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => why.fmt(f),
            Self::NoEmcLock => f.write_str(
                "the memory clock cannot be locked: /sys/kernel/debug/bpmp is missing or not \
                 readable; run as root with debugfs mounted, or accept an unlocked memory clock",
            ),
            Self::Record(error) => error.fmt(f),
            Self::Failed {
                cause,
                rollback: None,
            } => write!(f, "{cause}; the clocks of before are back"),
            Self::Failed {
                cause,
                rollback: Some(failed),
            } => write!(f, "{cause}; and on the way back {failed}"),
        }
    }
}

impl core::error::Error for ApplyError {}

/// Why the original clocks are not (all) back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestoreError {
    /// The first file that did not take its old value; the others have theirs. The record stays.
    Failed(NodeError),
    /// The clocks are back or were not known: the record could not be read, owned or removed.
    Record(RecordError),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "not all original clocks are back: {error}"),
            Self::Record(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RestoreError {}

impl Jetson {
    /// Finds the board below `root` (`/` on a device). Reads only.
    ///
    /// # Errors
    /// This is no Jetson, no board we know, or its CPU or GPU clocks are not there.
    pub fn discover(root: &Path) -> Result<Self, DiscoverError> {
        Self::discover_with(root, Options::default(), |sysfs| sysfs)
    }
}

impl<C: Controls> Jetson<C> {
    /// As [`Jetson::discover`], with options, and with `wrap` put between the order of writes and the
    /// files.
    ///
    /// # Errors
    /// As [`Jetson::discover`].
    pub fn discover_with(
        root: &Path,
        options: Options,
        wrap: impl FnOnce(Sysfs) -> C,
    ) -> Result<Self, DiscoverError> {
        let Found {
            identity,
            topology,
            sysfs,
        } = discover(root, shipped())?;
        let described = &identity.board.power_rails;
        let rails = options.power_rails.as_ref().unwrap_or(described).clone();
        Ok(Self {
            rails: Rails::find(root, rails),
            running: RunningClocks::find(root, &topology),
            zones: Zones::find(root),
            limits: HeatLimits::find(root),
            over_current: OverCurrent::find(root),
            record: RecordFile::new(root, options.state_folder.as_deref()),
            identity,
            topology,
            options,
            controls: wrap(sysfs),
            owned: None,
        })
    }

    /// Which board this is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What its kernel says it has.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The seam to its files.
    #[must_use]
    pub fn controls(&self) -> &C {
        &self.controls
    }

    /// Its power rails.
    #[must_use]
    pub fn rails(&self) -> &Rails {
        &self.rails
    }

    /// Its thermal zones.
    #[must_use]
    pub fn zones(&self) -> &Zones {
        &self.zones
    }

    /// The clocks that run, as far as the kernel measures them.
    #[must_use]
    pub fn running(&self) -> &RunningClocks {
        &self.running
    }

    /// Board power now: the sum of its rails. `None` when one of them is absent, or repeats itself.
    #[must_use]
    pub fn power(&self) -> Option<MilliWatt> {
        self.rails.total()
    }

    /// The hottest zone now.
    #[must_use]
    pub fn temperature_max(&self) -> Option<MilliCelsius> {
        self.zones.max()
    }

    /// Whether heat limits a clock now; `None` if the board does not tell.
    #[must_use]
    pub fn is_heat_limited(&self) -> Option<bool> {
        self.limits.is_active()
    }

    /// Over-current events since boot; `None` if the board does not count them.
    #[must_use]
    pub fn over_current_events(&self) -> Option<u64> {
        self.over_current.events()
    }

    /// Takes the board, as [`Jetson::apply`] does before it writes anything: records the original clocks durably.
    ///
    /// # Errors
    /// [`ApplyError::Record`]: another process has the board, or the clocks cannot be recorded;
    /// [`ApplyError::Failed`]: they cannot be read. Nothing was changed.
    pub fn take(&mut self) -> Result<(), ApplyError> {
        self.taken().map(drop)
    }

    /// Takes the board; returns what is set now.
    fn taken(&mut self) -> Result<Settings, ApplyError> {
        let untouched = |cause| ApplyError::Failed {
            cause,
            rollback: None,
        };
        let live = Settings::read(&mut self.controls, &self.topology).map_err(untouched)?;
        self.own(&live).map_err(ApplyError::Record)?;
        Ok(live)
    }

    /// Sets a power mode: cores, and every clock pinned, in the safe order of `change`.
    ///
    /// The first call records the original clocks durably before it writes anything else.
    ///
    /// # Errors
    /// See [`ApplyError`]. On any failure the board gets back the clocks it had before this call.
    pub fn apply(&mut self, mode: &PowerMode) -> Result<Effective, ApplyError> {
        self.topology.check(mode).map_err(ApplyError::Unavailable)?;
        if !self.topology.emc_lock && self.options.emc == EmcPolicy::Require {
            return Err(ApplyError::NoEmcLock);
        }
        let mut previous = self.taken()?;
        let mut target = previous.for_mode(mode, &self.topology);
        if let Some(owned) = &self.owned {
            target.return_bounds_of_leaving_clusters(&previous, &owned.original);
        }
        match self.change_to(&target, &mut previous) {
            Ok(live) => Ok(Effective {
                requested: *mode,
                effective: live.effective_mode(&self.topology),
            }),
            Err(cause) => Err(ApplyError::Failed {
                cause,
                rollback: self.set_all(&previous).err(),
            }),
        }
    }

    /// What is no longer as `mode` was set: nvpmodel, jetson_clocks, udev scripts and
    /// `systemctl isolate` change clocks behind our back (jetson.md 4.5).
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn verify(&mut self, mode: &PowerMode) -> Result<Drift, NodeError> {
        let live = Settings::read(&mut self.controls, &self.topology)?;
        Ok(Drift::between(&live.for_mode(mode, &self.topology), &live))
    }

    /// The mode that the files amount to now: cores online, upper bounds, the locked memory clock (0 if it
    /// is not locked).
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn mode(&mut self) -> Result<PowerMode, NodeError> {
        let live = Settings::read(&mut self.controls, &self.topology)?;
        Ok(live.effective_mode(&self.topology))
    }

    /// Puts the clocks back that were there before the first change; does nothing without one.
    ///
    /// # Errors
    /// A file did not take its old value; every other file has its own, and the record stays, so that
    /// another try or another process can go on.
    pub fn restore(&mut self) -> Result<(), RestoreError> {
        let Some(owned) = self.owned.take() else {
            return Ok(());
        };
        if let Err(error) = self.set_all(&owned.original) {
            self.owned = Some(owned);
            return Err(RestoreError::Failed(error));
        }
        self.record
            .remove(&owned.ownership)
            .map_err(RestoreError::Record)
    }

    /// Puts back what a killed process left changed. Tells whether there was something.
    ///
    /// # Errors
    /// As [`Self::restore`]; also when the record is damaged, and when another process that controls
    /// this board is alive.
    pub fn recover(&mut self) -> Result<bool, RestoreError> {
        if self.owned.is_some() || self.record.load().map_err(RestoreError::Record)?.is_none() {
            return Ok(false);
        }
        let ownership = self.record.own().map_err(RestoreError::Record)?;
        // Read again: a process that was alive a moment ago may have put them back.
        let Some(original) = self.record.load().map_err(RestoreError::Record)? else {
            return Ok(false);
        };
        self.owned = Some(Owned {
            ownership,
            original,
        });
        self.restore().map(|()| true)
    }

    /// Whether a killed process left a record of original clocks ([`Self::recover`] puts them back).
    ///
    /// # Errors
    /// The record cannot be read, or is damaged.
    pub fn is_left_changed(&self) -> Result<bool, RecordError> {
        Ok(self.owned.is_none() && self.record.load()?.is_some())
    }

    /// Takes the board and records its original clocks. What a killed process recorded counts as the
    /// original, not what it left behind.
    fn own(&mut self, live: &Settings) -> Result<(), RecordError> {
        if self.owned.is_some() {
            return Ok(());
        }
        let ownership = self.record.own()?;
        let original = match self.record.load()? {
            Some(left) => left,
            None => {
                self.record.save(&ownership, live)?;
                live.clone()
            }
        };
        self.owned = Some(Owned {
            ownership,
            original,
        });
        Ok(())
    }

    /// Changes the board and reads it back. Clusters that come online for the first time tell their
    /// bounds to `previous` and to the record before these are changed.
    fn change_to(
        &mut self,
        target: &Settings,
        previous: &mut Settings,
    ) -> Result<Settings, NodeError> {
        let differences = match self.options.accept_other_clocks {
            true => Differences::Accept,
            false => Differences::Refuse,
        };
        let mut change = Change::new(
            &mut self.controls,
            &self.topology,
            OnError::Stop,
            differences,
        );
        change.bring_online(target)?;
        self.learn(previous)?;
        let mut change = Change::new(
            &mut self.controls,
            &self.topology,
            OnError::Stop,
            differences,
        );
        change.set_clocks(target)?;
        Settings::read(&mut self.controls, &self.topology)
    }

    fn learn(&mut self, previous: &mut Settings) -> Result<(), NodeError> {
        if previous
            .clusters
            .iter()
            .all(|cluster| cluster.range_khz.is_some())
        {
            return Ok(());
        }
        let live = Settings::read(&mut self.controls, &self.topology)?;
        previous.learn(&live);
        let Some(owned) = &mut self.owned else {
            return Ok(());
        };
        if owned.original.learn(&live) {
            // The record on disk stays good without this: it then leaves the cluster as it is.
            if let Err(error) = self.record.save(&owned.ownership, &owned.original) {
                log::warn!("{error}");
            }
        }
        Ok(())
    }

    /// Sets everything that can be set, and reads it back; the first failure is told at the end.
    fn set_all(&mut self, to: &Settings) -> Result<(), NodeError> {
        let mut change = Change::new(
            &mut self.controls,
            &self.topology,
            OnError::KeepGoing,
            Differences::AcceptLimited,
        );
        change.bring_online(to)?;
        change.set_clocks(to)?;
        change.finish()
    }
}

impl<C: Controls> Drop for Jetson<C> {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            log::error!("{error}");
        }
    }
}
