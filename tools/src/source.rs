//! Where measurements come from, as `--profiles` names it.

use crate::plan_file;
use crate::progress;
use anyhow::{Context, bail};
use fulcrum_planner::profile::ProfileSource;
use fulcrum_planner::profile::exec::{Exec, Notice, OnNotice, Patience};
use fulcrum_planner::profile::replay::Replay;
use fulcrum_planner::profile::synthetic::Synthetic;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The argument of `--profiles`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceArgument {
    /// `replay:DIR`: measured grids.
    Replay(PathBuf),
    /// `synthetic:BOARD`: a simulated board with a known optimum, noise included.
    Synthetic(String),
    /// `exec:COMMAND`: a board, through a command that ends in `fulcrumd profile …`.
    Exec(String),
}

impl FromStr for SourceArgument {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.split_once(':') {
            Some(("replay", folder)) if !folder.is_empty() => Ok(Self::Replay(folder.into())),
            Some(("synthetic", board)) if !board.is_empty() => Ok(Self::Synthetic(board.into())),
            Some(("exec", command)) if !command.trim().is_empty() => Ok(Self::Exec(command.into())),
            _ => bail!("`{text}` is no source; allowed: replay:DIR, synthetic:BOARD, exec:COMMAND"),
        }
    }
}

impl SourceArgument {
    /// Opens the source. `board` tells boards apart where a folder has several; a simulated board takes
    /// its noise from `seed`.
    ///
    /// # Errors
    /// A folder that is no replay, or an unknown board; a board that is not the source's; a command that
    /// does not answer.
    pub fn open(&self, board: Option<&str>, seed: u64) -> anyhow::Result<Box<dyn ProfileSource>> {
        match self {
            Self::Replay(folder) => {
                let replay = Replay::open(Path::new(folder), board).context("--profiles")?;
                Ok(Box::new(replay))
            }
            Self::Synthetic(name) => {
                let simulated = plan_file::board(name).context("--profiles")?;
                if board.is_some_and(|board| board != simulated.name.as_str()) {
                    bail!(
                        "--profiles synthetic:{name}: simulates another board than --board {}; name the \
                         same",
                        board.unwrap_or_default()
                    );
                }
                Ok(Box::new(Synthetic::new(&simulated, seed)))
            }
            Self::Exec(command) => {
                let exec = Exec::open(command, board, Patience::default(), on_notice())
                    .context("--profiles exec")?;
                if !exec.hello().counts_over_current {
                    progress::say(
                        "this board does not count over-current events: profiles that it \
                         throttled on its own cannot be told",
                    );
                }
                Ok(Box::new(exec))
            }
        }
    }
}

/// Shows what a board does, on a line of its own.
fn on_notice() -> OnNotice {
    let line = progress::line();
    Box::new(move |notice| match notice {
        Notice::Progress(progress) => line.set_message(format!(
            "  {} ({} minibatches, {} s left of this profile)",
            progress.stage,
            progress.minibatches,
            progress.left_ms.div_ceil(1000)
        )),
        Notice::Over => line.set_message(""),
        Notice::Said(words) => progress::say(&format!("board: {words}")),
        Notice::Again {
            reason,
            attempt,
            of,
        } => progress::say(&format!(
            "the profile is asked for again ({attempt} of {of}): {reason}"
        )),
    })
}
