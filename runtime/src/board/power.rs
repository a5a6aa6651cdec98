//! Power rails: INA3221 (voltage and current per channel) and INA238 (power) (jetson.md 1.8).
//!
//! A full sample reads two registers per rail, about 0.55 ms each on an AGX Orin, and opens nothing.

use super::number;
use super::reading::Reading;
use super::startup::{read_start, sorted_entries};
use fulcrum_plan::Board;
use fulcrum_plan::board::RAILS_MAX;
use fulcrum_plan::units::MilliWatt;
use std::path::Path;

/// Most rails that one board has.
pub const BOARD_RAILS_MAX: usize = 8;

/// Channels of an INA3221.
const CHANNELS: u8 = 3;

/// One power sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerSample {
    /// Sum of the rails that make up the board's power; `None` if one of them is absent.
    pub total: Option<MilliWatt>,
    /// Every rail in the order of [`Rails::names`]; `None` for one that cannot be read now.
    pub rails: heapless::Vec<Option<MilliWatt>, BOARD_RAILS_MAX>,
}

/// The power rails of a board, open.
#[derive(Debug)]
pub struct Rails {
    rails: Vec<Rail>,
    /// Rails whose sum is the board's power, by index; `None` if one of them was not found.
    total: Option<heapless::Vec<usize, RAILS_MAX>>,
}

#[derive(Debug)]
struct Rail {
    name: String,
    sensor: Sensor,
}

#[derive(Debug)]
enum Sensor {
    /// INA3221: bus voltage in mV, current in mA.
    VoltageCurrent { mv: Reading, ma: Reading },
    /// INA238: power in µW.
    Power { uw: Reading },
}

impl Sensor {
    fn read(&self) -> Option<MilliWatt> {
        let mw = match self {
            // A rail that feeds back reads a negative current: no power is drawn.
            Self::VoltageCurrent { mv, ma } => {
                let ma = u64::try_from(ma.signed()?.max(0)).ok()?;
                mv.unsigned()?.checked_mul(ma)?.div_ceil(1000)
            }
            Self::Power { uw } => uw.unsigned()?.div_ceil(1000),
        };
        u32::try_from(mw).ok().map(MilliWatt)
    }
}

impl Rails {
    /// Finds the rails below `root`. A board without sensors has none, and no total.
    pub(super) fn find(root: &Path, board: &Board) -> Self {
        let mut rails = Vec::new();
        for folder in sorted_entries(&root.join("sys/class/hwmon")) {
            match number::first_line(&read_start(&folder.join("name")).unwrap_or_default()) {
                Some("ina3221") => rails.extend((1..=CHANNELS).filter_map(|n| ina3221(&folder, n))),
                Some("ina238") => rails.extend(ina238(&folder)),
                _ => {}
            }
        }
        rails.truncate(BOARD_RAILS_MAX);
        let mut total = Some(heapless::Vec::new());
        for wanted in &board.power_rails {
            match rails.iter().position(|rail| rail.name == wanted.as_str()) {
                Some(index) => {
                    // As many as the description has, and of the same capacity.
                    let _ = total.as_mut().map(|total| total.push(index));
                }
                None => {
                    log::warn!("no power rail {wanted}: the board's power is not known");
                    total = None;
                    break;
                }
            }
        }
        Self { rails, total }
    }

    /// Names of the rails.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rails.iter().map(|rail| rail.name.as_str())
    }

    /// Reads every rail.
    #[must_use]
    pub fn sample(&self) -> PowerSample {
        let rails: heapless::Vec<_, BOARD_RAILS_MAX> =
            self.rails.iter().map(|rail| rail.sensor.read()).collect();
        let total = self.total.as_ref().and_then(|indices| {
            indices.iter().try_fold(MilliWatt(0), |sum, index| {
                let rail = (*rails.get(*index)?)?;
                sum.0.checked_add(rail.0).map(MilliWatt)
            })
        });
        PowerSample { total, rails }
    }

    /// Reads the rails that make up the board's power, and no others.
    #[must_use]
    pub fn total(&self) -> Option<MilliWatt> {
        self.total
            .as_ref()?
            .iter()
            .try_fold(MilliWatt(0), |sum, index| {
                let rail = self.rails.get(*index)?.sensor.read()?;
                sum.0.checked_add(rail.0).map(MilliWatt)
            })
    }
}

/// Channel `n` of an INA3221; `None` for one that is not connected.
fn ina3221(folder: &Path, n: u8) -> Option<Rail> {
    let label = read_start(&folder.join(format!("in{n}_label"))).ok()?;
    let name = number::first_line(&label).filter(|name| *name != "NC")?;
    Some(Rail {
        name: name.to_owned(),
        sensor: Sensor::VoltageCurrent {
            mv: Reading::open(&folder.join(format!("in{n}_input")))?,
            ma: Reading::open(&folder.join(format!("curr{n}_input")))?,
        },
    })
}

/// The only channel of an INA238: the board's input on Thor.
fn ina238(folder: &Path) -> Option<Rail> {
    Some(Rail {
        name: "VIN".to_owned(),
        sensor: Sensor::Power {
            uw: Reading::open(&folder.join("power1_input"))?,
        },
    })
}
