//! Sensor files: opened once, read often, absent rather than wrong.

use super::number;
use super::sysfs::is_plain;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An open sensor file.
#[derive(Debug)]
pub(super) struct Reading {
    file: File,
    plain: bool,
}

impl Reading {
    /// Opens a sensor; `None` if it does not exist or may not be read.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let plain = is_plain(&file);
        Some(Self { file, plain })
    }

    /// Whether it is a plain file, in a folder that looks like a board: nothing measures there.
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }

    /// The number it holds now; `None` when the read fails (`EAGAIN` of a power-gated zone, a device
    /// that went away) or holds no number.
    pub(super) fn signed(&self) -> Option<i64> {
        let mut buffer = [0u8; 32];
        let length = self.file.read_at(&mut buffer, 0).ok()?;
        number::parse_i64(buffer.get(..length)?)
    }

    /// As [`Self::signed`], and `None` below zero.
    pub(super) fn unsigned(&self) -> Option<u64> {
        u64::try_from(self.signed()?).ok()
    }
}
