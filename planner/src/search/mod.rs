//! Searches: which profiles to pay for.
//!
//! Every search is one file with a function `run(bench, …)` that measures through a
//! [`Bench`] until it is done or the bench stops it.

pub mod als;
mod bisection;
pub mod bs;
mod design;
pub mod exhaustive;
mod gain;
pub mod gmd;
pub mod gmd_paper;
pub mod goal;
pub mod maxn;
pub mod nn;
mod propose;
pub mod random;

pub use goal::Goal;

use crate::bench::{Bench, Stop};
use std::str::FromStr;

/// What kind of search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Active learning for a whole plan.
    Als,
    /// Random modes.
    Random,
    /// The one mode with everything at its maximum.
    Maxn,
    /// Every mode.
    Exhaustive,
    /// Few modes for one demand, guided by a surrogate.
    Gmd,
    /// Few modes for one demand, as the Fulcrum draft does.
    GmdPaper,
    /// Few modes for one demand, knob by knob.
    Bs,
    /// A network on random modes; predicts, so that no plan can be made of it.
    Nn,
}

impl Kind {
    /// Every kind, in the order messages list them.
    pub const ALL: [Self; 8] = [
        Self::Als,
        Self::Gmd,
        Self::GmdPaper,
        Self::Bs,
        Self::Random,
        Self::Nn,
        Self::Maxn,
        Self::Exhaustive,
    ];

    /// Name at the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Als => "als",
            Self::Random => "rnd",
            Self::Maxn => "maxn",
            Self::Exhaustive => "exhaustive",
            Self::Gmd => "gmd",
            Self::GmdPaper => "gmd-paper",
            Self::Bs => "bs",
            Self::Nn => "nn",
        }
    }

    /// Whether the search needs to be told how many profiles it may pay.
    #[must_use]
    pub const fn has_limit(self) -> bool {
        !matches!(self, Self::Maxn | Self::Exhaustive)
    }

    /// Whether the search answers one demand only. Its limit counts modes, as in the paper; that of
    /// the others counts profiles.
    #[must_use]
    pub const fn is_for_one_demand(self) -> bool {
        matches!(self, Self::Gmd | Self::GmdPaper | Self::Bs)
    }
}

/// A search with its limit, such as `als:50`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strategy {
    /// Kind of search.
    pub kind: Kind,
    /// Profiles (or modes: [`Kind::is_for_one_demand`]) it may pay, if that was said.
    pub limit: Option<u32>,
}

/// Why a text names no strategy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StrategyError {
    /// An unknown name.
    #[error("no strategy is named `{name}`; known: {}", names())]
    Unknown {
        /// The name.
        name: String,
    },
    /// A limit that is no number, or zero.
    #[error("strategy `{text}`: the limit is `{limit}`; allowed: 1 to 1000000, as in als:50")]
    Limit {
        /// The whole text.
        text: String,
        /// What stands after the colon.
        limit: String,
    },
    /// A limit where there is none to set.
    #[error("strategy `{text}`: {name} takes no limit; write `{name}`")]
    NoLimit {
        /// The whole text.
        text: String,
        /// The strategy.
        name: &'static str,
    },
}

fn names() -> String {
    let name = |kind: Kind| match kind.has_limit() {
        true => format!("{}:N", kind.name()),
        false => kind.name().to_owned(),
    };
    Kind::ALL.map(name).join(", ")
}

impl FromStr for Strategy {
    type Err = StrategyError;

    fn from_str(text: &str) -> Result<Self, StrategyError> {
        let (name, limit) = match text.split_once(':') {
            Some((name, limit)) => (name, Some(limit)),
            None => (text, None),
        };
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| StrategyError::Unknown {
                name: name.to_owned(),
            })?;
        let Some(limit) = limit else {
            return Ok(Self { kind, limit: None });
        };
        if !kind.has_limit() {
            return Err(StrategyError::NoLimit {
                text: text.to_owned(),
                name: kind.name(),
            });
        }
        let number = limit.parse().ok().filter(|n| (1..=1_000_000).contains(n));
        let limit = number.ok_or_else(|| StrategyError::Limit {
            text: text.to_owned(),
            limit: limit.to_owned(),
        })?;
        Ok(Self {
            kind,
            limit: Some(limit),
        })
    }
}

impl std::fmt::Display for Strategy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.limit {
            Some(limit) => write!(f, "{}:{limit}", self.kind.name()),
            None => f.write_str(self.kind.name()),
        }
    }
}

/// Why a search cannot start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("strategy `{0}` answers one demand: give its power budget, and latency and rate to serve")]
pub struct NeedsGoal(pub &'static str);

/// Runs a search to its end or to the bench's limit. `limit` is the strategy's own, in its own unit;
/// `goal` is for searches that answer one demand, `memory` for many of them on one task.
///
/// # Errors
/// [`NeedsGoal`] without a goal; within, [`Stop`], as the bench gave it.
pub fn run(
    strategy: &Strategy,
    bench: &mut Bench<'_>,
    seed: u64,
    goal: Option<&Goal>,
    memory: &mut gmd::Memory,
) -> Result<Result<(), Stop>, NeedsGoal> {
    let goal = || goal.ok_or(NeedsGoal(strategy.kind.name()));
    let modes_max = strategy.limit.map_or(usize::MAX, |limit| limit as usize);
    Ok(match strategy.kind {
        Kind::Als => als::run(bench),
        Kind::Random | Kind::Nn => random::run(bench, seed),
        Kind::Maxn => maxn::run(bench),
        Kind::Exhaustive => exhaustive::run(bench),
        Kind::Gmd => gmd::run(bench, goal()?, modes_max, memory),
        Kind::GmdPaper => gmd_paper::run(bench, goal()?, modes_max),
        Kind::Bs => bs::run(bench, goal()?, modes_max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_parse_and_print() {
        for text in [
            "als:50",
            "rnd:9",
            "maxn",
            "exhaustive",
            "als",
            "gmd-paper:15",
        ] {
            assert_eq!(text.parse::<Strategy>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_strategies_say_what_is_allowed() {
        for (text, expected) in [
            ("gdm:15", "als:N"),
            ("als:0", "1 to 1000000"),
            ("als:x", "`x`"),
            ("maxn:3", "takes no limit"),
        ] {
            let message = text.parse::<Strategy>().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
    }
}
