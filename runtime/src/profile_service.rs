//! `fulcrumd profile`: serves measurements over standard input and output until input ends.

use crate::Failure;
use crate::args::Profile;
use fulcrum_runtime::board::{Jetson, Options};
use fulcrum_runtime::engine::{Engine, library};
use fulcrum_runtime::profile::course::Limits;
use fulcrum_runtime::profile::measure::RigProfiler;
use fulcrum_runtime::profile::models::{Making, Models};
use fulcrum_runtime::profile::rig::JetsonRig;
use fulcrum_runtime::profile::serve::{End, serve};
use std::io;

/// Checks everything, then serves; the board gets its clocks back however it ends.
pub(crate) fn profile(options: &Profile) -> Result<(), Failure> {
    let stop = fulcrum_runtime::signal::install().map_err(Failure::trouble)?;
    let mut board = discover(options)?;
    let library = library::find(options.onnxruntime.as_deref()).map_err(Failure::trouble)?;
    let engine = Engine::start(&library).map_err(Failure::trouble)?;
    let making = Making {
        engine: engine
            .on_first(&options.providers)
            .map_err(Failure::trouble)?,
        data: options.data.clone(),
        intra_op_threads: options.intra_op_threads,
    };
    let models = Models::open(options.sources.clone(), making).map_err(Failure::trouble)?;
    if board.recover().map_err(Failure::trouble)? {
        log::warn!("a process before this one was killed: its clocks were put back first");
    }
    let rig = JetsonRig::new(board, models);
    let mut profiler = RigProfiler {
        hello: rig.hello(),
        limits: Limits {
            minibatches: options.minibatches,
            ..Limits::default()
        },
        rig,
    };
    let ended = serve(io::stdin(), io::stdout(), &mut profiler, stop, options.idle);
    let restored = profiler.rig.jetson.restore();
    if let Some(error) = restored.as_ref().err() {
        log::error!("{error}; `fulcrumd restore` tries again");
    }
    match ended.map_err(Failure::trouble)? {
        End::Input | End::Signal => {}
        End::Idle => log::warn!(
            "no request for {} s: the clocks are back; raise --idle-s to wait longer",
            options.idle.as_secs()
        ),
    }
    restored.map_err(Failure::trouble)
}

fn discover(options: &Profile) -> Result<Jetson, Failure> {
    let board_options = Options {
        // What the clocks became is told, and the planner judges.
        accept_other_clocks: true,
        state_folder: options.board.state_dir.clone(),
        power_rails: options.board.power_rails.clone(),
        ..Options::default()
    };
    let root = &options.board.sysfs_root;
    let board = Jetson::discover_with(root, board_options, |sysfs| sysfs);
    let board = board.map_err(Failure::trouble)?;
    options.board.check(board.identity().name())?;
    Ok(board)
}
