//! The two slots on a device: how a plan gets there without ever being torn.
//!
//! ```text
//! DIR/a.plan  DIR/b.plan   the slots
//! DIR/current              which slot is in use, and whether it has proved itself
//! ```
//!
//! A new plan is written beside the slot that is not in use, made durable, renamed into place, read
//! back and decoded by the code that the device runs; only then does `current` change, in one rename.
//! A new plan is on **trial**: `fulcrumd` marks it as tried before it starts with it and confirms it once
//! the loop runs, or when it ends as it was told to. A plan that was tried but never confirmed is given up
//! at the next start, for the slot before it.
//!
//! One process at a time changes a folder: flashing, starting and confirming hold a lock on it.
//!
//! Both sides use this module: `fulcrum flash` and `fulcrumd`.

use crate::board::Board;
use crate::durable::{read_limited, remove_leftovers, replace_file};
use crate::table::PlanTable;
use crate::wire::{self, DecodeError};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::string::String;
use std::vec::Vec;

/// One of the two places for a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// `a.plan`
    A,
    /// `b.plan`
    B,
}

impl Slot {
    const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    const fn letter(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    fn from_letter(letter: &str) -> Option<Self> {
        [Self::A, Self::B]
            .into_iter()
            .find(|slot| slot.letter() == letter)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.letter())
    }
}

/// How far the plan in use has proved itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Flashed, not yet started with.
    New,
    /// A start with it began.
    Tried,
    /// A start with it went well.
    Confirmed,
}

impl Trial {
    const ALL: [Self; 3] = [Self::New, Self::Tried, Self::Confirmed];

    const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Tried => "tried",
            Self::Confirmed => "confirmed",
        }
    }
}

/// The content of `current`: one line, such as `fulcrum-store 1 slot b trial new previous a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Slot in use.
    pub slot: Slot,
    /// How far it has proved itself.
    pub trial: Trial,
    /// Whether the other slot holds the plan that was in use before.
    pub previous: bool,
}

impl Pointer {
    fn to_line(self) -> String {
        let previous = if self.previous {
            self.slot.other().letter()
        } else {
            "none"
        };
        std::format!(
            "fulcrum-store 1 slot {} trial {} previous {previous}\n",
            self.slot,
            self.trial.word()
        )
    }

    fn from_line(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.strip_suffix('\n')?.split(' ').collect();
        let [
            "fulcrum-store",
            "1",
            "slot",
            slot,
            "trial",
            trial,
            "previous",
            previous,
        ] = *words
        else {
            return None;
        };
        let slot = Slot::from_letter(slot)?;
        let trial = Trial::ALL.into_iter().find(|state| state.word() == trial)?;
        let previous = match previous {
            "none" => false,
            letter if letter == slot.other().letter() => true,
            _ => return None,
        };
        Some(Self {
            slot,
            trial,
            previous,
        })
    }
}

