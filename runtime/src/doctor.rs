//! `fulcrumd doctor`: what this board is, what can be read and set and by whom, what will fight.
//!
//! Every finding has a reason and, where something is wrong, the one command that mends it. Nothing is
//! changed on the board: not even a file is opened for writing that would be created by it.

use crate::board::record::RecordError;
use crate::board::{Controls, Jetson, Node, Options, Sysfs};
use crate::json::Object;
use fulcrum_plan::GpuMasks;
use nix::unistd::{AccessFlags, access};
use std::fmt;
use std::fs;
use std::path::Path;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, with a limit that is told.
    Limited,
    /// Does not work.
    Bad,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Limited => "limited",
            Self::Bad => "bad",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, such as `memory clock`.
    pub subject: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// What was found, and why it matters.
    pub text: String,
    /// What mends it.
    pub mend: Option<String>,
}

/// Everything that was looked at.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The board's name; `None` if it is not known.
    pub board: Option<String>,
    /// Its clocks: the kernel's tables in kHz, by `cpu`, `gpu`, `emc`.
    pub clocks_khz: Vec<(&'static str, Vec<u32>)>,
    /// The findings, in the order of looking.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Looks at the board below `root`; of the options, those count that say where to look.
    #[must_use]
    pub fn examine(root: &Path, options: Options) -> Self {
        let mut report = Self::default();
        match Jetson::discover_with(root, options, |sysfs| sysfs) {
            Ok(mut board) => report.examine_board(&mut board),
            Err(error) => report.add("board", Verdict::Bad, error.to_string(), error.mend()),
        }
        report.examine_services(root);
        report
    }

    /// Adds a finding of another part of fulcrumd (the engine).
    pub fn add(
        &mut self,
        subject: &'static str,
        verdict: Verdict,
        text: impl Into<String>,
        mend: Option<&str>,
    ) {
        self.findings.push(Finding {
            subject,
            verdict,
            text: text.into(),
            mend: mend.map(str::to_owned),
        });
    }

    /// The worst finding.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let verdicts = self.findings.iter().map(|finding| finding.verdict);
        verdicts.max().unwrap_or(Verdict::Good)
    }

    fn examine_board(&mut self, board: &mut Jetson) {
        let identity = board.identity();
        let title = &identity.board.title;
        let release = match identity.l4t {
            Some(l4t) => l4t.to_string(),
            None => "release unknown (no /etc/nv_tegra_release)".to_owned(),
        };
        let text = format!(
            "{title} ({}, module {}), {release}",
            identity.name(),
            identity.module
        );
        self.board = Some(identity.name().to_owned());
        self.add("board", Verdict::Good, text, None);
        let topology = board.topology();
        self.clocks_khz = [
            ("cpu", &topology.cpu_khz),
            ("gpu", &topology.gpu_khz),
            ("emc", &topology.emc_khz),
        ]
        .into_iter()
        .map(|(name, table)| (name, table.iter().map(|khz| khz.0).collect()))
        .collect();
        self.examine_tables(board);
        self.examine_controls(board.controls());
        self.examine_masks(board);
        self.examine_sensors(board);
        self.examine_running_clocks(board);
        self.examine_record(board);
    }

    /// The description is a check on the kernel's tables, and plans are made from it.
    fn examine_tables(&mut self, board: &Jetson) {
        let (topology, described) = (board.topology(), &board.identity().board);
        let same = topology.cpu_khz == described.cpu_khz
            && described.gpu_khz.contains(&topology.gpu_khz)
            && topology.emc_khz == described.emc_khz;
        let counts = format!(
            "{} cores in {} clusters; {} CPU, {} GPU and {} memory clocks",
            topology.core_count(),
            topology.clusters.len(),
            topology.cpu_khz.len(),
            topology.gpu_khz.len(),
            topology.emc_khz.len()
        );
        match same {
            true => self.add("clocks", Verdict::Good, counts, None),
            false => self.add(
                "clocks",
                Verdict::Limited,
                format!(
                    "{counts}; not those of the description {}: its plans may name clocks that this \
                     firmware does not have, and plans that name this firmware's are refused",
                    described.name
                ),
                Some(
                    "sudo fulcrumd capture --to DIR; fulcrum import-nvpmodel makes a description of it for \
                     plans/boards/*.toml, from which both programs are built",
                ),
            ),
        }
    }

    fn examine_controls(&mut self, sysfs: &Sysfs) {
        let mut closed: Vec<Node> = Vec::new();
        let mut count = 0;
        for (node, path) in sysfs.nodes().filter(|(_, path)| path.exists()) {
            count += 1;
            if access(path, AccessFlags::R_OK | AccessFlags::W_OK).is_err() {
                closed.push(node);
            }
        }
        match closed.first() {
            None => self.add(
                "controls",
                Verdict::Good,
                format!("all {count} control files can be read and written by this user"),
                None,
            ),
            Some(first) => self.add(
                "controls",
                Verdict::Bad,
                format!(
                    "{} of {count} control files cannot be read and written by this user, such as \
                     {first}; they belong to root",
                    closed.len()
                ),
                Some("sudo fulcrumd …"),
            ),
        }
        let (lock, cap) = (sysfs.has(Node::EmcLock), sysfs.has(Node::EmcCap));
        match (lock, cap) {
            (true, _) => self.add(
                "memory clock",
                Verdict::Good,
                "can be locked (bpmp debugfs)",
                None,
            ),
            (false, has_cap) => self.add(
                "memory clock",
                Verdict::Limited,
                format!(
                    "cannot be locked: no /sys/kernel/debug/bpmp here (debugfs is root's and must be \
                     mounted){}",
                    match has_cap {
                        true => "; it can only be capped",
                        false => ", and it cannot be capped either",
                    }
                ),
                Some("sudo mount -t debugfs none /sys/kernel/debug"),
            ),
        }
    }

    fn examine_masks(&mut self, board: &Jetson) {
        let masks = board.topology().gpu_masks;
        if masks != GpuMasks::default() {
            let text = format!(
                "{masks}; measurements hold for these masks only, and fulcrumd never writes them"
            );
            self.add("GPU masks", Verdict::Good, text, None);
        }
    }

    fn examine_sensors(&mut self, board: &Jetson) {
        let sample = board.rails().sample();
        let readings: Vec<String> = board
            .rails()
            .names()
            .zip(&sample.rails)
            .map(|(name, power)| match power {
                Some(power) => format!("{name} {power}"),
                None => format!("{name} absent"),
            })
            .collect();
        let summed = board.rails().summed().join(" + ");
        match sample.total {
            Some(total) => self.add(
                "power",
                Verdict::Good,
                format!("{total} now ({summed}); {}", readings.join(", ")),
                None,
            ),
            None => self.add(
                "power",
                Verdict::Bad,
                format!(
                    "not known: it is {summed}, and of these rails not all can be read; found: [{}]",
                    readings.join(", ")
                ),
                Some("sudo modprobe ina3221"),
            ),
        }
        match board.temperature_max() {
            Some(hottest) => self.add(
                "temperature",
                Verdict::Good,
                format!(
                    "{} of {} zones read, the hottest {hottest}",
                    {
                        let count = board.zones().names().count();
                        (0..count)
                            .filter(|n| board.zones().read(*n).is_some())
                            .count()
                    },
                    board.zones().names().count()
                ),
                None,
            ),
            None => self.add(
                "temperature",
                Verdict::Limited,
                "no thermal zone can be read: heat is not noticed",
                None,
            ),
        }
        if board.is_heat_limited() == Some(true) {
            self.add(
                "temperature",
                Verdict::Limited,
                "heat limits a clock now: the kernel shows lowered bounds, and a fulcrumd that starts \
                 now would take them for the original ones",
                Some("wait until the board has cooled down"),
            );
        }
        match board.over_current_events() {
            Some(events) => self.add(
                "over-current",
                Verdict::Good,
                format!("{events} events since boot"),
                None,
            ),
            None => self.add(
                "over-current",
                Verdict::Limited,
                "no soctherm_oc counters (kernels before JetPack 5 have none): throttling for power \
                 is not noticed",
                None,
            ),
        }
    }

    fn examine_running_clocks(&mut self, board: &Jetson) {
        match board.running().measures_cpu() {
            true => self.add(
                "running clocks",
                Verdict::Good,
                "profiles compare them with what was asked for (cpuinfo_cur_freq, and the GPU's cur_freq \
                 while it is powered)",
                None,
            ),
            false => self.add(
                "running clocks",
                Verdict::Limited,
                "the CPU's cannot be measured by this user (cpuinfo_cur_freq is root's): profiles rely on \
                 bounds and event counters",
                Some("sudo fulcrumd …"),
            ),
        }
    }

    fn examine_record(&mut self, board: &Jetson) {
        match board.is_left_changed() {
            Ok(false) => {}
            Ok(true) => self.add(
                "original clocks",
                Verdict::Bad,
                "a fulcrumd is running, or was killed: the clocks are not the original ones",
                Some("sudo fulcrumd restore"),
            ),
            Err(error @ RecordError::Damaged) => {
                self.add(
                    "original clocks",
                    Verdict::Bad,
                    error.to_string(),
                    Some("sudo reboot"),
                );
            }
            Err(error) => self.add(
                "original clocks",
                Verdict::Bad,
                error.to_string(),
                Some("sudo fulcrumd doctor"),
            ),
        }
    }

    /// Programs and units that also set clocks (jetson.md 4.5, 5).
    fn examine_services(&mut self, root: &Path) {
        let running = running_programs(root);
        for (program, why, mend) in RIVALS {
            if running.iter().any(|name| name == program) {
                let text = format!("{program} is running: {why}");
                self.add("rival", Verdict::Limited, text, Some(mend));
            }
        }
        let mut units = [
            "etc/systemd/system",
            "lib/systemd/system",
            "usr/lib/systemd/system",
        ]
        .iter()
        .map(|folder| root.join(folder).join("nvpmodel.service"))
        .filter(|path| path.exists());
        let Some(unit) = units.next() else {
            return;
        };
        let drop_in = root.join("etc/systemd/system/nvpmodel.service.d/remain.conf");
        let stays = |path: &Path| {
            fs::read_to_string(path).is_ok_and(|text| text.contains("RemainAfterExit=yes"))
        };
        if !stays(&unit) && !stays(&drop_in) {
            self.add(
                "rival",
                Verdict::Limited,
                "nvpmodel.service runs again at every `systemctl isolate` and resets all clocks; \
                 fulcrumd notices and applies its mode again",
                Some(
                    "sudo install -Dm644 /dev/stdin /etc/systemd/system/nvpmodel.service.d/remain.conf \
                     <<< $'[Service]\\nRemainAfterExit=yes' && sudo systemctl daemon-reload",
                ),
            );
        }
    }

    /// The report as one JSON object.
    #[must_use]
    pub fn to_json(&self) -> Object {
        let clocks = self
            .clocks_khz
            .iter()
            .fold(Object::new(), |object, (name, table)| {
                object.integers(name, table.iter().copied())
            });
        let findings = self.findings.iter().map(|finding| {
            Object::new()
                .text("subject", finding.subject)
                .text("verdict", finding.verdict.name())
                .text("text", &finding.text)
                .optional_text("mend", finding.mend.as_deref())
        });
        Object::new()
            .optional_text("board", self.board.as_deref())
            .text("verdict", self.verdict().name())
            .object("clocks_khz", &clocks)
            .objects("findings", findings)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            let verdict = finding.verdict.name();
            writeln!(f, "{verdict:<8} {:<16} {}", finding.subject, finding.text)?;
            if let Some(mend) = &finding.mend {
                writeln!(f, "{:<26}-> {mend}", "")?;
            }
        }
        Ok(())
    }
}

/// Programs that set clocks themselves: name as in `/proc/*/comm`, what they do, what to do.
const RIVALS: [(&str, &str, &str); 4] = [
    (
        "jtop",
        "it can run jetson_clocks and nvpmodel on its own",
        "sudo systemctl stop jtop.service",
    ),
    (
        "tuned",
        "it sets governors by profile",
        "sudo systemctl stop tuned.service",
    ),
    (
        "power-profiles-",
        "it sets governors by profile",
        "sudo systemctl stop power-profiles-daemon.service",
    ),
    (
        "jetson_clocks",
        "it pins all clocks to their maximum",
        "sudo jetson_clocks --restore",
    ),
];

/// Names of the running programs; empty if there is no `proc`.
fn running_programs(root: &Path) -> Vec<String> {
    fs::read_dir(root.join("proc"))
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            name.as_encoded_bytes().iter().all(u8::is_ascii_digit)
        })
        .filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}
