//! `fulcrum check`: is this a good plan?

use crate::plan_file;
use crate::verdict::Verdict;
use std::io::Write;
use std::path::PathBuf;

/// Options of `fulcrum check`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The plan file
    plan: PathBuf,
    /// Board the plan must be for: a name, or a description file (.toml); default: any known board
    #[arg(long, value_name = "NAME|FILE")]
    board: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// The file cannot be read, or `--board` names no board.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let boards = plan_file::candidates(arguments.board.as_deref())?;
    let path = arguments.plan.display();
    let mut out = std::io::stdout().lock();
    match plan_file::read(&arguments.plan, &boards)? {
        Ok(plan) => {
            writeln!(
                out,
                "{path}: good: {} modes for {}",
                plan.rows.len(),
                plan.board
            )?;
            Ok(Verdict::Done)
        }
        Err(reason) => {
            writeln!(out, "{path}: bad: {reason}")?;
            Ok(Verdict::No)
        }
    }
}
