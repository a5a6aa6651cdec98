//! Where measurements come from, as `--profiles` names it.

use anyhow::{Context, bail};
use fulcrum_planner::boards;
use fulcrum_planner::profile::ProfileSource;
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
}

impl FromStr for SourceArgument {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text.split_once(':') {
            Some(("replay", folder)) if !folder.is_empty() => Ok(Self::Replay(folder.into())),
            Some(("synthetic", board)) if !board.is_empty() => Ok(Self::Synthetic(board.into())),
            _ => bail!("`{text}` is no source; allowed: replay:DIR, synthetic:BOARD"),
        }
    }
}

impl SourceArgument {
    /// Opens the source. `board` tells boards apart where a folder has several; a simulated board takes
    /// its noise from `seed`.
    ///
    /// # Errors
    /// A folder that is no replay, or an unknown board; a board that is not the source's.
    pub fn open(&self, board: Option<&str>, seed: u64) -> anyhow::Result<Box<dyn ProfileSource>> {
        match self {
            Self::Replay(folder) => {
                let replay = Replay::open(Path::new(folder), board).context("--profiles")?;
                Ok(Box::new(replay))
            }
            Self::Synthetic(name) => {
                if board.is_some_and(|board| board != name) {
                    bail!(
                        "--profiles synthetic:{name} is not a {}",
                        board.unwrap_or_default()
                    );
                }
                Ok(Box::new(Synthetic::new(
                    boards::named(name).context("--profiles")?,
                    seed,
                )))
            }
        }
    }
}
