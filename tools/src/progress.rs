//! Progress of long work, on a terminal only.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that counts to `length`; silent where stderr is no terminal.
#[must_use]
pub fn bar(what: &str, length: u64) -> ProgressBar {
    let template = "{prefix} [{bar:30}] {pos}/{len} {msg} ({eta} left)";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length)
        .with_style(style.progress_chars("=> "))
        .with_prefix(what.to_owned())
}

/// A spinner for work without a known length; silent where stderr is no terminal.
#[must_use]
pub fn spinner(what: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    spinner.enable_steady_tick(std::time::Duration::from_millis(120));
    spinner
}
