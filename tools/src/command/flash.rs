//! `fulcrum flash`: puts a plan onto a device.

use crate::plan_file;
use crate::verdict::Verdict;
use anyhow::{Context, bail};
use fulcrum_plan::store::{Flashed, Store};
use std::path::{Path, PathBuf};

/// Options of `fulcrum flash`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The plan file
    plan: PathBuf,
    /// Where to: a device folder
    #[arg(long, value_name = "DIR")]
    to: String,
    /// Board the plan must be for: a name, or a description file (.toml); default: any known board
    #[arg(long, value_name = "NAME|FILE")]
    board: Option<String>,
}

/// Runs the command.
///
/// # Errors
/// The plan cannot be read or is not good, or the device folder cannot be written; the plan that was in
/// use there stays in use.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let boards = plan_file::candidates(arguments.board.as_deref())?;
    plan_file::read_good(&arguments.plan, &boards)?;
    let bytes = plan_file::read_bytes(&arguments.plan)?;
    if arguments.to.starts_with("ssh:") {
        bail!(
            "--to {}: flashing through ssh is not built yet; copy the plan and flash to a folder there",
            arguments.to
        );
    }
    let folder = Path::new(&arguments.to);
    let flashed = Store::new(folder)
        .flash(&bytes, &boards)
        .with_context(|| format!("--to {}", arguments.to))?;
    match flashed {
        Flashed::Switched(slot) => println!(
            "{}: slot {slot} holds {} ({} bytes), on trial until fulcrumd started well with it",
            folder.display(),
            arguments.plan.display(),
            bytes.len()
        ),
        Flashed::Already(slot) => {
            println!(
                "{}: slot {slot} holds these very bytes already",
                folder.display()
            );
        }
    }
    Ok(Verdict::Done)
}
