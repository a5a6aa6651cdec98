//! `fulcrum engine install`: the pinned ONNX Runtime library, for this machine's fulcrumd.

use crate::engine_install;
use crate::verdict::Verdict;
use clap::Subcommand;
use std::io::{self, Write};

/// Options of `fulcrum engine`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Download the pinned ONNX Runtime wheel with pip, check it, and unpack the library into the cache
    Install,
}

/// Runs the command.
///
/// # Errors
/// As [`engine_install::install`].
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    match arguments.action {
        Action::Install => {
            let library = engine_install::install()?;
            writeln!(
                io::stdout(),
                "ONNX Runtime {}: {}",
                engine_install::VERSION,
                library.display()
            )?;
        }
    }
    Ok(Verdict::Done)
}
