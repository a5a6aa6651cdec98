//! `fulcrumd restore`: put back the clocks that a killed process left changed (`ExecStopPost`).

use crate::Failure;
use crate::args::BoardOptions;
use fulcrum_runtime::board::{Jetson, Options};

/// Puts them back if there is a record of them.
pub(crate) fn restore(options: &BoardOptions) -> Result<(), Failure> {
    let mut board = discover(options)?;
    if board.recover().map_err(Failure::trouble)? {
        log::info!("the original clocks are back");
    } else {
        log::info!("nothing to restore: no process left clocks changed");
    }
    Ok(())
}

/// Finds the board of the options. Reads only.
pub(crate) fn discover(options: &BoardOptions) -> Result<Jetson, Failure> {
    let board_options = Options {
        state_folder: options.state_dir.clone(),
        power_rails: options.power_rails.clone(),
        ..Options::default()
    };
    Jetson::discover_with(&options.sysfs_root, board_options, |sysfs| sysfs)
        .map_err(Failure::trouble)
}
