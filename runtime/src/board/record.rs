//! The durable record of a board's original clocks.
//!
//! Written before the first change, removed after the clocks are back. A process that is killed in
//! between leaves it behind, and the next one (`fulcrumd restore`, or any start) finds it.
//!
//! It lies in `run/fulcrum` below the sysfs root, unless configured otherwise: `/run` outlives every
//! process and not the kernel, exactly like the clocks. Should the folder be configured onto a disk,
//! the boot id in the record tells a record of an earlier boot, which is void: a reboot resets clocks.
//!
//! The folder also holds the lock that keeps two processes from changing one board.

use super::number;
use super::settings::Settings;
use super::startup::read_start;
use super::sysfs::errno;
use fulcrum_plan::wire::CRC;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Version of the record's layout.
const VERSION: u16 = 1;
/// Longest record in bytes.
const RECORD_LEN_MAX: usize = 512;

/// What the file holds: postcard, then CRC-32.
#[derive(Debug, Serialize, Deserialize)]
struct Content {
    version: u16,
    boot: BootId,
    original: Settings,
}

/// The kernel's id of this boot; empty if it tells none.
type BootId = heapless::String<40>;

/// Why the record cannot be written, read or owned. Nothing has been changed on the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordError {
    /// Another process holds the board.
    Busy,
    /// The folder or the file failed with this errno.
    Io(i32),
    /// The file is damaged, or another version of fulcrumd wrote it.
    Damaged,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("another fulcrumd controls this board; stop it first"),
            Self::Io(errno) => write!(
                f,
                "the record of the original clocks: {}; it needs a folder that root can write \
                 (--state-dir)",
                io::Error::from_raw_os_error(*errno)
            ),
            Self::Damaged => f.write_str(
                "the record of the original clocks is damaged, so they are not known; a reboot sets \
                 stock clocks and removes it, but where --state-dir is on a disk: there remove \
                 its file original-clocks then",
            ),
        }
    }
}

impl core::error::Error for RecordError {}

fn io_error(error: &io::Error) -> RecordError {
    RecordError::Io(errno(error))
}

/// As `fs::create_dir_all`, without allocating.
fn make_folder(path: &Path) -> io::Result<()> {
    match (fs::create_dir(path), path.parent()) {
        (Err(error), _) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            make_folder(parent)?;
            fs::create_dir(path)
        }
        (outcome, _) => outcome,
    }
}

/// Where the record is kept, and which boot this is. Made at start; costs nothing until used.
#[derive(Debug)]
pub(super) struct RecordFile {
    folder: PathBuf,
    path: PathBuf,
    temporary: PathBuf,
    lock: PathBuf,
    boot: BootId,
}

/// The right to change the board. The kernel takes it back from a process that dies.
#[derive(Debug)]
pub(super) struct Ownership {
    _lock: Flock<File>,
    folder: File,
}

impl RecordFile {
    pub(super) fn new(root: &Path, state_folder: Option<&Path>) -> Self {
        let folder = state_folder.map_or_else(|| root.join("run/fulcrum"), Path::to_owned);
        let boot = read_start(&root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
        let boot = number::first_line(&boot).and_then(|text| BootId::try_from(text).ok());
        Self {
            path: folder.join("original-clocks"),
            temporary: folder.join("original-clocks.new"),
            lock: folder.join("lock"),
            folder,
            boot: boot.unwrap_or_default(),
        }
    }

    /// Makes the folder and takes the board.
    pub(super) fn own(&self) -> Result<Ownership, RecordError> {
        make_folder(&self.folder).map_err(|error| io_error(&error))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.lock)
            .map_err(|error| io_error(&error))?;
        let lock =
            Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(
                |(_, errno)| match errno {
                    nix::errno::Errno::EWOULDBLOCK => RecordError::Busy,
                    other => RecordError::Io(other as i32),
                },
            )?;
        let folder = File::open(&self.folder).map_err(|error| io_error(&error))?;
        Ok(Ownership {
            _lock: lock,
            folder,
        })
    }

    /// Writes the record: whole or not at all.
    pub(super) fn save(&self, owner: &Ownership, original: &Settings) -> Result<(), RecordError> {
        let content = Content {
            version: VERSION,
            boot: self.boot.clone(),
            original: original.clone(),
        };
        let mut buffer = [0u8; RECORD_LEN_MAX];
        let bytes = postcard::to_slice_crc32(&content, &mut buffer, CRC.digest())
            .map_err(|_| RecordError::Io(libc::EFBIG))?;
        let write = || {
            let mut file = File::create(&self.temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&self.temporary, &self.path)?;
            owner.folder.sync_all()
        };
        write().map_err(|error| io_error(&error))
    }

    /// The original clocks of a process that did not put them back. Needs no ownership to look.
    pub(super) fn load(&self) -> Result<Option<Settings>, RecordError> {
        let mut buffer = [0u8; RECORD_LEN_MAX + 1];
        let length = match File::open(&self.path).and_then(|mut file| file.read(&mut buffer)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            outcome => outcome.map_err(|error| io_error(&error))?,
        };
        let bytes = buffer.get(..length).unwrap_or_default();
        let (content, rest) = postcard::take_from_bytes_crc32::<Content>(bytes, CRC.digest())
            .map_err(|_| RecordError::Damaged)?;
        if content.version != VERSION || !rest.is_empty() {
            return Err(RecordError::Damaged);
        }
        Ok((content.boot == self.boot).then_some(content.original))
    }

    /// Removes the record: the clocks are back.
    pub(super) fn remove(&self, owner: &Ownership) -> Result<(), RecordError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&error)),
            _ => owner.folder.sync_all().map_err(|error| io_error(&error)),
        }
    }
}
