//! A folder of plain files that looks like a board's `/sys`, `/proc` and `/etc`, at stock clocks: for
//! `fulcrum demo`, for tests, and for trying `fulcrumd --sysfs-root` without a board.
//!
//! Names, layouts and tables are those of `docs/boards.md`, sections 1 and 2. **Limit:** plain files
//! take any write. Nothing is refused, rounded or delayed here, an offline cluster keeps its files,
//! and sensors do not move; for a board that behaves like the kernel see the virtual Jetson in
//! `tests/`.

use fulcrum_plan::Board;
use fulcrum_plan::board::Clocks;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Tells a folder that [`create`] made, and may make anew, from anything else.
const MARKER: &str = ".fulcrum-board-folder";
/// The boot id of every such board.
const BOOT_ID: &str = "5a0c93d3-9f0c-4f0e-8a57-6d1e0f1b2c3d";

/// The release whose layout of files is imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JetPack {
    /// JetPack 5: kernel 5.10, L4T 35.
    Five,
    /// JetPack 6: kernel 5.15, L4T 36; Orin only.
    Six,
}

/// Boards that share their device tree's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    AgxOrin,
    OrinNxNano,
    AgxXavier,
    XavierNx,
}

impl Family {
    fn of(board: &Board) -> Option<Self> {
        let module = board.modules.first()?;
        [
            ("p3701", Self::AgxOrin),
            ("p3767", Self::OrinNxNano),
            ("p2888", Self::AgxXavier),
            ("p3668", Self::XavierNx),
        ]
        .into_iter()
        .find_map(|(prefix, family)| module.starts_with(prefix).then_some(family))
    }

    fn is_orin(self) -> bool {
        matches!(self, Self::AgxOrin | Self::OrinNxNano)
    }

    /// Carrier board and SoC in the device tree's `compatible`.
    fn carrier_and_soc(self) -> (&'static str, &'static str) {
        match self {
            Self::AgxOrin => ("p3737-0000", "tegra234"),
            Self::OrinNxNano => ("p3768-0000", "tegra234"),
            Self::AgxXavier => ("p2822-0000", "tegra194"),
            Self::XavierNx => ("p3509-0000", "tegra194"),
        }
    }

    /// INA3221 chips: labels of their three channels, bus voltage and current of each.
    fn rails(self) -> &'static [[(&'static str, u32, u32); 3]] {
        match self {
            Self::AgxOrin => &[
                [
                    ("VDD_GPU_SOC", 19_072, 160),
                    ("VDD_CPU_CV", 19_072, 48),
                    ("VIN_SYS_5V0", 5_056, 800),
                ],
                [("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 5_056, 120), ("NC", 0, 0)],
            ],
            Self::OrinNxNano | Self::XavierNx => &[[
                ("VDD_IN", 5_024, 1_000),
                ("VDD_CPU_GPU_CV", 5_024, 120),
                ("VDD_SOC", 5_024, 280),
            ]],
            Self::AgxXavier => &[
                [
                    ("GPU", 19_040, 64),
                    ("CPU", 19_040, 40),
                    ("SOC", 19_040, 128),
                ],
                [
                    ("CV", 19_040, 0),
                    ("VDDRQ", 19_040, 40),
                    ("SYS5V", 19_040, 128),
                ],
            ],
        }
    }

    /// Thermal zones and their temperatures in thousandths of a degree; -256000 is a gated zone.
    fn zones(self) -> &'static [(&'static str, i32)] {
        match self.is_orin() {
            true => &[
                ("cpu-thermal", 41_437),
                ("gpu-thermal", 38_218),
                ("cv0-thermal", -256_000),
                ("soc0-thermal", 39_031),
                ("tj-thermal", 41_656),
            ],
            false => &[
                ("CPU-therm", 28_000),
                ("GPU-therm", 28_000),
                ("AUX-therm", 27_000),
                ("Tboard_tegra", 27_000),
            ],
        }
    }
}

