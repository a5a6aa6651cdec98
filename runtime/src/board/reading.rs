//! Sensor files: opened once, read often, absent rather than wrong.

use super::number;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// An open sensor file.
#[derive(Debug)]
pub(super) struct Reading {
    file: File,
}

impl Reading {
    /// Opens a sensor; `None` if it does not exist or may not be read.
    pub(super) fn open(path: &Path) -> Option<Self> {
        Some(Self {
            file: File::open(path).ok()?,
        })
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
