//! The standard study: every problem with the strategies that are worth comparing on it.
//!
//! Limits are those of the Fulcrum paper: 50 profiles for training, 95 for an inference workload, 145
//! for both, 15 modes for one demand (fulcrum.md sections 1 and 4); baselines get as many, and the
//! paper's GMD the 25 modes that the draft allows it where requests are served.

use super::{Part, StudyProblem};
use crate::search::{Kind, Strategy};
use crate::space::Grid;
use StudyProblem::{Concurrent, Dynamic, Inference, Training, TwoInference};

type Row = (StudyProblem, Grid, &'static [(Kind, u32)]);

const PARTS: [Row; 6] = [
    (
        Training,
        Grid::Subset441,
        &[
            (Kind::Als, 50),
            (Kind::Als, 30),
            (Kind::Gmd, 15),
            (Kind::GmdPaper, 15),
            (Kind::Bs, 15),
            (Kind::Random, 50),
            (Kind::Nn, 50),
            (Kind::Maxn, 0),
        ],
    ),
    (
        Training,
        Grid::All,
        &[(Kind::Als, 50), (Kind::Als, 100), (Kind::Random, 100)],
    ),
    (
        Inference,
        Grid::Subset441,
        &[
            (Kind::Als, 95),
            (Kind::GmdPaper, 25),
            (Kind::Bs, 15),
            (Kind::Random, 95),
            (Kind::Nn, 95),
            (Kind::Maxn, 0),
        ],
    ),
    (
        Concurrent,
        Grid::Subset441,
        &[
            (Kind::Als, 145),
            (Kind::Gmd, 15),
            (Kind::GmdPaper, 25),
            (Kind::Bs, 15),
            (Kind::Random, 145),
            (Kind::Nn, 145),
            (Kind::Maxn, 0),
        ],
    ),
    (
        TwoInference,
        Grid::Subset441,
        &[(Kind::Als, 190), (Kind::Random, 190), (Kind::Maxn, 0)],
    ),
    (
        Dynamic,
        Grid::Subset441,
        &[(Kind::Als, 145), (Kind::Random, 145), (Kind::Maxn, 0)],
    ),
];

/// The parts of the standard study for some problems; with a grid, on that one only.
#[must_use]
pub fn standard(problems: &[StudyProblem], grid: Option<Grid>) -> Vec<Part> {
    let strategy = |&(kind, limit): &(Kind, u32)| Strategy {
        kind,
        limit: kind.has_limit().then_some(limit),
    };
    let part = |&(problem, grid, strategies): &Row| Part {
        problem,
        grid,
        strategies: strategies.iter().map(strategy).collect(),
    };
    PARTS
        .iter()
        .map(part)
        .filter(|part| problems.contains(&part.problem))
        .filter(|part| grid.is_none_or(|grid| part.grid == grid))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_its_strategies() {
        for problem in StudyProblem::ALL {
            let parts = standard(&[problem], Some(Grid::Subset441));
            assert_eq!(parts.len(), 1, "{}", problem.name());
            assert!(parts[0].strategies.len() >= 3);
        }
        let all = standard(&StudyProblem::ALL, None);
        assert_eq!(all.len(), PARTS.len());
        assert!(all[0].strategies.contains(&"als:50".parse().unwrap()));
        assert!(all[0].strategies.contains(&"maxn".parse().unwrap()));
    }
}
