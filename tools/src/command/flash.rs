//! `fulcrum flash`: puts a plan onto a device, or onto many.

use crate::fleet::{self, Cargo};
use crate::plan_file;
use crate::target::{Outcome, Reach, Target};
use crate::verdict::Verdict;
use anyhow::{Context, bail};
use fulcrum_plan::{Board, wire};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Options of `fulcrum flash`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["to", "inventory"]))]
pub struct Arguments {
    /// The plan file
    plan: PathBuf,
    /// Where to: a device folder, or a host through ssh (DIR there: /var/lib/fulcrum/plans)
    #[arg(long, value_name = "DIR|ssh:USER@HOST[:DIR]")]
    to: Option<Target>,
    /// Where to: every [[host]] of this file (name, to, board), in parallel
    #[arg(long, value_name = "FILE")]
    inventory: Option<PathBuf>,
    /// Most hosts at a time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=64))]
    parallel: u8,
    /// Board the plan must be for: a name, or a description file (.toml); default: any known board
    #[arg(long, value_name = "NAME|FILE")]
    board: Option<String>,
    #[command(flatten)]
    reach: Reach,
}

/// Runs the command.
///
/// # Errors
/// The plan cannot be read or is not good, or a device folder cannot be written or reached; the plan that
/// was in use there stays in use.
pub fn run(arguments: &Arguments) -> anyhow::Result<Verdict> {
    let boards = plan_file::candidates(arguments.board.as_deref())?;
    let bytes = plan_file::read_bytes(&arguments.plan)?;
    let plan = wire::decode(&bytes, &boards);
    let plan = plan.with_context(|| arguments.plan.display().to_string())?;
    match (&arguments.to, &arguments.inventory) {
        (Some(target), _) => one(arguments, target, &bytes, &boards),
        (None, Some(inventory)) => {
            let cargo = Cargo {
                bytes: &bytes,
                board: &plan.board,
                boards: &boards,
            };
            many(arguments, inventory, cargo)
        }
        (None, None) => bail!("--to or --inventory says where the plan goes"),
    }
}

fn one(
    arguments: &Arguments,
    target: &Target,
    bytes: &[u8],
    boards: &[Board],
) -> anyhow::Result<Verdict> {
    let mut out = io::stdout().lock();
    match target.flash(bytes, boards, &arguments.reach) {
        Outcome::Switched(slot) => writeln!(
            out,
            "{target}: slot {slot} holds {} ({} bytes), on trial until fulcrumd started well with it",
            arguments.plan.display(),
            bytes.len()
        )?,
        Outcome::Already(slot) => {
            writeln!(out, "{target}: slot {slot} holds these very bytes already")?
        }
        Outcome::Refused(reason) => {
            writeln!(out, "{target}: refused: {reason:#}")?;
            return Ok(Verdict::No);
        }
        Outcome::Unreachable(reason) => return Err(reason.context(format!("--to {target}"))),
    }
    Ok(Verdict::Done)
}

fn many(arguments: &Arguments, inventory: &Path, cargo: Cargo<'_>) -> anyhow::Result<Verdict> {
    let hosts = fleet::read(inventory)?;
    let outcomes = fleet::flash(&hosts, cargo, &arguments.reach, arguments.parallel.into());
    write!(io::stdout(), "{}", fleet::table(&hosts, &outcomes))?;
    let count = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count();
    let unreachable = count(|outcome| matches!(outcome, Outcome::Unreachable(_)));
    if unreachable > 0 {
        bail!(
            "{unreachable} of {} hosts were not reached; run it again: hosts that have the plan are \
             left as they are",
            hosts.len()
        );
    }
    match count(|outcome| matches!(outcome, Outcome::Refused(_))) {
        0 => Ok(Verdict::Done),
        _ => Ok(Verdict::No),
    }
}
