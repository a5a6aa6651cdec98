//! `fulcrum`: the workstation tool.

use clap::Parser;
use fulcrum::cli::{self, CommandLine};
use fulcrum::verdict;
use std::process::ExitCode;

fn main() -> ExitCode {
    verdict::exit_code(&cli::run(CommandLine::parse()))
}
