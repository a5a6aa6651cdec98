//! How a Jetson's kernel answers reads and writes of its clock and sensor files.

use super::Spec;
use super::files::{File, classify, policy_of};
use super::sensors::{REGISTER_US, SensorFault, Sensors};
use fulcrum_plan::board::Clocks;
use fulcrum_plan::units::Khz;
use fulcrum_plan::{Board, PowerMode};
use fulcrum_planner::profile::Run;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const EBUSY: i32 = 16;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;

/// How long a new clock takes to run (jetson.md 4.1).
const CPU_DELAY_US: u64 = 1_000;
const GPU_DELAY_US: u64 = 5_000;

/// The clocks of a board: what a test compares before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// CPUs that are online, as bits.
    pub online: u64,
    /// Bounds of every cluster in kHz, by policy; a cluster that is offline has none.
    pub cpu_khz: BTreeMap<u8, (u64, u64)>,
    /// Bounds of the GPU in Hz.
    pub gpu_hz: (u64, u64),
    /// Whether the GPU is kept powered.
    pub gpu_on: bool,
    /// Cap of the memory clock as it reads.
    pub emc_cap: u64,
    /// Rate that the memory clock is locked to.
    pub emc_locked_hz: Option<u64>,
}

impl State {
    /// The upper bounds as a mode.
    pub(super) fn mode(&self) -> PowerMode {
        let khz = |value: u64| Khz(u32::try_from(value).unwrap_or(u32::MAX));
        let cpu_khz = self.cpu_khz.values().map(|(_, max)| *max).max();
        PowerMode {
            cores: u8::try_from(self.online.count_ones()).unwrap_or(u8::MAX),
            cpu_khz: khz(cpu_khz.unwrap_or(0)),
            gpu_khz: khz(self.gpu_hz.1 / 1000),
            emc_khz: khz(self.emc_locked_hz.unwrap_or(self.emc_cap) / 1000),
        }
    }
}

/// A failure that a test asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The `k`-th write from now fails, counted from 1.
    Write(u64),
    /// The `k`-th read from now fails, counted from 1.
    Read(u64),
}

/// The kernel of a virtual board.
#[derive(Debug)]
pub struct Kernel {
    files: BTreeMap<PathBuf, (File, String)>,
    /// Links and what they point to.
    links: BTreeMap<PathBuf, PathBuf>,
    /// Policy and CPUs of every cluster.
    clusters: Vec<(u8, u64)>,
    cpu_khz: Clocks,
    gpu_hz: Vec<u64>,
    emc_hz: Vec<u64>,
    /// JetPack 5 caps memory through another file than JetPack 6, with other rules.
    iso_cap: bool,
    gated_zone: String,
    emc_delay_us: u64,
    now_us: u64,
    stock_cpu_khz: (u64, u64),
    state: State,
    /// The locked rate before the last change, and when that was.
    emc_before: (u64, u64),
    /// Times that clusters came online: an open file of an earlier time is dead.
    generation: u64,
    /// Upper bound that heat allows the CPU.
    thermal_khz: Option<u64>,
    /// What the CPU really runs at, whatever the files say.
    throttle_khz: Option<u64>,
    /// The CPU's clocks before the last change of bounds, and when that was; the same for the GPU.
    cpu_before: BTreeMap<u8, (u64, u64)>,
    gpu_before: (u64, u64),
    sensors: Sensors,
    /// Labels of the rails that make up the board's power.
    summed: Vec<String>,
    fault: Option<(Fault, i32)>,
    writes: u64,
    log: String,
}

