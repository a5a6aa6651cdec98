//! Log lines on standard error. journald adds the time, and takes a line's level from a prefix
//! (sd-daemon(3)); a terminal needs neither.
//!
//! The loop never logs: what it has to say goes through [`fulcrum_runtime::telemetry`] to another thread.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::{env, fs};

struct Logger {
    /// Whether standard error is the journal.
    journal: bool,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info && metadata.target().starts_with("fulcrum")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match (record.level(), self.journal) {
            (Level::Error, true) => "<3>",
            (Level::Warn, true) => "<4>",
            (_, true) => "<6>",
            (Level::Error, false) => "error: ",
            (Level::Warn, false) => "warning: ",
            (_, false) => "",
        };
        // There is nobody to tell when standard error is gone.
        let _ = writeln!(std::io::stderr().lock(), "{level}{}", record.args());
    }

    fn flush(&self) {}
}

/// Makes this the process's logger.
pub(crate) fn install() {
    // Inherited by processes whose standard error is something else: device and inode tell (systemd.exec(5)).
    let journal = env::var("JOURNAL_STREAM").is_ok_and(|stream| {
        let stderr = fs::metadata("/proc/self/fd/2");
        stderr.is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
    });
    // Fails only if there is one already, which then does the same service.
    let _ = log::set_boxed_logger(Box::new(Logger { journal }));
    log::set_max_level(LevelFilter::Info);
}
