//! A user's own `nvpmodel.conf`: NVIDIA's named modes as power modes of ours, to compare a plan with
//! the presets.
//!
//! The syntax and its quirks: `docs/boards.md`, section 2.3. NVIDIA's files are
//! proprietary: they are read where the user has them, and none is shipped.

use fulcrum_plan::board::Clocks;
use fulcrum_plan::units::Khz;
use fulcrum_plan::{Board, PowerMode};
use std::collections::BTreeMap;
use std::fmt;

/// What a conf file says, before it means anything for a board.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conf {
    /// Path of every argument of every declared parameter.
    params: BTreeMap<String, BTreeMap<String, String>>,
    /// The modes in the order of the file.
    pub modes: Vec<ConfMode>,
    /// Id of the default mode.
    pub default_id: u32,
}

/// One `POWER_MODEL` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfMode {
    /// Number, as `nvpmodel -m` takes it.
    pub id: u32,
    /// Name, as `nvpmodel -q` shows it.
    pub name: String,
    /// Parameter, argument and value, in the order of the file.
    settings: Vec<(String, String, String)>,
}

/// A named mode, as far as it is a power mode of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedMode {
    /// Number.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Its cores and clocks. NVIDIA's modes cap clocks where ours pin them: this is the upper end.
    pub mode: PowerMode,
    /// GPU power-gating masks that it asks for: name and value. They need a reboot.
    pub masks: Vec<(String, u64)>,
    /// What it says beyond a power mode, and what was rounded to the board's tables.
    pub notes: Vec<String>,
}

/// Why a text is no `nvpmodel.conf`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfError {
    /// Line, counted from 1; 0 is the file as a whole.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// `< … >` of another kind than PARAM, POWER_MODEL and PM_CONFIG.
    UnknownBlock(String),
    /// A block without this key.
    MissingKey(&'static str),
    /// A number was expected.
    NotANumber(String),
    /// A value that the file it is for does not take.
    Value {
        /// What the mode writes.
        value: String,
        /// What may be written there.
        allowed: &'static str,
    },
    /// A line with too few fields, or outside any block.
    Stray(String),
    /// A mode sets a parameter or argument that was not declared before.
    Undeclared(String),
    /// A mode's id was used before.
    SameId(u32),
    /// No `PM_CONFIG` block, or its mode does not exist.
    NoDefault,
    /// No mode at all.
    NoModes,
}

impl fmt::Display for ConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        match &self.reason {
            Reason::UnknownBlock(text) => write!(
                f,
                "\"{text}\" begins no block; known are PARAM, POWER_MODEL and PM_CONFIG"
            ),
            Reason::MissingKey(key) => write!(f, "the block has no {key}="),
            Reason::NotANumber(text) => write!(f, "\"{text}\" is not a whole number"),
            Reason::Value { value, allowed } => {
                write!(f, "\"{value}\" cannot be set here; allowed: {allowed}")
            }
            Reason::Stray(text) => write!(f, "\"{text}\" belongs to no block, or lacks a field"),
            Reason::Undeclared(name) => write!(f, "{name} was not declared by a PARAM block"),
            Reason::SameId(id) => write!(f, "the mode id {id} is used twice"),
            Reason::NoDefault => f.write_str("no PM_CONFIG block names an existing default mode"),
            Reason::NoModes => f.write_str("no POWER_MODEL block"),
        }
    }
}

impl std::error::Error for ConfError {}

/// The block that a line belongs to.
enum Block {
    None,
    Param(String),
    Mode,
}

