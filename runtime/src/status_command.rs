//! `fulcrumd status`: what a running `fulcrumd` tells of itself; on a terminal, once a second.

use crate::args::Status;
use crate::{Failure, print};
use fulcrum_runtime::signal;
use std::io::{IsTerminal, stdout};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

/// Distance of two looks.
const EVERY: Duration = Duration::from_secs(1);

/// Prints the page; a page for people is shown again and again on a terminal, until a signal.
///
/// # Errors
/// Nobody listens there.
pub(crate) fn status(options: &Status) -> Result<(), Failure> {
    let fetch = || {
        options.from.fetch(options.page).map_err(|error| {
            Failure::trouble(format!(
                "{}: {error}; a running `fulcrumd run --status ADDRESS` answers there",
                options.from
            ))
        })
    };
    let page = fetch()?;
    if options.page != "/status" || !stdout().is_terminal() {
        return print(&page);
    }
    let stop = signal::install().map_err(Failure::trouble)?;
    // Clears the screen once, then writes over it: no flicker.
    print(&format!("\x1b[2J\x1b[H{page}"))?;
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(EVERY);
        let lines = fetch()?.replace('\n', "\x1b[K\n");
        print(&format!("\x1b[H{lines}\x1b[J"))?;
    }
    Ok(())
}
