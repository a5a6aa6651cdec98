//! Thermal zones, and whether heat limits a clock (jetson.md 1.6).

use super::number;
use super::reading::Reading;
use super::startup::{read_start, sorted_entries};
use std::path::Path;

/// What JetPack 5 shows for a zone that is power-gated.
const GATED_MILLI_C: i64 = -256_000;

/// A temperature in thousandths of a degree Celsius.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MilliCelsius(pub i32);

impl core::fmt::Display for MilliCelsius {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:.1} °C", f64::from(self.0) / 1e3)
    }
}

/// A board's thermal zones, open.
#[derive(Debug)]
pub struct Zones {
    zones: Vec<Zone>,
}

#[derive(Debug)]
struct Zone {
    name: String,
    temperature: Reading,
}

impl Zones {
    /// Finds the zones below `root`.
    pub(super) fn find(root: &Path) -> Self {
        let zones = sorted_entries(&root.join("sys/class/thermal"))
            .iter()
            .filter_map(|folder| {
                folder.file_name()?.to_str()?.strip_prefix("thermal_zone")?;
                let name = read_start(&folder.join("type")).ok()?;
                Some(Zone {
                    name: number::first_line(&name)?.to_owned(),
                    temperature: Reading::open(&folder.join("temp"))?,
                })
            })
            .collect();
        Self { zones }
    }

    /// Names of the zones.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.zones.iter().map(|zone| zone.name.as_str())
    }

    /// The zone at `index` in the order of [`Self::names`]; `None` while it is power-gated (the read
    /// gives `EAGAIN`, or -256 °C) or cannot be read.
    #[must_use]
    pub fn read(&self, index: usize) -> Option<MilliCelsius> {
        let milli_c = self.zones.get(index)?.temperature.signed()?;
        if milli_c <= GATED_MILLI_C {
            return None;
        }
        i32::try_from(milli_c).ok().map(MilliCelsius)
    }

    /// The hottest zone that can be read.
    #[must_use]
    pub fn max(&self) -> Option<MilliCelsius> {
        (0..self.zones.len())
            .filter_map(|index| self.read(index))
            .max()
    }
}

/// The cooling devices that limit clocks, open.
#[derive(Debug)]
pub struct HeatLimits {
    states: Vec<Reading>,
}

impl HeatLimits {
    /// Finds them below `root`: the kernel names them after `cpufreq` and `devfreq`. Fans do not count.
    pub(super) fn find(root: &Path) -> Self {
        let states = sorted_entries(&root.join("sys/class/thermal"))
            .iter()
            .filter(|folder| {
                let name = read_start(&folder.join("type")).unwrap_or_default();
                number::first_line(&name)
                    .is_some_and(|name| name.contains("cpufreq") || name.contains("devfreq"))
            })
            .filter_map(|folder| Reading::open(&folder.join("cur_state")))
            .collect();
        Self { states }
    }

    /// Whether one of them is active; `None` if there is none, or one cannot be read.
    #[must_use]
    pub fn is_active(&self) -> Option<bool> {
        if self.states.is_empty() {
            return None;
        }
        self.states.iter().try_fold(false, |active, state| {
            Some(active | (state.unsigned()? > 0))
        })
    }
}