impl Kernel {
    /// Starts at the stock clocks of a folder of plain files.
    pub(super) fn start(spec: &Spec, board: &Board, folder: &Path) -> Self {
        let mut files = BTreeMap::new();
        for (path, text) in crate::tree::files(folder) {
            files.insert(path.clone(), (classify(&path, &text, folder), text));
        }
        let mut clusters = Vec::new();
        for (index, first) in board.clusters.iter().enumerate() {
            let end = board.clusters.get(index + 1).unwrap_or(&board.cores);
            clusters.push((*first, (1u64 << end) - (1 << first)));
        }
        let number = |kind: File| -> u64 {
            let found = files.values().find(|(file, _)| *file == kind);
            found.map_or(0, |(_, text)| text.trim().parse().unwrap_or(0))
        };
        let table = files
            .iter()
            .find(|(path, _)| path.ends_with("available_frequencies"))
            .map_or("", |(_, (_, text))| text.as_str());
        let gpu_hz = table
            .split_whitespace()
            .filter_map(|hz| hz.parse().ok())
            .collect();
        let stock_cpu_khz = (number(File::CpuMin(0)), number(File::CpuMax(0)));
        let state = State {
            online: (1 << board.cores) - 1,
            cpu_khz: clusters
                .iter()
                .map(|(policy, _)| (*policy, stock_cpu_khz))
                .collect(),
            gpu_hz: (number(File::GpuMin), number(File::GpuMax)),
            gpu_on: false,
            emc_cap: number(File::EmcCap),
            emc_locked_hz: None,
        };
        Self {
            links: crate::tree::links(folder),
            clusters,
            cpu_khz: board.cpu_khz.clone(),
            gpu_hz,
            emc_hz: board
                .emc_khz
                .iter()
                .map(|khz| u64::from(khz.0) * 1000)
                .collect(),
            iso_cap: spec.jetpack == 5,
            gated_zone: spec.gated_zone.clone(),
            emc_delay_us: spec.emc_delay_us,
            now_us: 0,
            stock_cpu_khz,
            emc_before: (number(File::EmcRate), 0),
            state,
            files,
            generation: 0,
            thermal_khz: None,
            throttle_khz: None,
            cpu_before: BTreeMap::new(),
            gpu_before: (0, 0),
            sensors: Sensors::new(board),
            summed: board
                .power_rails
                .iter()
                .map(|rail| rail.as_str().to_owned())
                .collect(),
            fault: None,
            writes: 0,
            log: String::new(),
        }
    }