/// Reads a conf file.
///
/// # Errors
/// The first line that is not in NVIDIA's syntax; see [`Reason`].
pub fn parse(text: &str) -> Result<Conf, ConfError> {
    let mut conf = Conf::default();
    let mut block = Block::None;
    let mut default_id = None;
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.split('#').next().unwrap_or_default().trim();
        let at = |reason| ConfError { line, reason };
        if text.is_empty() {
            continue;
        }
        if let Some(header) = text
            .strip_prefix('<')
            .and_then(|rest| rest.strip_suffix('>'))
        {
            block = begin(header.trim(), &mut conf, &mut default_id).map_err(at)?;
            continue;
        }
        let mut fields = text.split_whitespace();
        let (first, second, third) = (fields.next(), fields.next(), fields.next());
        match (&block, first, second, third) {
            (Block::Param(param), Some(arg), Some(path), _) => {
                let args = conf.params.entry(param.clone()).or_default();
                args.insert(arg.to_owned(), path.to_owned());
            }
            (Block::Mode, Some(param), Some(arg), Some(value)) => {
                let path = conf.params.get(param).and_then(|args| args.get(arg));
                let path = path.ok_or_else(|| at(Reason::Undeclared(format!("{param} {arg}"))))?;
                target(path, arg).check(value).map_err(at)?;
                let setting = (param.to_owned(), arg.to_owned(), value.to_owned());
                if let Some(mode) = conf.modes.last_mut() {
                    mode.settings.push(setting);
                }
            }
            _ => return Err(at(Reason::Stray(text.to_owned()))),
        }
    }
    let whole = |reason| ConfError { line: 0, reason };
    if conf.modes.is_empty() {
        return Err(whole(Reason::NoModes));
    }
    conf.default_id = default_id
        .filter(|id| conf.modes.iter().any(|mode| mode.id == *id))
        .ok_or(whole(Reason::NoDefault))?;
    Ok(conf)
}

/// Begins a block. NVIDIA's own files are not strict about the blanks beside the brackets.
fn begin(header: &str, conf: &mut Conf, default_id: &mut Option<u32>) -> Result<Block, Reason> {
    let mut words = header.split_whitespace();
    let kind = words.next().unwrap_or_default();
    let keys: BTreeMap<&str, &str> = words.filter_map(|word| word.split_once('=')).collect();
    let key = |name: &'static str| keys.get(name).copied().ok_or(Reason::MissingKey(name));
    let number = |text: &str| {
        text.parse::<u32>()
            .map_err(|_| Reason::NotANumber(text.to_owned()))
    };
    match kind {
        "PARAM" => {
            key("TYPE")?;
            let name = key("NAME")?.to_owned();
            conf.params.entry(name.clone()).or_default();
            Ok(Block::Param(name))
        }
        "POWER_MODEL" => {
            let id = number(key("ID")?)?;
            if conf.modes.iter().any(|mode| mode.id == id) {
                return Err(Reason::SameId(id));
            }
            conf.modes.push(ConfMode {
                id,
                name: key("NAME")?.to_owned(),
                settings: Vec::new(),
            });
            Ok(Block::Mode)
        }
        "PM_CONFIG" => {
            *default_id = Some(number(key("DEFAULT")?)?);
            Ok(Block::None)
        }
        _ => Err(Reason::UnknownBlock(header.to_owned())),
    }
}

/// What the path of an argument controls. Names differ from file to file (`CPU_A78_1` is a cluster in
/// one and a core in another), paths do not.
enum Target {
    CpuOnline(u8),
    CpuMax(u8),
    GpuMax,
    EmcCap,
    Mask(String),
    /// Bounds below, tables, and the GPU's power control: no part of a mode.
    Silent,
    Other,
}

impl Target {
    /// Whether a mode may write this.
    fn check(&self, value: &str) -> Result<(), Reason> {
        let (is_allowed, allowed) = match self {
            Self::CpuOnline(_) => (matches!(value, "0" | "1"), "0, 1"),
            Self::CpuMax(_) | Self::GpuMax | Self::EmcCap => (
                value == "-1" || value.parse::<u64>().is_ok(),
                "a whole number, -1 for no cap",
            ),
            Self::Mask(_) => (mask(value).is_some(), "a whole number"),
            Self::Silent | Self::Other => (true, ""),
        };
        match is_allowed {
            true => Ok(()),
            false => Err(Reason::Value {
                value: value.to_owned(),
                allowed,
            }),
        }
    }
}

