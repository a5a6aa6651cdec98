//! A device in a folder: what `fulcrumd run` needs, for tests that run it.

use crate::programs::{Answer, fulcrum, fulcrumd};
use crate::tree::{self, TemporaryFolder};
use crate::{models, onnxruntime};
use fulcrum::board_folder::{self, JetPack};
use fulcrum::digits::Digits;
use fulcrum_planner::boards;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A board's sysfs, a flashed plan, models and data.
#[derive(Debug)]
pub struct Device {
    folder: TemporaryFolder,
    library: PathBuf,
    digits: Digits,
}

impl Default for Device {
    fn default() -> Self {
        Self::new()
    }
}

impl Device {
    /// A simulated AGX Orin with a plan that was flashed.
    ///
    /// # Panics
    /// Something of it cannot be made or fetched.
    #[must_use]
    pub fn new() -> Self {
        let device = Self {
            library: onnxruntime::library().path,
            digits: onnxruntime::digits(),
            folder: TemporaryFolder::new(),
        };
        let board = boards::named("orin-agx").unwrap();
        // The simulated board has the 13 GPU clocks of JetPack 5.0 firmware.
        board_folder::create(&device.path("board"), board, JetPack::Five).unwrap();
        device.flash("synthetic:orin-agx", "orin-agx");
        device
    }

    /// A path in the device's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Plans from these profiles, and flashes the plan.
    ///
    /// # Panics
    /// One of both is refused.
    pub fn flash(&self, profiles: &str, board: &str) {
        let plan = self.path("x.plan");
        let workloads = [
            "--train",
            "resnet18",
            "--infer",
            "mobilenetv3",
            "--strategy",
            "als:60",
        ];
        let mut command = fulcrum();
        command
            .args(["plan", "--board", board, "--profiles", profiles])
            .args(workloads);
        let _ = Answer::of(command.arg("--out").arg(&plan)).expect(0);
        let to = self.path("plans");
        let _ = Answer::of(fulcrum().arg("flash").arg(&plan).arg("--to").arg(to)).expect(0);
    }

    /// `fulcrumd run` with everything in place; `changes` replace or add options.
    #[must_use]
    pub fn run(&self, changes: &[(&str, &Path)]) -> Command {
        let paths = [
            ("--plan-dir", self.path("plans")),
            ("--sysfs-root", self.path("board")),
            ("--state-dir", self.path("state")),
            ("--infer", models::digits("infer.onnx")),
            ("--train", models::digits("train.onnx")),
            ("--data", self.digits.train.clone()),
            ("--held-out", self.digits.held_out.clone()),
            ("--onnxruntime", self.library.clone()),
        ];
        let numbers = [
            ("--power", "30"),
            ("--latency-ms", "500"),
            ("--rate", "60"),
            ("--duration-s", "2"),
        ];
        let mut options: BTreeMap<&str, PathBuf> = paths.into_iter().collect();
        options.extend(numbers.map(|(name, value)| (name, PathBuf::from(value))));
        options.extend(
            changes
                .iter()
                .map(|(name, value)| (*name, value.to_path_buf())),
        );
        if options.contains_key("--plan") {
            options.remove("--plan-dir");
        }
        let mut command = fulcrumd();
        command.args(["run", "--json"]);
        for (name, value) in options {
            command.arg(name).arg(value);
        }
        command
    }

    /// Every file of the board with its content.
    ///
    /// # Panics
    /// A file cannot be read.
    #[must_use]
    pub fn board(&self) -> BTreeMap<PathBuf, String> {
        tree::files(&self.path("board"))
    }
}
