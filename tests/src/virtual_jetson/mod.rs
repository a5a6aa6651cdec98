//! A virtual Jetson: files that behave like a board's kernel, not like files.
//!
//! - [`kernel`] is the behaviour, without I/O: `read(path)`, `write(path, text)`, virtual time;
//! - [`VirtualControls`] puts it below board control in one process, with virtual waiting;
//! - [`mod@bench`] runs simulated workloads on it, in virtual time, for `fulcrumd`'s own profiling;
//! - `fuse` (feature of that name) mounts it, so that any program sees it as a `--sysfs-root`.
//!
//! What it imitates is written at each rule in [`kernel`], with its source. A rule that is harsher than
//! what is documented says so: board control must live with either.

pub mod bench;
pub mod kernel;
pub mod sensors;

mod files;

#[cfg(feature = "fuse")]
pub mod fuse;

use crate::tree::TemporaryFolder;
use fulcrum::board_folder::{self, JetPack};
use fulcrum_runtime::board::node::Cause;
use fulcrum_runtime::board::{Controls, Jetson, Node, NodeError, Options, shipped};
use kernel::Kernel;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// One virtual board: a file of `tests/fixtures/virtual`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Name of the file, without its extension.
    #[serde(skip)]
    pub name: String,
    /// Name of the board description.
    pub board: String,
    /// JetPack generation, 5 or 6.
    pub jetpack: u8,
    /// What a power-gated thermal zone gives: `EAGAIN`, or a text.
    pub gated_zone: String,
    /// How long a locked memory clock takes to move.
    pub emc_delay_us: u64,
}

/// Every virtual board, by name.
///
/// # Panics
/// A file is not such a description.
#[must_use]
pub fn specs() -> Vec<Spec> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/virtual");
    let mut specs: Vec<Spec> = std::fs::read_dir(folder)
        .expect("the virtual boards")
        .map(|entry| {
            let path = entry.expect("a file").path();
            let text = std::fs::read_to_string(&path).expect("its text");
            let name = path.file_stem().expect("a name").to_string_lossy();
            let spec: Spec =
                toml::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            Spec {
                name: name.into_owned(),
                ..spec
            }
        })
        .collect();
    specs.sort_by(|a, b| a.name.cmp(&b.name));
    specs
}

/// A virtual board: its kernel, and the folder of plain files that it began with.
#[derive(Debug)]
pub struct VirtualJetson {
    folder: TemporaryFolder,
    kernel: Arc<Mutex<Kernel>>,
}

impl VirtualJetson {
    /// Starts the board at stock clocks.
    ///
    /// # Panics
    /// The description names no board that is imitated.
    #[must_use]
    pub fn start(spec: &Spec) -> Self {
        let board = shipped()
            .iter()
            .find(|board| board.name == spec.board.as_str());
        let board = board.expect("a shipped board");
        let jetpack = match spec.jetpack {
            5 => JetPack::Five,
            6 => JetPack::Six,
            other => panic!("{}: no JetPack {other}", spec.name),
        };
        let folder = TemporaryFolder::new();
        board_folder::create(folder.path(), board, jetpack).expect("an imitated board");
        let kernel = Kernel::start(spec, board, folder.path());
        Self {
            folder,
            kernel: Arc::new(Mutex::new(kernel)),
        }
    }

    /// The kernel, to look at and to break.
    pub fn kernel(&self) -> MutexGuard<'_, Kernel> {
        lock(&self.kernel)
    }

    /// The kernel, to share with a mount.
    #[must_use]
    pub fn shared(&self) -> Arc<Mutex<Kernel>> {
        Arc::clone(&self.kernel)
    }

    /// The plain files: what discovery sees without a mount.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A path below the root, links resolved: what a mount would ask the kernel for.
    fn kernel_path(&self, path: &Path) -> PathBuf {
        let path = path.canonicalize().expect("a control file");
        let root = self.root().canonicalize().expect("the root");
        path.strip_prefix(root).expect("below the root").to_owned()
    }

    /// The files of its sensors.
    fn sensor_paths(&self) -> Vec<PathBuf> {
        let kernel = self.kernel();
        let is_sensor = |path: &Path| {
            let text = path.to_string_lossy();
            text.ends_with("_input") || text.ends_with("_event_cnt") || text.ends_with("cur_state")
        };
        let files = kernel.paths().filter(|(_, link)| link.is_none());
        files
            .map(|(path, _)| path)
            .filter(|path| is_sensor(path))
            .map(Path::to_owned)
            .collect()
    }

    /// Discovers the board, with its control files below board control.
    ///
    /// # Panics
    /// Discovery fails.
    #[must_use]
    pub fn discover(&self, options: Options) -> Jetson<VirtualControls> {
        Jetson::discover_with(self.root(), options, |sysfs| VirtualControls {
            paths: sysfs
                .nodes()
                .map(|(node, path)| (node, self.kernel_path(path)))
                .collect(),
            kernel: Arc::clone(&self.kernel),
        })
        .expect("a virtual board is a board")
    }
}

fn lock(kernel: &Mutex<Kernel>) -> MutexGuard<'_, Kernel> {
    kernel
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The control files of a virtual board, in one process.
#[derive(Debug)]
pub struct VirtualControls {
    /// Paths below the root, links resolved.
    paths: BTreeMap<Node, PathBuf>,
    kernel: Arc<Mutex<Kernel>>,
}

impl VirtualControls {
    fn path(&self, node: Node) -> Result<&Path, NodeError> {
        self.paths
            .get(&node)
            .map(PathBuf::as_path)
            .ok_or(NodeError {
                node,
                cause: Cause::Missing,
            })
    }
}

impl Controls for VirtualControls {
    fn read(&mut self, node: Node) -> Result<u64, NodeError> {
        let path = self.path(node)?;
        let text = lock(&self.kernel).read(path).map_err(|errno| NodeError {
            node,
            cause: Cause::Read(errno),
        })?;
        let value = match text.trim() {
            "on" => Some(1),
            "auto" => Some(0),
            number => number.parse().ok(),
        };
        value.ok_or(NodeError {
            node,
            cause: Cause::NotANumber,
        })
    }

    fn write(&mut self, node: Node, value: u64) -> Result<(), NodeError> {
        let path = self.path(node)?;
        let text = match (node, value) {
            (Node::GpuPower, 0) => "auto\n".to_owned(),
            (Node::GpuPower, _) => "on\n".to_owned(),
            _ => format!("{value}\n"),
        };
        lock(&self.kernel)
            .write(path, &text)
            .map_err(|errno| NodeError {
                node,
                cause: Cause::Write(errno),
            })
    }

    fn has(&self, node: Node) -> bool {
        self.paths.contains_key(&node)
    }

    fn wait(&mut self, pause: Duration) {
        let pause_us = u64::try_from(pause.as_micros()).unwrap_or(u64::MAX);
        lock(&self.kernel).advance_us(pause_us);
    }
}
