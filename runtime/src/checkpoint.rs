//! Checkpoints while training goes on: the loop copies, another thread writes.
//!
//! [`Keeper`] is a mailbox of one snapshot, its memory taken at start: as much as the parameters and the
//! state once more. The loop's end ([`Keeping`]) copies between two steps, at most [`PIECE`] elements at a
//! time, so that no request waits long for a large model's copy; no step runs until the copy is whole. The
//! other end ([`Keeper::write_until`]) makes it a file: written beside, made durable, renamed, the folder
//! made durable. Until then the file is the checkpoint before. A checkpoint that is due while the last one
//! is still being written is taken when that is done.
//!
//! # Invariants
//! - I5: the loop's end neither allocates nor makes a system call: the lock is only ever tried, and while
//!   the mailbox is empty nobody else holds it.
//! - I9: a kill at any instruction leaves the checkpoint before or the one after
//!   (`i9_training_that_is_killed_goes_on_bit_for_bit`).

use crate::engine::params::{self, ParamsError, Progress};
use crate::engine::{PIECE, Parameters, Piece};
use crate::telemetry::Counter;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often the writer looks into the mailbox.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How often a checkpoint is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// After so much time.
    Time(Duration),
    /// After so many steps.
    Steps(u64),
}

impl Default for Every {
    fn default() -> Self {
        Self::Time(Duration::from_secs(60))
    }
}

/// A mailbox between the loop and the thread that writes.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    every: Every,
    // Locked by the writer while `full`, by the loop while not.
    snapshot: Mutex<Snapshot>,
    full: AtomicBool,
    due: AtomicBool,
    /// Checkpoints that are on the disk.
    pub written: Counter,
}

#[derive(Debug)]
struct Snapshot {
    progress: Option<Progress>,
    tensors: Vec<Vec<f32>>,
}

impl Keeper {
    /// An empty mailbox for tensors of these sizes.
    #[must_use]
    pub fn new(path: &Path, every: Every, parameters: &Parameters) -> Arc<Self> {
        let tensors = parameters.values().map(<[f32]>::to_vec).collect();
        Arc::new(Self {
            path: path.to_owned(),
            every,
            snapshot: Mutex::new(Snapshot {
                progress: None,
                tensors,
            }),
            full: AtomicBool::new(false),
            due: AtomicBool::new(false),
            written: Counter::default(),
        })
    }

    /// Writes what the loop leaves, until `done`; what lies in the mailbox then is older than what the end
    /// of a run writes. A file that cannot be written is tried again when the next one is due; that is logged once, and
    /// again after one was written.
    pub fn write_until(&self, done: &AtomicBool) {
        let (mut last, mut failed) = (Instant::now(), false);
        while !done.load(Ordering::Relaxed) {
            if let Every::Time(every) = self.every
                && last.elapsed() >= every
            {
                last = Instant::now();
                self.due.store(true, Ordering::Relaxed);
            }
            match self.write() {
                Ok(written) => failed &= !written,
                Err(error) => {
                    if !failed {
                        log::error!("{error}; training goes on, the checkpoint is the one before");
                    }
                    failed = true;
                }
            }
            thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Whether there was something to write.
    fn write(&self) -> Result<bool, ParamsError> {
        if !self.full.load(Ordering::Acquire) {
            return Ok(false);
        }
        let snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let tensors = snapshot.tensors.iter().map(Vec::as_slice);
        let written = params::write(&self.path, tensors, snapshot.progress.as_ref());
        drop(snapshot);
        self.full.store(false, Ordering::Release);
        written?;
        self.written.add(1);
        Ok(true)
    }
}

/// The loop's end of a [`Keeper`].
#[derive(Debug)]
pub struct Keeping {
    keeper: Arc<Keeper>,
    /// Elements copied of the snapshot under way.
    copied: Option<usize>,
    /// What was counted at the last snapshot.
    last: u64,
}

impl Keeping {
    /// The end of `keeper`; `count` is what [`Keeping::copy`] counts from.
    #[must_use]
    pub const fn new(keeper: Arc<Keeper>, count: u64) -> Self {
        Self {
            keeper,
            copied: None,
            last: count,
        }
    }

    /// The mailbox.
    #[must_use]
    pub fn keeper(&self) -> Arc<Keeper> {
        Arc::clone(&self.keeper)
    }

    /// Copies a piece if a checkpoint is due or under way; whether it did. `count` is of what
    /// [`Every::Steps`] counts. Does not allocate.
    pub fn copy(
        &mut self,
        parameters: &Parameters,
        count: u64,
        progress: Option<&Progress>,
    ) -> bool {
        let keeper = &self.keeper;
        let is_due = self.copied.is_some()
            || match keeper.every {
                Every::Time(_) => keeper.due.load(Ordering::Relaxed),
                Every::Steps(steps) => count.saturating_sub(self.last) >= steps,
            };
        if !is_due || keeper.full.load(Ordering::Acquire) {
            return false;
        }
        let Ok(mut snapshot) = keeper.snapshot.try_lock() else {
            return false;
        };
        let first = self.copied.unwrap_or(0);
        let mut piece = Piece::at(first);
        let mut pairs = parameters.values().zip(&mut snapshot.tensors);
        if pairs.any(|(from, to)| piece.copy(from, to)) {
            self.copied = Some(first + PIECE);
            return true;
        }
        snapshot.progress = progress.copied();
        self.copied = None;
        self.last = count;
        keeper.due.store(false, Ordering::Relaxed);
        keeper.full.store(true, Ordering::Release);
        true
    }
}
