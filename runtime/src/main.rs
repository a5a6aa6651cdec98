//! `fulcrumd`: the runtime's binary. Reads the command line and calls; see [`fulcrum_runtime`].

mod accept;
mod args;
mod inspect;
mod load_command;
mod logger;
mod profile_service;
mod restore;
mod run;
mod status_command;

use args::Command;
use fulcrum_runtime::allocation::CountingAllocator;
use std::fmt;
use std::io::Write;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Why a command failed, by what it means for the caller.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The question was understood, and the answer is no: exit code 1.
    No(String),
    /// Something is missing or broken: exit code 2.
    Trouble(String),
}

impl Failure {
    pub(crate) fn no(reason: impl fmt::Display) -> Self {
        Self::No(reason.to_string())
    }

    pub(crate) fn trouble(reason: impl fmt::Display) -> Self {
        Self::Trouble(reason.to_string())
    }
}

fn main() -> ExitCode {
    logger::install();
    let done = match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print(args::HELP),
        Ok(Command::Version) => print(concat!("fulcrumd ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Run(options)) => run::run(&options),
        Ok(Command::Profile(options)) => profile_service::profile(&options),
        Ok(Command::Load(options)) => load_command::load(&options),
        Ok(Command::Status(options)) => status_command::status(&options),
        Ok(Command::Accept(options)) => accept::accept(&options),
        Ok(Command::Restore(options)) => restore::restore(&options),
        Ok(Command::Doctor(options)) => inspect::doctor(&options),
        Ok(Command::Capture(options)) => inspect::capture(&options),
        Err(error) => Err(Failure::trouble(error)),
    };
    let (message, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::No(message)) => (message, 1),
        Err(Failure::Trouble(message)) => (message, 2),
    };
    log::error!("{message}");
    ExitCode::from(code)
}

/// A closed pipe is no error: whoever reads has seen enough.
fn print(text: &str) -> Result<(), Failure> {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}
