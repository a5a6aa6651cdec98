//! `fulcrumd doctor` and `fulcrumd capture`: look at the board, change nothing.

use crate::args::{Capture, Doctor};
use crate::{Failure, print};
use fulcrum_runtime::board::Options;
use fulcrum_runtime::capture;
use fulcrum_runtime::doctor::{Report, Verdict};
use fulcrum_runtime::engine::{Engine, Provider, library};

/// Prints what the board is, what can be read and set, what will go wrong.
///
/// # Errors
/// Something is bad: the answer is no.
pub(crate) fn doctor(options: &Doctor) -> Result<(), Failure> {
    let board = &options.board;
    let where_to_look = Options {
        state_folder: board.state_dir.clone(),
        power_rails: board.power_rails.clone(),
        ..Options::default()
    };
    let mut report = Report::examine(&board.sysfs_root, where_to_look);
    examine_engine(&mut report, options);
    match options.json {
        true => print(&format!("{}\n", report.to_json()))?,
        false => print(&report.to_string())?,
    }
    match report.verdict() {
        Verdict::Bad => Err(Failure::no("this board cannot run a plan as it is")),
        Verdict::Good | Verdict::Limited => Ok(()),
    }
}

/// Loads the library, because a file that is there may still not start, and runs a model on every provider.
fn examine_engine(report: &mut Report, options: &Doctor) {
    let found = match library::find(options.onnxruntime.as_deref()) {
        Ok(found) => found,
        Err(error) => {
            report.add("engine", Verdict::Bad, error.to_string(), None);
            return;
        }
    };
    let engine = match Engine::start(&found) {
        Ok(engine) => engine,
        Err(error) => {
            report.add("engine", Verdict::Bad, error.to_string(), None);
            return;
        }
    };
    report.add("engine", Verdict::Good, format!("{found}; starts"), None);
    for (name, provider) in Provider::NAMES {
        match engine.tried(provider) {
            Ok(()) => report.add(
                "provider",
                Verdict::Good,
                format!("{name}: a model ran on it"),
                None,
            ),
            // Most machines lack one, and the CPU does.
            Err(reason) => report.add(
                "provider",
                match provider {
                    Provider::Cpu => Verdict::Bad,
                    Provider::Cuda | Provider::TensorRt => Verdict::Limited,
                },
                format!("{name} does not work here: {reason}"),
                None,
            ),
        }
    }
}

/// Copies the board's files into a folder.
///
/// # Errors
/// The folder is not empty or cannot be written, or there is no board.
pub(crate) fn capture(options: &Capture) -> Result<(), Failure> {
    let captured = capture::capture(&options.sysfs_root, &options.to).map_err(Failure::trouble)?;
    print(&format!(
        "{} files in {}; {} could not be read (see CAPTURE there)\n",
        captured.files,
        options.to.display(),
        captured.unreadable.len()
    ))
}
