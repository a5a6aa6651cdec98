//! What a process holds: resident memory, open files, threads.

use std::fs;
use std::time::Duration;

/// Growth between the second and the last quarter of a long life that counts as none.
const GROWTH_MAX_KIB: u64 = 1024;
/// The same for a life that is not long: buffers of clients may still reach their sizes.
const GROWTH_SHORT_MAX_KIB: u64 = 16 * 1024;
/// A life from this length on is long.
const LONG: Duration = Duration::from_secs(300);
/// Files beyond those at the start: 16 clients, of which each may have one more, and the files of one that
/// is just leaving.
const FILES_MORE_MAX: usize = 34;

/// One sample.
#[derive(Clone, Copy, Debug)]
struct Sample {
    resident_kib: u64,
    files: usize,
    threads: u64,
}

/// Samples of a process, one a second.
#[derive(Debug)]
pub(super) struct Memory {
    pid: u32,
    samples: Vec<Sample>,
}

impl Memory {
    pub(super) const fn of(pid: u32) -> Self {
        Self {
            pid,
            samples: Vec::new(),
        }
    }

    /// Takes a sample; none once the process is gone.
    pub(super) fn sample(&mut self) {
        let folder = format!("/proc/{}", self.pid);
        let Ok(status) = fs::read_to_string(format!("{folder}/status")) else {
            return;
        };
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let files = fs::read_dir(format!("{folder}/fd"));
        let (Some(resident_kib), Some(threads), Ok(files)) =
            (number("VmRSS:"), number("Threads:"), files)
        else {
            return;
        };
        self.samples.push(Sample {
            resident_kib,
            files: files.count(),
            threads,
        });
    }

    /// Median resident memory of a quarter of the life, 0 to 3.
    fn quarter_kib(&self, quarter: usize) -> u64 {
        let count = self.samples.len();
        let part = &self.samples[quarter * count / 4..(quarter + 1) * count / 4];
        let mut values: Vec<u64> = part.iter().map(|sample| sample.resident_kib).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    }

    /// What a person wants to see.
    pub(super) fn text(&self) -> String {
        let quarters = [0, 1, 2, 3].map(|quarter| self.quarter_kib(quarter));
        let most = |of: fn(&Sample) -> u64| self.samples.iter().map(of).max().unwrap_or(0);
        format!(
            "resident {quarters:?} KiB by quarter, at most {} KiB, {} files, {} threads",
            most(|sample| sample.resident_kib),
            most(|sample| sample.files as u64),
            most(|sample| sample.threads)
        )
    }

    /// What grew that should not.
    pub(super) fn growth(&self, length: Duration) -> Vec<String> {
        let mut found = Vec::new();
        let Some(first) = self.samples.first() else {
            return vec!["the process could not be watched".into()];
        };
        let limit_kib = if length >= LONG {
            GROWTH_MAX_KIB
        } else {
            GROWTH_SHORT_MAX_KIB
        };
        if self.quarter_kib(3) > self.quarter_kib(1) + limit_kib {
            found.push(format!("memory grew: {}", self.text()));
        }
        if self
            .samples
            .iter()
            .any(|sample| sample.files > first.files + FILES_MORE_MAX)
        {
            found.push(format!(
                "files stay open: {} at first, {}",
                first.files,
                self.text()
            ));
        }
        if self
            .samples
            .iter()
            .any(|sample| sample.threads > first.threads)
        {
            found.push(format!(
                "threads grew: {} at first, {}",
                first.threads,
                self.text()
            ));
        }
        found
    }
}
