//! `change_clocks ROOT [STATE]`: changes the clocks of the board below a root, over and over, until it is
//! killed.

use fulcrum_plan::PowerMode;
use fulcrum_runtime::board::{Jetson, Options, Topology};
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let root = arguments
        .next()
        .ok_or("usage: change_clocks ROOT [STATE]")?;
    let options = Options {
        state_folder: arguments.next(),
        ..Options::default()
    };
    let mut board = Jetson::discover_with(&root, options, |sysfs| sysfs)?;
    // Whoever waits for this line knows that from now on clocks change.
    println!("ready");
    board.recover()?;
    let [low, high] = modes(board.topology()).ok_or("a table is empty")?;
    loop {
        board.apply(&low)?;
        board.apply(&high)?;
        board.restore()?;
    }
}

fn modes(topology: &Topology) -> Option<[PowerMode; 2]> {
    let low = PowerMode {
        cores: 3,
        cpu_khz: *topology.cpu_khz.first()?,
        gpu_khz: *topology.gpu_khz.first()?,
        emc_khz: *topology.emc_khz.first()?,
    };
    let high = PowerMode {
        cores: topology.core_count(),
        cpu_khz: *topology.cpu_khz.last()?,
        gpu_khz: *topology.gpu_khz.last()?,
        emc_khz: *topology.emc_khz.last()?,
    };
    Some([low, high])
}