    /// The clocks now.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.clone()
    }

    /// Every successful write so far, as lines `path value`.
    #[must_use]
    pub fn log(&self) -> &str {
        &self.log
    }

    /// Adds a headline to the log.
    pub fn headline(&mut self, text: &str) {
        let _ = writeln!(self.log, "# {text}");
    }

    /// Number of writes that were tried.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes
    }

    /// Makes one access fail with an errno.
    pub fn fail(&mut self, fault: Fault, errno: i32) {
        self.fault = Some((fault, errno));
    }

    /// Takes back a failure that did not come; tells whether there was one.
    pub fn heal(&mut self) -> bool {
        self.fault.take().is_some()
    }

    /// Lets time pass.
    pub fn advance_us(&mut self, pause_us: u64) {
        self.now_us = self.now_us.saturating_add(pause_us);
    }

    /// Moves time to `now_us`, unless it is there already.
    pub fn advance_to_us(&mut self, now_us: u64) {
        self.now_us = self.now_us.max(now_us);
    }

    /// Heat limits the CPU clock; `None` when it is over. The kernel then shows a lowered maximum
    /// (jetson.md 1.2, 4.5).
    pub fn set_thermal_limit_khz(&mut self, limit_khz: Option<u64>) {
        self.thermal_khz = limit_khz;
    }

    /// The CPU runs slower than all bounds say: only its measured clock shows it (jetson.md 1.2).
    pub fn set_throttle_khz(&mut self, throttle_khz: Option<u64>) {
        self.throttle_khz = throttle_khz;
    }

    /// Over-current events happen; firmware publishes them later (jetson.md 1.7).
    pub fn over_current(&mut self, events: u64) {
        self.sensors.over_current(events, self.now_us);
    }

    /// A workload begins to run, or ends. The GPU is powered while it does.
    pub fn set_load(&mut self, load: Option<Run>) {
        let mode = self.state.mode();
        self.sensors.set_load(load, &mode, self.now_us);
    }

    /// Power sensors begin to fail, or work again.
    pub fn set_sensor_fault(&mut self, fault: Option<SensorFault>) {
        self.sensors.set_fault(fault, self.now_us);
    }

    /// Time since the start.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Permissions of a file.
    #[must_use]
    pub fn permissions(&self, path: &Path) -> u16 {
        self.files
            .get(path)
            .map_or(0, |(file, _)| file.permissions(self.iso_cap))
    }

    /// What nvpmodel does at `systemctl isolate`: stock bounds, no lock (jetson.md 4.5).
    pub fn run_nvpmodel(&mut self) {
        for bounds in self.state.cpu_khz.values_mut() {
            *bounds = self.stock_cpu_khz;
        }
        if let (Some(first), Some(last)) = (self.gpu_hz.first(), self.gpu_hz.last()) {
            self.state.gpu_hz = (*first, *last);
        }
        self.state.emc_locked_hz = None;
    }

    /// What jetson_clocks does: every clock pinned to its top (jetson.md 1.4).
    pub fn run_jetson_clocks(&mut self) {
        let (_, top_khz) = self.stock_cpu_khz;
        for bounds in self.state.cpu_khz.values_mut() {
            *bounds = (top_khz, top_khz);
        }
        if let Some(top_hz) = self.gpu_hz.last() {
            self.state.gpu_hz = (*top_hz, *top_hz);
        }
        self.state.emc_locked_hz = self.emc_hz.last().copied();
    }

    /// Sets the clocks of an earlier time, as a process that changed them and was killed leaves them.
    pub fn set_state(&mut self, state: &State) {
        self.state = state.clone();
        self.generation += 1;
    }

    /// Takes CPUs offline behind everybody's back.
    pub fn take_offline(&mut self, cpus: u64) {
        for cpu in (1..64u8).filter(|cpu| cpus & (1 << cpu) != 0) {
            self.set_online(cpu, false);
        }
    }

    /// Whether a path leads to a file now.
    #[must_use]
    pub fn exists(&self, path: &Path) -> bool {
        match self.files.get(path) {
            Some((file, _)) => self.is_there(*file),
            None => false,
        }
    }

    /// Every file and link of the tree, whether or not it is there now.
    pub fn paths(&self) -> impl Iterator<Item = (&Path, Option<&Path>)> {
        let files = self.files.keys().map(|path| (path.as_path(), None));
        let links = self
            .links
            .iter()
            .map(|(path, to)| (path.as_path(), Some(to.as_path())));
        files.chain(links)
    }

    /// Grows when files die and are born again: a descriptor of an earlier generation is dead.
    #[must_use]
    pub fn generation(&self, path: &Path) -> u64 {
        match self.files.get(path).and_then(|(file, _)| policy_of(*file)) {
            Some(_) => self.generation,
            None => 0,
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// The errno that the kernel gives.
    pub fn read(&mut self, path: &Path) -> Result<String, i32> {
        if let Some((Fault::Read(k), errno)) = self.fault {
            self.fault = (k > 1).then_some((Fault::Read(k - 1), errno));
            if k <= 1 {
                return Err(errno);
            }
        }
        let (file, text) = self.files.get(path).ok_or(ENOENT)?;
        let (file, text) = (*file, text.clone());
        if !self.is_there(file) {
            return Err(ENOENT);
        }
        if matches!(file, File::Voltage | File::Current(..)) {
            self.now_us += REGISTER_US;
        }
        let state = &self.state;
        let value = match file {
            File::Fixed | File::CpuOther(_) | File::TpcMask | File::OtherMask | File::Voltage => {
                return Ok(text);
            }
            File::CpuOnline(cpu) => state.online >> cpu & 1,
            File::CpuMin(policy) => self.cpu_bounds(policy).0,
            File::CpuMax(policy) | File::CpuRequested(policy) => self.cpu_bounds(policy).1,
            File::CpuMeasured(policy) => self.cpu_measured_khz(policy),
            File::GpuMin => state.gpu_hz.0,
            File::GpuMax => state.gpu_hz.1,
            // 0 while rail-gated (jetson.md 1.3).
            File::GpuCurrent if !self.gpu_is_powered() => 0,
            File::GpuCurrent => match self.gpu_before {
                (before_hz, since_us) if self.now_us - since_us < GPU_DELAY_US => before_hz,
                _ => state.gpu_hz.1,
            },
            File::GpuStatus if self.gpu_is_powered() => return Ok("active\n".to_owned()),
            File::GpuStatus => return Ok("suspended\n".to_owned()),
            File::GpuPower => return Ok(if state.gpu_on { "on\n" } else { "auto\n" }.to_owned()),
            File::EmcCap => state.emc_cap,
            File::EmcLock => u64::from(state.emc_locked_hz.is_some()),
            File::EmcRate => self.emc_rate_hz(),
            File::Current(chip, channel) => self.current_ma(path, (chip, channel))?,
            File::OverCurrent => self.sensors.events(self.now_us),
            File::CpuCooling => u64::from(self.thermal_khz.is_some()),
            File::GatedZone if self.gated_zone == "EAGAIN" => return Err(EAGAIN),
            File::GatedZone => return Ok(format!("{}\n", self.gated_zone)),
        };
        Ok(format!("{value}\n"))
    }

    /// Writes a file.
    ///
    /// # Errors
    /// The errno that the kernel gives.
    pub fn write(&mut self, path: &Path, text: &str) -> Result<(), i32> {
        self.writes += 1;
        if let Some((Fault::Write(k), errno)) = self.fault {
            self.fault = (k > 1).then_some((Fault::Write(k - 1), errno));
            if k <= 1 {
                return Err(errno);
            }
        }
        let file = self.files.get(path).ok_or(ENOENT)?.0;
        if !self.is_there(file) {
            return Err(ENOENT);
        }
        let text = text.trim();
        match (file, text) {
            (File::GpuPower, "on") => self.state.gpu_on = true,
            (File::GpuPower, "auto") => self.state.gpu_on = false,
            _ => self.set(file, text.parse().map_err(|_| EINVAL)?)?,
        }
        let _ = writeln!(self.log, "{} {text}", path.display());
        Ok(())
    }

    fn set(&mut self, file: File, value: u64) -> Result<(), i32> {
        match file {
            File::CpuOnline(cpu) => match value {
                0 | 1 => self.set_online(cpu, value == 1),
                _ => return Err(EINVAL),
            },
            File::CpuMin(policy) | File::CpuMax(policy) => {
                let before = (self.cpu_measured_khz(policy), self.now_us);
                self.cpu_before.insert(policy, before);
                let table = self.cpu_khz.iter().map(|khz| u64::from(khz.0));
                let table: Vec<u64> = table.collect();
                let bounds = self.state.cpu_khz.get_mut(&policy).ok_or(ENOENT)?;
                bound(bounds, matches!(file, File::CpuMin(_)), value, &table)?;
            }
            // Harsher than documented: a rail-gated GPU does not take a clock at all.
            File::GpuMin | File::GpuMax if !self.state.gpu_on => return Err(EBUSY),
            File::GpuMin | File::GpuMax => {
                self.gpu_before = (self.state.gpu_hz.1, self.now_us);
                bound(
                    &mut self.state.gpu_hz,
                    file == File::GpuMin,
                    value,
                    &self.gpu_hz,
                )?;
            }
            File::EmcCap => self.state.emc_cap = self.emc_cap_of(value)?,
            File::EmcLock => {
                self.state.emc_locked_hz = match value {
                    0 => None,
                    1 => Some(self.emc_rate_hz()),
                    _ => return Err(EINVAL),
                };
            }
            File::EmcRate => self.set_emc_rate(value),
            // jetson.md 4.3: masks need a reboot; the same value is a no-op.
            File::TpcMask if value == 0 => {}
            File::TpcMask => return Err(EBUSY),
            File::OtherMask => return Err(ENODEV),
            // A sysfs file without a store function.
            _ => return Err(EIO),
        }
        Ok(())
    }

    /// Hotplug (jetson.md 1.2): the files of a cluster go with its last core, and come back with the
    /// stock bounds.
    fn set_online(&mut self, cpu: u8, online: bool) {
        let bit = 1u64 << cpu;
        self.state.online = match online {
            true => self.state.online | bit,
            false => self.state.online & !bit,
        };
        let cluster = self.clusters.iter().find(|(_, cpus)| cpus & bit != 0);
        let Some((policy, cpus)) = cluster.copied() else {
            return;
        };
        if self.state.online & cpus == 0 {
            self.state.cpu_khz.remove(&policy);
        } else if !self.state.cpu_khz.contains_key(&policy) {
            self.state.cpu_khz.insert(policy, self.stock_cpu_khz);
            self.generation += 1;
        }
    }

    fn is_there(&self, file: File) -> bool {
        policy_of(file).is_none_or(|policy| self.state.cpu_khz.contains_key(&policy))
    }

    fn cpu_bounds(&self, policy: u8) -> (u64, u64) {
        let (min, max) = self.state.cpu_khz.get(&policy).copied().unwrap_or_default();
        let limit = self.thermal_khz.unwrap_or(u64::MAX);
        (min.min(limit), max.min(limit))
    }

    /// jetson.md 1.4: JetPack 5 takes table points below the top, and 0; JetPack 6 rounds.
    fn emc_cap_of(&self, value: u64) -> Result<u64, i32> {
        let top = self.emc_hz.last().copied().unwrap_or_default();
        match self.iso_cap {
            true if value == 0 || (value < top && self.emc_hz.contains(&value)) => Ok(value),
            true => Err(EINVAL),
            false if value == 0 => Ok(top),
            false => Ok(highest_up_to(&self.emc_hz, value)),
        }
    }

    fn set_emc_rate(&mut self, value: u64) {
        // Without the lock the firmware goes on choosing the rate.
        let Some(locked) = self.state.emc_locked_hz else {
            return;
        };
        let nearest = self.emc_hz.iter().min_by_key(|hz| hz.abs_diff(value));
        let cap = if self.state.emc_cap == 0 {
            u64::MAX
        } else {
            self.state.emc_cap
        };
        let rate = nearest.copied().unwrap_or_default().min(cap);
        if rate != locked {
            self.emc_before = (self.emc_rate_hz(), self.now_us);
            self.state.emc_locked_hz = Some(rate);
        }
    }

    fn emc_rate_hz(&self) -> u64 {
        let (before_hz, since_us) = self.emc_before;
        match self.state.emc_locked_hz {
            Some(rate_hz) if self.now_us - since_us >= self.emc_delay_us => rate_hz,
            Some(_) => before_hz,
            None if self.state.emc_cap == 0 => self.emc_hz.last().copied().unwrap_or_default(),
            None => self.state.emc_cap,
        }
    }

    /// The clock that the CPU runs at: what it is bound to, some time after the change (jetson.md 4.1).
    fn cpu_measured_khz(&self, policy: u8) -> u64 {
        let khz = match self.cpu_before.get(&policy) {
            Some((before_khz, since_us)) if self.now_us - since_us < CPU_DELAY_US => *before_khz,
            _ => self.cpu_bounds(policy).1,
        };
        khz.min(self.throttle_khz.unwrap_or(u64::MAX))
    }

    fn gpu_is_powered(&self) -> bool {
        self.state.gpu_on || self.sensors.is_loaded()
    }

    fn current_ma(&self, path: &Path, rail: (u8, u8)) -> Result<u64, i32> {
        let beside = |name: &str| {
            let path = path.with_file_name(format!("in{}_{name}", rail.1));
            self.files.get(&path).map_or("", |(_, text)| text.trim())
        };
        let is_summed = self.summed.iter().any(|name| name == beside("label"));
        let summed = is_summed.then_some(self.summed.len() as u64);
        let mv = beside("input").parse().unwrap_or(0);
        self.sensors
            .current_ma(&self.state, rail, summed, mv, self.now_us)
    }
}

/// jetson.md 4.2: a minimum above the maximum is refused, values between table points are rounded.
fn bound(bounds: &mut (u64, u64), is_min: bool, value: u64, table: &[u64]) -> Result<(), i32> {
    match is_min {
        true if value > bounds.1 => Err(EINVAL),
        true => {
            bounds.0 = highest_up_to(table, value).min(bounds.1);
            Ok(())
        }
        false if value < bounds.0 => Err(EINVAL),
        false => {
            bounds.1 = highest_up_to(table, value).max(bounds.0);
            Ok(())
        }
    }
}

/// The highest table point that is not above a value, or the lowest.
fn highest_up_to(table: &[u64], value: u64) -> u64 {
    let below = table.iter().rev().find(|point| **point <= value);
    below.or(table.first()).copied().unwrap_or_default()
}