/// Makes the folder, or makes it anew.
///
/// # Errors
/// `InvalidInput` for a board or release that is not imitated, and for a folder that holds anything
/// that this function did not make; otherwise whatever the file system says.
pub fn create(root: &Path, board: &Board, jetpack: JetPack) -> io::Result<()> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    let family = Family::of(board)
        .ok_or_else(|| invalid(format!("{}: no imitation of this board", board.name)))?;
    if jetpack == JetPack::Six && !family.is_orin() {
        return Err(invalid(format!(
            "{}: JetPack 6 is for Orin only",
            board.name
        )));
    }
    let is_empty = !root.exists() || root.read_dir()?.next().is_none();
    if !is_empty && !root.join(MARKER).exists() {
        return Err(invalid(format!(
            "{}: holds other files; name an empty folder",
            root.display()
        )));
    }
    let tree = Tree {
        root: root.to_owned(),
    };
    tree.file(MARKER, "made by fulcrum; plain files, not a kernel's\n")?;
    tree.identity(board, family, jetpack)?;
    tree.cpu(board)?;
    tree.gpu(board, family, jetpack)?;
    tree.emc(board, jetpack)?;
    tree.sensors(family)
}

struct Tree {
    root: PathBuf,
}

impl Tree {
    fn file(&self, path: &str, text: impl AsRef<[u8]>) -> io::Result<()> {
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)
    }

    fn number(&self, path: &str, value: impl std::fmt::Display) -> io::Result<()> {
        self.file(path, format!("{value}\n"))
    }

    fn link(&self, path: &str, target: &str) -> io::Result<()> {
        let path = self.root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        match symlink(target, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        }
    }

    fn identity(&self, board: &Board, family: Family, jetpack: JetPack) -> io::Result<()> {
        let (carrier, soc) = family.carrier_and_soc();
        let module = board.modules.first().map_or("", |module| module.as_str());
        self.file(
            "proc/device-tree/compatible",
            format!("nvidia,{carrier}+{module}\0nvidia,{soc}\0"),
        )?;
        self.file(
            "proc/device-tree/model",
            format!("NVIDIA {}\0", board.title),
        )?;
        let (major, revision) = match jetpack {
            JetPack::Five => (35, "4.1"),
            JetPack::Six => (36, "4.3"),
        };
        self.file(
            "etc/nv_tegra_release",
            format!("# R{major} (release), REVISION: {revision}, BOARD: generic, EABI: aarch64\n"),
        )?;
        self.number("proc/sys/kernel/random/boot_id", BOOT_ID)
    }

    fn cpu(&self, board: &Board) -> io::Result<()> {
        let cpus = "sys/devices/system/cpu";
        let last = board.cores.saturating_sub(1);
        for name in ["possible", "present", "online"] {
            self.file(&format!("{cpus}/{name}"), format!("0-{last}\n"))?;
        }
        let top = board.cpu_khz.last().map_or(0, |khz| khz.0);
        let bottom = board.cpu_khz.first().map_or(0, |khz| khz.0);
        for (index, first) in board.clusters.iter().enumerate() {
            let end = board.clusters.get(index + 1).unwrap_or(&board.cores);
            let members: Vec<String> = (*first..*end).map(|cpu| cpu.to_string()).collect();
            let policy = format!("{cpus}/cpufreq/policy{first}");
            for (file, text) in [
                ("related_cpus", members.join(" ")),
                ("affected_cpus", members.join(" ")),
                ("scaling_available_frequencies", list(&board.cpu_khz, 1)),
                ("scaling_governor", "schedutil".to_owned()),
                ("scaling_min_freq", board.cpu_floor_khz.0.to_string()),
                ("scaling_max_freq", top.to_string()),
                ("scaling_cur_freq", board.cpu_floor_khz.0.to_string()),
                ("cpuinfo_cur_freq", board.cpu_floor_khz.0.to_string()),
                ("cpuinfo_min_freq", bottom.to_string()),
                ("cpuinfo_max_freq", top.to_string()),
            ] {
                self.number(&format!("{policy}/{file}"), text)?;
            }
            for cpu in *first..*end {
                self.link(
                    &format!("{cpus}/cpu{cpu}/cpufreq"),
                    &format!("../cpufreq/policy{first}"),
                )?;
                if cpu != 0 {
                    self.number(&format!("{cpus}/cpu{cpu}/online"), 1)?;
                }
            }
        }
        Ok(())
    }

    fn gpu(&self, board: &Board, family: Family, jetpack: JetPack) -> io::Result<()> {
        let (parent, device, name) = match (family.is_orin(), jetpack) {
            (true, JetPack::Five) => ("", "17000000.ga10b", "ga10b"),
            (true, JetPack::Six) => ("platform/bus@0/", "17000000.gpu", "gpu"),
            (false, _) => ("", "17000000.gv11b", "gv11b"),
        };
        // An AGX Orin's second table came with later firmware; other second tables are "Super" ones.
        let table = match (family, jetpack) {
            (Family::AgxOrin, JetPack::Six) => board.gpu_khz.last(),
            _ => board.gpu_khz.first(),
        };
        let table = table.cloned().unwrap_or_default();
        let hz = |khz: Option<&fulcrum_plan::units::Khz>| u64::from(khz.map_or(0, |k| k.0)) * 1000;
        let folder = format!("sys/devices/{parent}{device}");
        let devfreq = format!("{folder}/devfreq/{device}");
        self.file(&format!("{folder}/of_node/name"), format!("{name}\0"))?;
        self.number(&format!("{folder}/power/control"), "auto")?;
        self.number(&format!("{folder}/power/runtime_status"), "suspended")?;
        self.number(&format!("{folder}/railgate_enable"), 1)?;
        self.number(&format!("{folder}/load"), 0)?;
        self.number(&format!("{folder}/tpc_pg_mask"), 0)?;
        self.number(
            &format!("{devfreq}/available_frequencies"),
            list(&table, 1000),
        )?;
        self.number(&format!("{devfreq}/governor"), "nvhost_podgov")?;
        self.number(&format!("{devfreq}/min_freq"), hz(table.first()))?;
        self.number(&format!("{devfreq}/max_freq"), hz(table.last()))?;
        self.number(&format!("{devfreq}/cur_freq"), hz(table.first()))?;
        self.link(&format!("{devfreq}/device"), "../..")?;
        self.link(
            &format!("sys/class/devfreq/{device}"),
            &format!("../../devices/{parent}{device}/devfreq/{device}"),
        )
    }

    fn emc(&self, board: &Board, jetpack: JetPack) -> io::Result<()> {
        let top_hz = u64::from(board.emc_khz.last().map_or(0, |khz| khz.0)) * 1000;
        match jetpack {
            JetPack::Five => self.number("sys/kernel/nvpmodel_emc_cap/emc_iso_cap", 0)?,
            JetPack::Six => self.number("sys/kernel/nvpmodel_clk_cap/emc", top_hz)?,
        }
        let debug = "sys/kernel/debug/bpmp/debug";
        let rates = format!("{} (kHz)", list(&board.emc_khz, 1));
        self.number(&format!("{debug}/emc/possible_rates"), rates)?;
        self.number(&format!("{debug}/clk/emc/mrq_rate_locked"), 0)?;
        self.number(&format!("{debug}/clk/emc/rate"), top_hz)
    }

    fn sensors(&self, family: Family) -> io::Result<()> {
        let hwmon = "sys/class/hwmon";
        for (chip, rails) in family.rails().iter().enumerate() {
            let folder = format!("{hwmon}/hwmon{chip}");
            self.number(&format!("{folder}/name"), "ina3221")?;
            self.number(&format!("{folder}/update_interval"), 1)?;
            for (n, (label, mv, ma)) in (1..).zip(rails) {
                self.number(&format!("{folder}/in{n}_label"), label)?;
                self.number(&format!("{folder}/in{n}_input"), mv)?;
                self.number(&format!("{folder}/curr{n}_input"), ma)?;
            }
        }
        let folder = format!("{hwmon}/hwmon{}", family.rails().len());
        self.number(&format!("{folder}/name"), "soctherm_oc")?;
        for n in 1..=3 {
            self.number(&format!("{folder}/oc{n}_event_cnt"), 0)?;
            self.number(&format!("{folder}/oc{n}_throt_en"), 1)?;
        }
        for (index, (name, milli_c)) in family.zones().iter().enumerate() {
            let zone = format!("sys/class/thermal/thermal_zone{index}");
            self.number(&format!("{zone}/type"), name)?;
            self.number(&format!("{zone}/temp"), milli_c)?;
        }
        for (index, name) in ["cpufreq-cpu0", "devfreq-17000000.gpu", "pwm-fan"]
            .iter()
            .enumerate()
        {
            let device = format!("sys/class/thermal/cooling_device{index}");
            self.number(&format!("{device}/type"), name)?;
            self.number(&format!("{device}/cur_state"), 0)?;
            self.number(&format!("{device}/max_state"), 3)?;
        }
        Ok(())
    }
}

/// A table as the kernel lists it, in `per_khz` units per kHz.
fn list(clocks: &Clocks, per_khz: u64) -> String {
    let values: Vec<String> = clocks
        .iter()
        .map(|khz| (u64::from(khz.0) * per_khz).to_string())
        .collect();
    values.join(" ")
}
