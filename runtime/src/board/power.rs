//! Power rails: INA3221 (voltage and current per channel) and INA238 (power) (jetson.md 1.8).
//!
//! A full sample reads two registers per rail, about 0.55 ms each on an AGX Orin, and opens nothing. A chip
//! that repeats itself is absent (`board::stale`).

use super::number;
use super::reading::Reading;
use super::stale::Freshness;
use super::startup::{read_start, sorted_entries};
use fulcrum_plan::board::RAILS_MAX;
use fulcrum_plan::units::MilliWatt;
use std::path::Path;
use std::time::Instant;

/// Most rails that one board has.
pub const BOARD_RAILS_MAX: usize = 8;

/// Channels of an INA3221.
const CHANNELS: u8 = 3;
/// One channel alone may well stand still: it has two registers.
const CHANNELS_JUDGED_MIN: usize = 2;

/// Names of the rails whose sum is a board's power.
pub type RailNames = heapless::Vec<heapless::String<24>, RAILS_MAX>;

/// One power sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerSample {
    /// Sum of the rails that make up the board's power; `None` if one of them is absent.
    pub total: Option<MilliWatt>,
    /// Every rail in the order of [`Rails::names`]; `None` for one that cannot be read now, or whose chip
    /// repeats itself.
    pub rails: heapless::Vec<Option<MilliWatt>, BOARD_RAILS_MAX>,
}

/// The power rails of a board, open.
#[derive(Debug)]
pub struct Rails {
    rails: Vec<Rail>,
    /// Names of those whose sum is the board's power.
    summed: RailNames,
    /// The same by index; `None` if one of them was not found.
    total: Option<heapless::Vec<usize, RAILS_MAX>>,
    start: Instant,
}

#[derive(Debug)]
struct Rail {
    name: String,
    sensor: Sensor,
    /// Which chip it belongs to, and how often that has a new value.
    chip: usize,
    update_ms: u64,
    freshness: Freshness,
}

#[derive(Debug)]
enum Sensor {
    /// INA3221: bus voltage in mV, current in mA.
    VoltageCurrent { mv: Reading, ma: Reading },
    /// INA238: power in µW.
    Power { uw: Reading },
}

impl Sensor {
    /// The registers as one number, and the power that they amount to.
    fn read(&self) -> Option<(u64, MilliWatt)> {
        let (registers, mw) = match self {
            Self::VoltageCurrent { mv, ma } => {
                let (mv, ma) = (mv.unsigned()?, ma.signed()?);
                // A rail that feeds back reads a negative current: no power is drawn.
                let drawn_ma = u64::try_from(ma.max(0)).ok()?;
                let registers = (mv << 32) ^ ma.cast_unsigned();
                (registers, mv.checked_mul(drawn_ma)?.div_ceil(1000))
            }
            Self::Power { uw } => (uw.unsigned()?, uw.unsigned()?.div_ceil(1000)),
        };
        Some((registers, MilliWatt(u32::try_from(mw).ok()?)))
    }

    /// A folder of plain files stands still, and is none the worse for it.
    fn is_plain(&self) -> bool {
        match self {
            Self::VoltageCurrent { ma, .. } => ma.is_plain(),
            Self::Power { uw } => uw.is_plain(),
        }
    }
}

