//! What a device answers to a flash through ssh: one line of text.
//!
//! ```text
//! fulcrum-accept 1 switched b
//! fulcrum-accept 1 already a
//! fulcrum-accept 1 refused the checksum is wrong: damaged; copy it again
//! fulcrum-accept 1 failed /var/lib/fulcrum/plans: Permission denied (os error 13)
//! ```
//!
//! Lines before and after it, such as a login banner, do no harm.

use crate::store::Slot;
use std::fmt;
use std::string::{String, ToString};

/// How every answer begins; the number is the version.
const BEGINNING: &str = "fulcrum-accept 1 ";

/// What became of a plan that was sent to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is now in this slot, on trial.
    Switched(Slot),
    /// These very bytes were in use already; nothing was changed.
    Already(Slot),
    /// It is no good plan for this device; the plan before stays in use.
    Refused(String),
    /// The device could not store it; the plan before stays in use.
    Failed(String),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(BEGINNING)?;
        let one_line = |text: &str| text.replace(['\n', '\r'], " ");
        match self {
            Self::Switched(slot) => write!(f, "switched {slot}"),
            Self::Already(slot) => write!(f, "already {slot}"),
            Self::Refused(reason) => write!(f, "refused {}", one_line(reason)),
            Self::Failed(reason) => write!(f, "failed {}", one_line(reason)),
        }
    }
}

impl Answer {
    /// The answer in what a device printed; `None` if there is none.
    #[must_use]
    pub fn find(output: &str) -> Option<Self> {
        output.lines().find_map(Self::from_line)
    }

    fn from_line(line: &str) -> Option<Self> {
        let (word, rest) = line.trim_end().strip_prefix(BEGINNING)?.split_once(' ')?;
        let slot = || {
            [Slot::A, Slot::B]
                .into_iter()
                .find(|slot| slot.to_string() == rest)
        };
        match word {
            "switched" => slot().map(Self::Switched),
            "already" => slot().map(Self::Already),
            "refused" => Some(Self::Refused(rest.into())),
            "failed" => Some(Self::Failed(rest.into())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_found_between_other_lines() {
        for answer in [
            Answer::Switched(Slot::B),
            Answer::Already(Slot::A),
            Answer::Refused("the checksum is wrong".into()),
            Answer::Failed("disk full".into()),
        ] {
            let output = format!("Welcome to Ubuntu\r\n{answer}\r\nBye\n");
            assert_eq!(Answer::find(&output), Some(answer));
        }
    }

    #[test]
    fn what_is_no_answer_is_none() {
        for output in [
            "",
            "fulcrum-accept 2 switched b",
            "fulcrum-accept 1 switched c",
            "fulcrum-accept 1 switched",
            "fulcrum-accept 1 melted b",
            "sh: fulcrumd: not found",
        ] {
            assert_eq!(Answer::find(output), None, "{output}");
        }
    }

    #[test]
    fn a_reason_of_several_lines_stays_one_answer() {
        let answer = Answer::Refused("one\ntwo".into());
        assert_eq!(
            Answer::find(&answer.to_string()),
            Some(Answer::Refused("one two".into()))
        );
    }
}