/// Why the store cannot do what was asked.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder cannot be read or written.
    Io(PathBuf, io::Error),
    /// Nothing was ever flashed to this folder.
    Empty(PathBuf),
    /// `current` is not what this program writes.
    Pointer(PathBuf),
    /// A slot does not hold a good plan for the board.
    Plan(PathBuf, DecodeError),
    /// What was read back is not what was written.
    ReadBack(PathBuf),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Empty(path) => write!(
                f,
                "{}: no plan here; run `fulcrum flash x.plan --to {}`",
                path.display(),
                path.display()
            ),
            Self::Pointer(path) => {
                write!(f, "{}: damaged; flash the plan again", path.display())
            }
            Self::Plan(path, error) => write!(f, "{}: {error}", path.display()),
            Self::ReadBack(path) => {
                write!(
                    f,
                    "{}: read back other bytes than were written",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for StoreError {}

/// What a flash did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flashed {
    /// The plan is now in this slot, on trial.
    Switched(Slot),
    /// These very bytes were in use already; nothing was changed.
    Already(Slot),
}

/// A device folder with two slots.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

impl Store {
    /// A store in `folder`; nothing is read or created yet.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
        }
    }

    /// Path of a slot's file.
    #[must_use]
    pub fn slot_path(&self, slot: Slot) -> PathBuf {
        self.folder.join(std::format!("{slot}.plan"))
    }

    fn pointer_path(&self) -> PathBuf {
        self.folder.join("current")
    }

    /// What is in use; `None` if nothing was ever flashed.
    ///
    /// # Errors
    /// [`StoreError::Io`], or [`StoreError::Pointer`] if the file is not what this module writes.
    pub fn pointer(&self) -> Result<Option<Pointer>, StoreError> {
        let path = self.pointer_path();
        match read_limited(&path, 256) {
            Ok(bytes) => {
                let line = core::str::from_utf8(&bytes)
                    .ok()
                    .and_then(Pointer::from_line);
                line.map(Some).ok_or(StoreError::Pointer(path))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::Io(path, error)),
        }
    }

    /// Keeps other processes from changing the folder until the file that this returns is dropped.
    fn lock(&self) -> Result<File, StoreError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => StoreError::Empty(self.folder.clone()),
            _ => StoreError::Io(self.folder.clone(), error),
        };
        let folder = File::open(&self.folder).map_err(failed)?;
        folder.lock().map_err(failed)?;
        Ok(folder)
    }

    fn point(&self, pointer: Pointer) -> Result<(), StoreError> {
        let path = self.pointer_path();
        replace_file(&path, pointer.to_line().as_bytes())
            .map_err(|error| StoreError::Io(path, error))
    }

    /// Puts a plan into the slot that is not in use and switches to it.
    ///
    /// Safe to repeat, and safe to cut at any instant: the plan in use before stays in its slot until
    /// the next flash.
    ///
    /// # Errors
    /// [`StoreError::Plan`] if the bytes are no good plan for one of `boards` (nothing is written),
    /// [`StoreError::Io`] and [`StoreError::ReadBack`] if the disk fails (the old plan stays in use).
    pub fn flash(&self, bytes: &[u8], boards: &[Board]) -> Result<Flashed, StoreError> {
        fs::create_dir_all(&self.folder)
            .map_err(|error| StoreError::Io(self.folder.clone(), error))?;
        let _lock = self.lock()?;
        // A damaged pointer must not lock a user out: this flash is what mends it.
        let before = match self.pointer() {
            Ok(pointer) => pointer,
            Err(StoreError::Pointer(_)) => None,
            Err(error) => return Err(error),
        };
        let target = before.map_or(Slot::A, |pointer| pointer.slot.other());
        wire::decode(bytes, boards)
            .map_err(|error| StoreError::Plan(self.slot_path(target), error))?;
        if let Some(pointer) = before
            && self
                .read_slot(pointer.slot)
                .is_ok_and(|found| found == bytes)
        {
            return Ok(Flashed::Already(pointer.slot));
        }
        for path in [
            self.slot_path(Slot::A),
            self.slot_path(Slot::B),
            self.pointer_path(),
        ] {
            remove_leftovers(&path);
        }
        let path = self.slot_path(target);
        replace_file(&path, bytes).map_err(|error| StoreError::Io(path.clone(), error))?;
        let found = self.read_slot(target)?;
        if found != bytes {
            return Err(StoreError::ReadBack(path));
        }
        wire::decode(&found, boards).map_err(|error| StoreError::Plan(path, error))?;
        // Only a slot that can be decoded is worth going back to.
        let previous = before.is_some_and(|pointer| self.load_slot(pointer.slot, boards).is_ok());
        self.point(Pointer {
            slot: target,
            trial: Trial::New,
            previous,
        })?;
        Ok(Flashed::Switched(target))
    }

    /// The plan to start with, and its bytes' pointer. Marks a new plan as tried; gives up a plan that
    /// was tried before and never confirmed, or that cannot be decoded, if there is one to go back to.
    ///
    /// # Errors
    /// [`StoreError::Empty`] if nothing was flashed, [`StoreError::Plan`] if no slot can be used.
    pub fn start(&self, boards: &[Board]) -> Result<(PlanTable, Pointer), StoreError> {
        let _lock = self.lock()?;
        let (plan, pointer) = self.peek(boards)?;
        if self.pointer()? != Some(pointer) {
            self.point(pointer)?;
        }
        Ok((plan, pointer))
    }

    /// What [`Store::start`] would start with, and the pointer that it would leave. Changes nothing:
    /// a start that fails for another reason, such as a missing model, must not count as a trial.
    ///
    /// # Errors
    /// As [`Store::start`].
    pub fn peek(&self, boards: &[Board]) -> Result<(PlanTable, Pointer), StoreError> {
        let pointer = self
            .pointer()?
            .ok_or_else(|| StoreError::Empty(self.folder.clone()))?;
        let loaded = self.load_slot(pointer.slot, boards);
        match (loaded, pointer.trial) {
            (Ok(plan), Trial::Confirmed) => Ok((plan, pointer)),
            (Ok(plan), Trial::New) => {
                let trial = Trial::Tried;
                Ok((plan, Pointer { trial, ..pointer }))
            }
            (Ok(plan), Trial::Tried) if !pointer.previous => Ok((plan, pointer)),
            (Err(error), _) if !pointer.previous => Err(error),
            (_, _) => {
                let slot = pointer.slot.other();
                let plan = self.load_slot(slot, boards)?;
                let pointer = Pointer {
                    slot,
                    trial: Trial::Confirmed,
                    previous: false,
                };
                Ok((plan, pointer))
            }
        }
    }

    /// Confirms the plan in use: a start with it went well. A plan that was flashed since that start has
    /// still to prove itself, and stays as it is.
    ///
    /// # Errors
    /// [`StoreError::Empty`] if nothing was flashed, [`StoreError::Io`].
    pub fn confirm(&self) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let pointer = self
            .pointer()?
            .ok_or_else(|| StoreError::Empty(self.folder.clone()))?;
        if pointer.trial != Trial::Tried {
            return Ok(());
        }
        self.point(Pointer {
            trial: Trial::Confirmed,
            ..pointer
        })
    }

    fn read_slot(&self, slot: Slot) -> Result<Vec<u8>, StoreError> {
        let path = self.slot_path(slot);
        read_limited(&path, wire::LEN_MAX).map_err(|error| StoreError::Io(path, error))
    }

    fn load_slot(&self, slot: Slot, boards: &[Board]) -> Result<PlanTable, StoreError> {
        let bytes = self.read_slot(slot)?;
        wire::decode(&bytes, boards).map_err(|error| StoreError::Plan(self.slot_path(slot), error))
    }
}
