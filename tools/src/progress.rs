//! Progress of long work, on a terminal only.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::sync::LazyLock;

/// Keeps bars and lines of one program apart on the terminal.
static TERMINAL: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A bar that counts to `length`; silent where stderr is no terminal.
#[must_use]
pub fn bar(what: &str, length: u64) -> ProgressBar {
    let template = "{prefix} [{bar:30}] {pos}/{len} {msg} ({eta} left)";
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(length)
        .with_style(style.progress_chars("=> "))
        .with_prefix(what.to_owned());
    TERMINAL.add(bar)
}

/// A line without a bar, beside the others, for what is being done just now; silent where stderr is no
/// terminal.
#[must_use]
pub fn line() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    TERMINAL.add(ProgressBar::no_length().with_style(style))
}

/// Prints to stderr, above the bars.
pub fn say(words: &str) {
    TERMINAL.suspend(|| eprintln!("{words}"));
}

/// A spinner for work without a known length; silent where stderr is no terminal.
#[must_use]
pub fn spinner(what: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(what.to_owned());
    spinner.enable_steady_tick(std::time::Duration::from_millis(120));
    spinner
}
