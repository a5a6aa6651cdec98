//! Log lines on standard error. journald adds the time; a terminal does not need it.
//!
//! The loop never logs: what it has to say goes through [`fulcrum_runtime::telemetry`] to another thread.

use log::{Level, LevelFilter, Log, Metadata, Record};
use std::io::Write;

struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info && metadata.target().starts_with("fulcrum")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => "error: ",
            Level::Warn => "warning: ",
            _ => "",
        };
        // There is nobody to tell when standard error is gone.
        let _ = writeln!(std::io::stderr().lock(), "{level}{}", record.args());
    }

    fn flush(&self) {}
}

/// Makes this the process's logger.
pub(crate) fn install() {
    // Fails only if there is one already, which then does the same service.
    let _ = log::set_logger(&Logger);
    log::set_max_level(LevelFilter::Info);
}
