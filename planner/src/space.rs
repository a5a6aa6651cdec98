//! Candidate modes: what a search may choose from.
//!
//! The modes of a source can be narrowed to the *441 grid* of the Fulcrum draft (fulcrum.md section 6),
//! here a rule for any board: cores at thirds; seven CPU clocks at the upper six sevenths of the table;
//! seven GPU clocks over the whole table; three memory clocks at thirds. On an AGX Orin this is
//! exactly the draft's grid.

use fulcrum_plan::units::Khz;
use fulcrum_plan::{Board, PowerMode};
use std::collections::BTreeSet;

/// Which modes of a source a search may choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grid {
    /// Every mode the source has.
    #[default]
    All,
    /// The 441-mode subset.
    Subset441,
}

impl std::str::FromStr for Grid {
    type Err = UnknownGrid;

    fn from_str(text: &str) -> Result<Self, UnknownGrid> {
        match text {
            "all" => Ok(Self::All),
            "441" => Ok(Self::Subset441),
            _ => Err(UnknownGrid(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Grid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Subset441 => "441",
        })
    }
}

/// A grid that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no grid is named `{0}`; known: 441, all")]
pub struct UnknownGrid(String);

impl Grid {
    /// The modes of this grid among `modes` (ascending), ascending.
    ///
    /// `board` gives the tables that the 441 rule divides. Where the source lacks one of the values
    /// that the rule asks for, or the board is unknown, the rule divides the source's own values of
    /// that dimension instead.
    #[must_use]
    pub fn candidates(self, modes: &[PowerMode], board: Option<&Board>) -> Vec<PowerMode> {
        match self {
            Self::All => modes.to_vec(),
            Self::Subset441 => subset_441(modes, board),
        }
    }
}

/// `count` indexes spread evenly over a table of `len`: from its first entry to its last or, with
/// `skips_first`, ending at the last and leaving out the first. All of them, if there are not more.
fn spread(len: usize, count: usize, skips_first: bool) -> Vec<usize> {
    if len <= count {
        return (0..len).collect();
    }
    let (parts, first) = if skips_first {
        (count, 1)
    } else {
        (count - 1, 0)
    };
    // Rounded to the nearest index.
    (first..=parts)
        .map(|part| (2 * part * (len - 1) + parts) / (2 * parts))
        .collect()
}

/// The values of one dimension: the rule over the board's table, else over the values present.
fn values(
    present: &BTreeSet<u32>,
    table: Option<Vec<u32>>,
    count: usize,
    skips_first: bool,
) -> Vec<u32> {
    let pick = |from: &[u32], skips_first| -> Vec<u32> {
        spread(from.len(), count, skips_first)
            .into_iter()
            .map(|at| from[at])
            .collect()
    };
    if let Some(table) = table {
        let wanted = pick(&table, skips_first);
        if wanted.iter().all(|value| present.contains(value)) {
            return wanted;
        }
    }
    let present: Vec<u32> = present.iter().copied().collect();
    pick(&present, false)
}

fn subset_441(modes: &[PowerMode], board: Option<&Board>) -> Vec<PowerMode> {
    let present = |of: fn(&PowerMode) -> u32| modes.iter().map(of).collect::<BTreeSet<u32>>();
    let table = |clocks: &[Khz]| clocks.iter().map(|khz| khz.0).collect::<Vec<u32>>();
    let cores = values(
        &present(|mode| u32::from(mode.cores)),
        // Thirds of the count, which is a spread over 0..=cores without the 0.
        board.map(|b| (0..=u32::from(b.cores)).collect()),
        3,
        true,
    );
    let cpu = values(
        &present(|mode| mode.cpu_khz.0),
        board.map(|b| table(&b.cpu_khz)),
        7,
        true,
    );
    let gpu = values(
        &present(|mode| mode.gpu_khz.0),
        board.and_then(|b| b.gpu_khz.first().map(|clocks| table(clocks))),
        7,
        false,
    );
    let emc = values(
        &present(|mode| mode.emc_khz.0),
        board.map(|b| table(&b.emc_khz)),
        3,
        true,
    );
    let chosen = |mode: &&PowerMode| {
        cores.contains(&u32::from(mode.cores))
            && cpu.contains(&mode.cpu_khz.0)
            && gpu.contains(&mode.gpu_khz.0)
            && emc.contains(&mode.emc_khz.0)
    };
    modes.iter().filter(chosen).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boards;
    use crate::profile::synthetic::every_mode;

    fn distinct(modes: &[PowerMode], of: fn(&PowerMode) -> u32) -> Vec<u32> {
        modes
            .iter()
            .map(of)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    #[test]
    fn on_an_agx_orin_the_rule_is_the_drafts_grid() {
        let board = boards::named("orin-agx").unwrap();
        let modes = Grid::Subset441.candidates(&every_mode(board), Some(board));
        assert_eq!(modes.len(), 441);
        assert_eq!(distinct(&modes, |m| u32::from(m.cores)), [4, 8, 12]);
        assert_eq!(
            distinct(&modes, |m| m.cpu_khz.0),
            [
                422_400, 729_600, 1_036_800, 1_344_000, 1_651_200, 1_958_400, 2_201_600
            ]
        );
        assert_eq!(
            distinct(&modes, |m| m.gpu_khz.0),
            [
                114_750, 318_750, 522_750, 726_750, 930_750, 1_134_750, 1_300_500
            ]
        );
        assert_eq!(
            distinct(&modes, |m| m.emc_khz.0),
            [665_600, 2_133_000, 3_199_000]
        );
    }

    #[test]
    fn a_grid_that_is_the_subset_already_stays_as_it_is() {
        let board = boards::named("orin-agx").unwrap();
        let modes = Grid::Subset441.candidates(&every_mode(board), Some(board));
        assert_eq!(Grid::Subset441.candidates(&modes, Some(board)), modes);
        assert_eq!(Grid::Subset441.candidates(&modes, None), modes);
        assert_eq!(Grid::All.candidates(&modes, None), modes);
    }

    #[test]
    fn a_board_without_the_rules_clocks_is_divided_by_its_own() {
        for board in boards::all() {
            let odd: Vec<PowerMode> = every_mode(board)
                .into_iter()
                .filter(|mode| mode.cores % 2 == 1 && mode.cpu_khz.0 != board.cpu_khz[4].0)
                .collect();
            let modes = Grid::Subset441.candidates(&odd, Some(board));
            assert!(
                (50..=441).contains(&modes.len()),
                "{}: {}",
                board.name,
                modes.len()
            );
        }
    }

    #[test]
    fn names_parse_and_print() {
        for name in ["441", "all"] {
            assert_eq!(name.parse::<Grid>().unwrap().to_string(), name);
        }
        assert!(
            "442"
                .parse::<Grid>()
                .unwrap_err()
                .to_string()
                .contains("441, all")
        );
    }
}