/// A mask, in decimal or hexadecimal digits.
fn mask(value: &str) -> Option<u64> {
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

fn target(path: &str, arg: &str) -> Target {
    let cpu = || {
        let rest = path.split_once("/cpu/cpu")?.1;
        rest.split('/').next()?.parse().ok()
    };
    let is_max = arg.starts_with("MAX_FREQ");
    let file = path.rsplit('/').next().unwrap_or_default();
    match cpu() {
        Some(cpu) if file == "online" => return Target::CpuOnline(cpu),
        Some(cpu) if is_max => return Target::CpuMax(cpu),
        Some(_) => return Target::Silent,
        None => {}
    }
    if path.contains("/devfreq") {
        return if is_max {
            Target::GpuMax
        } else {
            Target::Silent
        };
    }
    match file {
        "emc_iso_cap" => Target::EmcCap,
        "emc" if path.contains("clk_cap") => Target::EmcCap,
        "tpc_pg_mask" | "fbp_pg_mask" | "gpc_pg_mask" => Target::Mask(file.to_owned()),
        "control" | "railgate_enable" => Target::Silent,
        _ => Target::Other,
    }
}

impl Conf {
    /// The lowest CPU clock that the default mode allows, in kHz; `None` if it says nothing of it.
    #[must_use]
    pub fn cpu_floor_khz(&self) -> Option<u64> {
        let is_default = |mode: &&ConfMode| mode.id == self.default_id;
        let settings = &self.modes.iter().find(is_default)?.settings;
        let floors = settings.iter().filter_map(|(param, arg, value)| {
            let path = self.params.get(param)?.get(arg)?;
            let is_cpus = path.contains("/cpu/cpu") && arg.starts_with("MIN_FREQ");
            is_cpus.then(|| value.parse().ok())?
        });
        floors.filter(|khz| *khz > 0).min()
    }

    /// The modes, as power modes of `board`. Caps between two clocks of the board take the lower one,
    /// as the kernel does.
    #[must_use]
    pub fn named_modes(&self, board: &Board) -> Vec<NamedMode> {
        self.modes
            .iter()
            .map(|mode| self.named_mode(mode, board))
            .collect()
    }

    fn named_mode(&self, conf: &ConfMode, board: &Board) -> NamedMode {
        let mut offline = 0u64;
        let mut cpu_caps: BTreeMap<u8, u64> = BTreeMap::new();
        let (mut gpu_hz, mut emc_hz) = (None, None);
        let (mut masks, mut notes) = (Vec::new(), Vec::new());
        for (param, arg, value) in &conf.settings {
            let path = self.params.get(param).and_then(|args| args.get(arg));
            let cap = cap(value);
            match target(path.map_or("", String::as_str), arg) {
                Target::CpuOnline(cpu) if value == "0" => {
                    offline |= 1u64.checked_shl(cpu.into()).unwrap_or(0);
                }
                Target::CpuMax(cpu) => {
                    cpu_caps.extend(cap.map(|khz| (cpu, khz)));
                }
                Target::GpuMax => gpu_hz = cap,
                Target::EmcCap => emc_hz = cap.filter(|hz| *hz != 0),
                Target::Mask(name) => masks.extend(mask(value).map(|value| (name, value))),
                Target::CpuOnline(_) | Target::Silent => {}
                Target::Other => notes.push(format!("{param} {arg} {value}: not ours to set")),
            }
        }
        notes.dedup();
        let online = |cpu: u8| offline & 1u64.checked_shl(cpu.into()).unwrap_or(0) == 0;
        // A cap of a cluster whose cores are all off does not count.
        let live_caps = cpu_caps.iter().filter(|(cpu, _)| {
            let end = board.clusters.iter().find(|start| *start > *cpu);
            (**cpu..*end.unwrap_or(&board.cores)).any(online)
        });
        let cpu_khz = live_caps.map(|(_, khz)| *khz).min();
        let cores = (0..board.cores).filter(|cpu| online(*cpu)).count();
        let gpu_table = best_table(board, gpu_hz);
        let mut round =
            |name, table: &Clocks, asked_khz| round_down(name, table, asked_khz, &mut notes);
        let mode = PowerMode {
            cores: u8::try_from(cores).unwrap_or(board.cores),
            cpu_khz: round("CPU", &board.cpu_khz, cpu_khz),
            gpu_khz: round("GPU", gpu_table, gpu_hz.map(|hz| hz / 1000)),
            emc_khz: round("memory", &board.emc_khz, emc_hz.map(|hz| hz / 1000)),
        };
        NamedMode {
            id: conf.id,
            name: conf.name.clone(),
            mode,
            masks,
            notes,
        }
    }
}

/// A cap; `None` is no cap: -1, or the largest 32-bit integer, as which nvpmodel writes it.
fn cap(value: &str) -> Option<u64> {
    value
        .parse()
        .ok()
        .filter(|cap| *cap != u64::from(i32::MAX.unsigned_abs()))
}

/// The GPU table that lists the cap, else the first: the file does not say which firmware it is for.
fn best_table(board: &Board, gpu_hz: Option<u64>) -> &Clocks {
    static EMPTY: Clocks = Clocks::new();
    let lists = |table: &&Clocks| {
        table
            .iter()
            .any(|khz| Some(u64::from(khz.0) * 1000) == gpu_hz)
    };
    let mut tables = board.gpu_khz.iter();
    let listing = tables.find(lists);
    listing.or(board.gpu_khz.first()).unwrap_or(&EMPTY)
}

/// The highest clock that is not above the cap, and a note if that is not the cap itself.
fn round_down(name: &str, table: &Clocks, asked_khz: Option<u64>, notes: &mut Vec<String>) -> Khz {
    let top = table.last().copied().unwrap_or_default();
    let Some(asked_khz) = asked_khz.filter(|khz| *khz < u64::from(top.0)) else {
        return top;
    };
    let below = table.iter().rev().find(|khz| u64::from(khz.0) <= asked_khz);
    let found = below.or(table.first()).copied().unwrap_or_default();
    if u64::from(found.0) != asked_khz {
        notes.push(format!(
            "{name} cap {asked_khz} kHz means {found} on this board"
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our own text in NVIDIA's syntax, with the quirks of its files: a header without a blank, tabs,
    /// comments after values, twins for newer kernels, a HWMON line with two fields.
    const TEXT: &str = "
# a comment
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_1\t/sys/devices/system/cpu/cpu1/online
CORE_4 /sys/devices/system/cpu/cpu4/online
CORE_5 /sys/devices/system/cpu/cpu5/online
< PARAM TYPE=FILE NAME=TPC_POWER_GATING >
TPC_PG_MASK /sys/devices/gpu.0/tpc_pg_mask
< PARAM TYPE=CLOCK NAME=CPU_A78_0 >
FREQ_TABLE /sys/devices/system/cpu/cpu0/cpufreq/scaling_available_frequencies
MAX_FREQ /sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq
MIN_FREQ /sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq
< PARAM TYPE=CLOCK NAME=CPU_A78_1 >
MAX_FREQ /sys/devices/system/cpu/cpu4/cpufreq/scaling_max_freq
< PARAM TYPE=CLOCK NAME=GPU >
MAX_FREQ /sys/devices/17000000.ga10b/devfreq_dev/max_freq
MAX_FREQ_KNEXT /sys/devices/platform/17000000.gpu/devfreq_dev/max_freq
<PARAM TYPE=CLOCK NAME=EMC >
MAX_FREQ /sys/kernel/nvpmodel_emc_cap/emc_iso_cap
MAX_FREQ_KNEXT /sys/kernel/nvpmodel_clk_cap/emc
< PARAM TYPE=HWMON NAME=OC >
WARN /sys/devices/platform/c250000.i2c/i2c-7/7-0040/hwmon curr1_max

< POWER_MODEL ID=2 NAME=ALL >
CPU_A78_0 MAX_FREQ -1
GPU MAX_FREQ 2147483647
EMC MAX_FREQ 0
< POWER_MODEL ID=0 NAME=SMALL_7W >
CPU_ONLINE CORE_1 1
CPU_ONLINE CORE_4 0 # off
CPU_ONLINE CORE_5 0
TPC_POWER_GATING TPC_PG_MASK 252
CPU_A78_0 MIN_FREQ 729600
CPU_A78_0 MAX_FREQ 1000000
CPU_A78_1 MAX_FREQ 115200
GPU MAX_FREQ 408000000
EMC MAX_FREQ_KNEXT 2133000000
OC WARN 3000
< PM_CONFIG DEFAULT=2 >
";

    fn board() -> Board {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../plans/boards/orin-nano-8.toml"
        );
        fulcrum_plan::description::parse(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn named_modes_are_power_modes_of_the_board() {
        let conf = parse(TEXT).unwrap();
        assert_eq!(conf.default_id, 2);
        let modes = conf.named_modes(&board());
        let [all, small] = modes.as_slice() else {
            panic!("{modes:?}");
        };
        assert_eq!(
            all.mode.to_string(),
            "6 cores, CPU 1510400 kHz, GPU 624750 kHz, EMC 2133000 kHz"
        );
        assert!(all.notes.is_empty() && all.masks.is_empty());
        assert_eq!((small.id, small.name.as_str()), (0, "SMALL_7W"));
        // The cap of the cluster that is off does not count, the one of the other is rounded down.
        assert_eq!(
            small.mode.to_string(),
            "4 cores, CPU 960000 kHz, GPU 408000 kHz, EMC 2133000 kHz"
        );
        assert_eq!(small.masks, [("tpc_pg_mask".to_owned(), 252)]);
        assert_eq!(
            small.notes,
            [
                "OC WARN 3000: not ours to set",
                "CPU cap 1000000 kHz means 960000 kHz on this board"
            ]
        );
    }

    #[test]
    fn what_is_no_conf_file_is_told_with_its_line() {
        for (from, to, line, reason) in [
            ("ID=0 ", "ID=2 ", 28, "used twice"),
            ("ID=0 ", "ID=x ", 28, "not a whole number"),
            (" NAME=SMALL_7W", "", 28, "NAME="),
            (
                "CPU_ONLINE CORE_1 1",
                "CPU_ONLINE CORE_7 1",
                29,
                "not declared",
            ),
            (
                "CPU_ONLINE CORE_1 1",
                "CPU_ONLINE CORE_1",
                29,
                "lacks a field",
            ),
            ("MAX_FREQ 1000000", "MAX_FREQ 1e6", 34, "-1 for no cap"),
            ("CORE_4 0 ", "CORE_4 off ", 30, "allowed: 0, 1"),
            ("MASK 252", "MASK all", 32, "\"all\" cannot be set here"),
            ("< PM_CONFIG", "< POWER_BUDGET", 39, "begins no block"),
            ("DEFAULT=2", "DEFAULT=1", 0, "PM_CONFIG"),
        ] {
            let text = TEXT.replacen(from, to, 1);
            assert_ne!(text, TEXT, "{from}");
            let error = parse(&text).unwrap_err();
            assert_eq!(error.line, line, "{error}");
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert_eq!(parse("").unwrap_err().reason, Reason::NoModes);
    }

    #[test]
    fn no_text_makes_the_parser_panic() {
        // Every truncation, and every byte of the text replaced by one that matters to the syntax.
        for end in 0..TEXT.len() {
            let _ = parse(&TEXT[..end]).map(|conf| conf.named_modes(&board()));
        }
        let board = board();
        for at in 0..TEXT.len() {
            for byte in *b"<>=# \n-9" {
                let mut bytes = TEXT.as_bytes().to_vec();
                bytes[at] = byte;
                let text = String::from_utf8(bytes).unwrap();
                let _ = parse(&text).map(|conf| conf.named_modes(&board));
            }
        }
    }
}
