//! Samples that training never sees.

use super::error::DataError;
use super::records::Records;
use std::path::Path;

/// One in so many samples of a file, the last ones, is held out where no second file is given.
const SHARE: u32 = 5;

/// Samples that are served, or that judge what was trained, and that are never trained on.
#[derive(Debug)]
pub struct HeldOut {
    records: Records,
    first: u32,
    /// Behind the last of them.
    end: u32,
}

impl HeldOut {
    /// All samples of a file.
    #[must_use]
    pub fn all(records: Records) -> Self {
        let end = records.count();
        Self {
            records,
            first: 0,
            end,
        }
    }

    /// The last fifth of a file, at least one sample.
    #[must_use]
    pub fn last_fifth(records: Records) -> Self {
        let end = records.count();
        Self::last_of(records, end, (end / SHARE).max(1))
    }

    /// The last `count` of a file's first `end` samples.
    #[must_use]
    pub fn last_of(records: Records, end: u32, count: u32) -> Self {
        let end = end.min(records.count());
        Self {
            records,
            first: end.saturating_sub(count),
            end,
        }
    }

    /// How many samples of the same file precede them.
    #[must_use]
    pub const fn first(&self) -> u32 {
        self.first
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.end.saturating_sub(self.first)
    }

    /// The file's samples.
    #[must_use]
    pub const fn records(&self) -> &Records {
        &self.records
    }

    /// Fails unless the samples have this many elements; `path` is for the error.
    ///
    /// # Errors
    /// [`DataError`] with both numbers.
    pub fn expect_elements(&self, expected: usize, path: &Path) -> Result<(), DataError> {
        self.records.expect_elements(expected, path)
    }

    /// Index in the file of a place; the last one's for a place beyond it.
    #[must_use]
    pub fn index(&self, place: u32) -> u32 {
        let last = self.end.saturating_sub(1);
        self.first.saturating_add(place).min(last)
    }
}
