//! How a command ends: exit codes 0 done, 1 the answer is no, 2 usage or I/O.

use fulcrum_plan::wire::DecodeError;
use std::io;
use std::process::ExitCode;

/// How a command that ran to its end answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done, or yes.
    Done,
    /// The answer is no: a bad plan, a budget that nothing fits.
    No,
}

/// The exit code of an outcome; an error is printed to stderr with everything that led to it.
#[must_use]
pub fn exit_code(outcome: &anyhow::Result<Verdict>) -> ExitCode {
    match outcome {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::No) => ExitCode::from(1),
        // `fulcrum show x.plan | head`: the reader has seen enough.
        Err(error) if is_broken_pipe(error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fulcrum: {error:#}");
            let bad_plan = error.chain().any(|cause| cause.is::<DecodeError>());
            ExitCode::from(if bad_plan { 1 } else { 2 })
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io_error = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<io::Error>());
    io_error.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