impl Rails {
    /// Finds the rails below `root`; the board's power is the sum of `summed`. A board without sensors has
    /// none, and no total.
    pub(super) fn find(root: &Path, summed: RailNames) -> Self {
        let mut rails = Vec::new();
        for (chip, folder) in sorted_entries(&root.join("sys/class/hwmon"))
            .iter()
            .enumerate()
        {
            let update_ms = read_start(&folder.join("update_interval"))
                .ok()
                .and_then(|bytes| number::parse_u64(&bytes));
            let rail = |(name, sensor)| Rail {
                name,
                sensor,
                chip,
                update_ms: update_ms.unwrap_or(0),
                freshness: Freshness::default(),
            };
            match number::first_line(&read_start(&folder.join("name")).unwrap_or_default()) {
                Some("ina3221") => {
                    let channels = (1..=CHANNELS).filter_map(|n| ina3221(folder, n));
                    rails.extend(channels.map(rail));
                }
                Some("ina238") => rails.extend(ina238(folder).map(rail)),
                _ => {}
            }
        }
        if rails.len() > BOARD_RAILS_MAX {
            // A carrier board may have chips of its own, and be listed first.
            rails.sort_by_key(|rail: &Rail| !summed.iter().any(|name| rail.name == name.as_str()));
            rails.truncate(BOARD_RAILS_MAX);
        }
        let mut total = Some(heapless::Vec::new());
        for wanted in &summed {
            match rails.iter().position(|rail| rail.name == wanted.as_str()) {
                Some(index) => {
                    // As many as there are names, and of the same capacity.
                    let _ = total.as_mut().map(|total| total.push(index));
                }
                None => {
                    let names: Vec<&str> = rails.iter().map(|rail| rail.name.as_str()).collect();
                    log::warn!(
                        "no power rail {wanted}: the board's power is not known; its rails are [{}]",
                        names.join(", ")
                    );
                    total = None;
                    break;
                }
            }
        }
        Self {
            rails,
            summed,
            total,
            start: Instant::now(),
        }
    }

    /// Names of the rails.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.rails.iter().map(|rail| rail.name.as_str())
    }

    /// Names of the rails whose sum is the board's power.
    #[must_use]
    pub fn summed(&self) -> &RailNames {
        &self.summed
    }

    /// Reads every rail: those of no total too, because they tell whether their chip is alive.
    #[must_use]
    pub fn sample(&self) -> PowerSample {
        let now_ms = self.now_ms();
        let mut powers: heapless::Vec<_, BOARD_RAILS_MAX> = self
            .rails
            .iter()
            .map(|rail| {
                let (registers, power) = rail.sensor.read()?;
                rail.freshness.observe(registers, now_ms);
                Some(power)
            })
            .collect();
        for (rail, power) in self.rails.iter().zip(&mut powers) {
            if self.repeats(rail.chip, now_ms) {
                *power = None;
            }
        }
        let total = self.total.as_ref().and_then(|indices| {
            indices.iter().try_fold(MilliWatt(0), |sum, index| {
                let rail = (*powers.get(*index)?)?;
                sum.0.checked_add(rail.0).map(MilliWatt)
            })
        });
        PowerSample {
            total,
            rails: powers,
        }
    }

    /// Board power now.
    #[must_use]
    pub fn total(&self) -> Option<MilliWatt> {
        self.sample().total
    }

    /// Whether a chip goes on answering, but with nothing new.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        let now_ms = self.now_ms();
        self.rails
            .iter()
            .any(|rail| self.repeats(rail.chip, now_ms))
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether every channel of a chip that was read repeats itself.
    fn repeats(&self, chip: usize, now_ms: u64) -> bool {
        let channels = self
            .rails
            .iter()
            .filter(|rail| rail.chip == chip && !rail.sensor.is_plain());
        let stale = channels.filter_map(|rail| rail.freshness.is_stale(now_ms, rail.update_ms));
        let (count, all) = stale.fold((0, true), |(count, all), stale| (count + 1, all && stale));
        count >= CHANNELS_JUDGED_MIN && all
    }
}

/// Channel `n` of an INA3221; `None` for one that is not connected.
fn ina3221(folder: &Path, n: u8) -> Option<(String, Sensor)> {
    let label = read_start(&folder.join(format!("in{n}_label"))).ok()?;
    let name = number::first_line(&label).filter(|name| *name != "NC")?;
    let sensor = Sensor::VoltageCurrent {
        mv: Reading::open(&folder.join(format!("in{n}_input")))?,
        ma: Reading::open(&folder.join(format!("curr{n}_input")))?,
    };
    Some((name.to_owned(), sensor))
}

/// The only channel of an INA238: the board's input on Thor.
fn ina238(folder: &Path) -> Option<(String, Sensor)> {
    let uw = Reading::open(&folder.join("power1_input"))?;
    Some(("VIN".to_owned(), Sensor::Power { uw }))
}
