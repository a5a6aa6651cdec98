//! Writes as a logbook, and failures on purpose.

use fulcrum_runtime::board::node::Cause;
use fulcrum_runtime::board::{Controls, Node, NodeError, Sysfs};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// The errno of injected failures: none that is tried again.
const INJECTED: i32 = 5; // EIO

/// What a [`Recorder`] saw and shall do; shared with the test.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    log: String,
    writes: usize,
    fail_at: Option<usize>,
    broken: Option<Node>,
    copy_to: Option<PathBuf>,
}

impl Journal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Writes so far, failed ones included.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.state().writes
    }

    /// The lines `path value` so far, paths relative to the root.
    #[must_use]
    pub fn log(&self) -> String {
        self.state().log.clone()
    }

    /// Adds a headline.
    pub fn headline(&self, text: &str) {
        let log = &mut self.state().log;
        let _ = writeln!(log, "# {text}");
    }

    /// Fails one write, the `k`-th from now, counted from 1.
    pub fn fail_at(&self, k: usize) {
        let mut state = self.state();
        state.fail_at = Some(state.writes + k);
    }

    /// Fails no further write.
    pub fn heal(&self) {
        let mut state = self.state();
        state.fail_at = None;
        state.broken = None;
    }

    /// Fails every write to a node from now on.
    pub fn break_node(&self, node: Node) {
        self.state().broken = Some(node);
    }

    /// Copies the whole tree to `folder/N` before every write, N counting from 1: what a process
    /// leaves behind that is killed there.
    pub fn copy_before_every_write(&self, folder: &Path) {
        let mut state = self.state();
        state.writes = 0;
        state.copy_to = Some(folder.to_owned());
    }
}

/// The files of a board, with a [`Journal`].
#[derive(Debug)]
pub struct Recorder {
    sysfs: Sysfs,
    root: PathBuf,
    journal: Journal,
}

impl Recorder {
    /// Records what is written through `sysfs`.
    #[must_use]
    pub fn new(sysfs: Sysfs, root: &Path, journal: &Journal) -> Self {
        Self {
            sysfs,
            root: root.to_owned(),
            journal: journal.clone(),
        }
    }
}

impl Controls for Recorder {
    fn read(&mut self, node: Node) -> Result<u64, NodeError> {
        self.sysfs.read(node)
    }

    fn write(&mut self, node: Node, value: u64) -> Result<(), NodeError> {
        let mut state = self.journal.state();
        state.writes += 1;
        if let Some(folder) = &state.copy_to {
            crate::tree::copy(&self.root, &folder.join(state.writes.to_string()));
        }
        let path = self.sysfs.path(node).unwrap_or(Path::new("?"));
        let path = path.strip_prefix(&self.root).unwrap_or(path).to_owned();
        let fails = state.fail_at == Some(state.writes) || state.broken == Some(node);
        let text = match (node, value) {
            (Node::GpuPower, 0) => "auto".to_owned(),
            (Node::GpuPower, _) => "on".to_owned(),
            _ => value.to_string(),
        };
        let mark = if fails { " !" } else { "" };
        let _ = writeln!(state.log, "{} {text}{mark}", path.display());
        if fails {
            let cause = Cause::Write(INJECTED);
            return Err(NodeError { node, cause });
        }
        drop(state);
        self.sysfs.write(node, value)
    }

    fn has(&self, node: Node) -> bool {
        self.sysfs.has(node)
    }

    fn wait(&mut self, _pause: Duration) {}
}
